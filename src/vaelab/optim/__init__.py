"""Batches and the update: gradients, AdamW, the moving average of the weights, schedules."""
