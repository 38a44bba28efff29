"""Recordings of what boards answered: writing, reading, answering from them."""
