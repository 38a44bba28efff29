"""The checks that an agent of any make must pass."""
