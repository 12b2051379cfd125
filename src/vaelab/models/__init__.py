"""Distributions, networks and the models that are built from them."""
