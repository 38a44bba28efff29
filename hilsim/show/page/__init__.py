"""A run as one self-contained web page, to be mailed."""
