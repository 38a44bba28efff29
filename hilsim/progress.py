"""Progress of long work on standard error: status lines, bars and counts; nothing where `shown(False)` is in force."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from time import monotonic
from typing import TypeVar

T = TypeVar("T")
Notify = Callable[[str], None]  # gets what a long work is at, as text
SELDOM_S = 30  # between two lines where there is no terminal
PACE_S = 10  # after the first part has ended, before a pace says anything: the first of many workers end together
SHOWN = ContextVar("SHOWN", default=True)


@contextmanager
def shown(progress: bool) -> Iterator[None]:
    """Whether the work in this block shows its progress."""
    before = SHOWN.set(progress)
    try:
        yield
    finally:
        SHOWN.reset(before)


def silent(text: str) -> None:
    """Shows nothing."""


@contextmanager
def status_line(doing: str, *, at_once: bool = True) -> Iterator[Notify]:
    """A function that shows `doing` and the text given to it on a status line, until the work is over.

    Without `at_once` nothing is shown before its first call, as of work that is mostly found done.
    """
    with ExitStack() as until_over:
        update = status_of(doing, until_over) if at_once else None

        def notify(text: str) -> None:
            nonlocal update
            if update is None:
                update = status_of(doing, until_over)
            update(f"{doing} {text}")

        yield notify


def status_of(doing: str, until: ExitStack) -> Notify:
    """Show `doing` on the terminal until a stack is left; returns what changes the text, nothing where none is seen."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or not SHOWN.get():
        return silent
    return until.enter_context(console.status(doing)).update


def counting(what: str, work: Iterable[T], of: int) -> Iterator[T]:
    """The items of `work` as they come, with their progress."""
    with progressing(of, what) as count:
        for item in work:
            yield item
            count.ended("done")


class Count:
    """How far a long work has got, and how many of its parts were refused or failed; `shown` is called whenever."""

    def __init__(self, total: int, shown: Callable[[Count], None]):
        self.total, self.shown = total, shown
        self.done = self.refused = self.failed = 0

    def ended(self, state: str, steps: int = 1) -> None:
        """One part has ended."""
        self.done += steps
        self.refused += state == "refused"
        self.failed += state == "failed"
        self.shown(self)

    def reached(self, done: int, total: int | None = None) -> None:
        """So many steps are done by now, of `total` where that was not known before."""
        self.done = done
        self.total = self.total if total is None else total
        self.shown(self)

    @property
    def remarks(self) -> str:
        """What did not go well."""
        counts = {"refused": self.refused, "failed": self.failed}
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count)


@contextmanager
def progressing(total: int, what: str) -> Iterator[Count]:
    """A bar on the terminal, with the time that is left; elsewhere a line now and then on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not SHOWN.get():
        yield Count(total, lambda _: None)
        return
    if not console.is_terminal:
        yield Count(total, lines(what, console.print))
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[remarks]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, remarks="")
        yield Count(
            total, lambda count: bar.update(task, completed=count.done, total=count.total, remarks=count.remarks)
        )


def lines(what: str, notify: Notify) -> Callable[[Count], None]:
    """Notifies every so often, with the time that is left at the pace since the first part has ended.

    That one also starts processes, compiles loops and reads files, so it says little of the others.
    """
    last = monotonic()
    first: tuple[float, int] | None = None  # when the first part had ended, and what was done by then

    def shown(count: Count) -> None:
        nonlocal last, first
        now = monotonic()
        if first is None and count.done:
            first = now, count.done
        if now - last < SELDOM_S or first is None:
            return
        last = now
        took, done = now - first[0], count.done - first[1]
        left = f", about {took * (count.total - count.done) / done:.0f} s left" if took >= PACE_S and done else ""
        remarks = f", {count.remarks}" if count.remarks else ""
        notify(f"{count.done} of {count.total} {what}{remarks}{left}")

    return shown


def announce(what: str) -> None:
    """Show on standard error what takes long from here on; worker processes show nothing."""
    from multiprocessing import parent_process  # most commands announce nothing

    if parent_process() is None:
        print(what, file=sys.stderr, flush=True)


@cache
def announce_once(what: str) -> None:
    """The same for what holds from here on: a process shows it once."""
    announce(what)
