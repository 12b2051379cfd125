"""The same update, faster: compiled steps, CUDA graphs, parallel micro-batches. Everything here is optional."""
