"""Logs of the tools that measure models, read into the columns of a CSV of measured figures: one file a format."""
