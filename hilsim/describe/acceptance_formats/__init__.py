"""Acceptance as tools write it: profiles of checkpoints, lists of rounds, counters and logs of runtimes."""
