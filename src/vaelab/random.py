"""Seeded generators and counter-based random bits."""
