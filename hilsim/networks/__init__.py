"""PyTorch networks: decoders, checkpoints, quantised weights, heads."""
