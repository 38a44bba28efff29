"""What it costs: bytes and operations of a step, its time on a unit, the bytes of a message, the memory of a placement.

Arithmetic that can be done on paper; no SimPy, no torch.
"""
