"""Evaluation of a trained model on held-out images: one module per section of the report, and the report itself."""
