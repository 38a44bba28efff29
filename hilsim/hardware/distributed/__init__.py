"""Distributed runs: two agents and a link between them, timed by the wall clock."""
