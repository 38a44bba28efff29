"""When it happens, without an event queue: what a transcript says, timed for thousands of configurations a second."""
