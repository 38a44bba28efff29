"""From the trace of a run to numbers."""
