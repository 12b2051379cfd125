"""Using a trained model: generation, latents, exploration, ONNX export."""
