"""Faults of the simulated car: what is injected, what it does to units and links, and how the runtime reacts."""
