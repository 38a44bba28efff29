"""Measures of a run, computed from its trace."""
