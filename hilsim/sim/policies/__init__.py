"""Policies: who works when. Each is a generator function on one screen, entered in `registry`."""
