"""scikit-learn estimators: `Autoencoder`, `VAE`, `ConditionalVAE`."""
