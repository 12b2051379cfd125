"""Figures: image grids, training curves, latent maps and animations."""
