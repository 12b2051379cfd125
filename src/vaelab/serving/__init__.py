"""Serve a model over HTTP with onnxruntime, and what every server of vaelab shares. Does not import torch."""
