"""Patterns that compile and are slow: recognised by data flow, with what to write instead."""
