"""What watches a run: the live dashboard on a terminal, plain lines elsewhere, nothing where a document is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.setup import Setup
from hilsim.show.terminal.dashboard import Dashboard, suits
from hilsim.show.terminal.plain import PlainLines
from hilsim.show.terminal.several import ObserverGroup
from hilsim.sim.trace import Observer


@contextmanager
def views(
    setup: Setup,
    verdict: PlacementVerdict,
    text_of: Callable[[Sequence[int]], str],
    *,
    quiet: bool,
    plain: bool,
    picture: bool,
) -> Iterator[tuple[Observer | None, Dashboard | None]]:
    """The observer of a run. With `picture` a dashboard takes part in any case, shown or not; `quiet` shows nothing."""
    if quiet and not picture:
        yield None, None
        return
    console = Console()
    dashboard = Dashboard(setup, verdict.ledgers, console, text_of)
    if quiet:
        yield dashboard, dashboard
    elif not plain and suits(console):
        with dashboard:
            yield dashboard, dashboard
    else:
        with PlainLines() as lines:
            yield (ObserverGroup([lines, dashboard]), dashboard) if picture else (lines, None)
