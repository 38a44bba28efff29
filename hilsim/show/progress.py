"""What takes long says what it is at: one line on standard error, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def saying(doing: str) -> Iterator[Callable[[str], None]]:
    """A function that shows `doing` and the words given to it, until the work is over."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(doing) as status:
        yield lambda words: status.update(f"{doing} {words}")
