"""Policies: which chip works when. Each is a generator function, entered in `registry`."""
