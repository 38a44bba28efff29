"""What takes long says what it is at: one line on standard error, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


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


def counting(what: str, work: Iterable[T], of: int) -> Iterator[T]:
    """The items of `work` as they come, with a bar and the time that is left."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(work, what, total=of, console=console, transient=True, disable=not console.is_terminal)
