"""Fast timing: the run of a transcript timed without an event queue, thousands of configurations a second."""
