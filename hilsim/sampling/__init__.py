"""The rules of speculative sampling on rows of logits: distributions, payloads, accept rules. NumPy alone."""
