"""The command line: one file a command, with its arguments, its function and its exit status."""
