"""Policies: who works when. Each is a generator function on one screen; a new one is a function and a line in `registry`."""
