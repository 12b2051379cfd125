"""Arrays to pictures: sheets, curves, maps and animations."""
