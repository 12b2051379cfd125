"""Models. Reading order: distributions, networks, base, vae; then spatial and hierarchical; then custom and factory."""
