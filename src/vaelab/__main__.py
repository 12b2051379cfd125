"""`python -m vaelab` is the command line too."""

from vaelab.cli import main

main()
