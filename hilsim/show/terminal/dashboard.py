"""The live dashboard: an observer that redraws the terminal as a run unfolds, within a fixed share of its wall time.

Frames are drawn from the observer's callbacks, never from a thread, on the terminal's alternate screen: each frame
starts at the top and queries the size anew, so a resized window mends itself, and the report finds a clean screen.
What is drawn where is decided in `layout`.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from hilsim.cost.memory import Ledger
from hilsim.describe.setup import Setup
from hilsim.show.stretches import TextOf
from hilsim.show.terminal.cockpit import CockpitLayout
from hilsim.show.terminal.layout import Layout
from hilsim.show.terminal.tally import Tally
from hilsim.sim.trace import RequestRecord, Round, Sample, Span, TurnRecord

FRAMES_PER_SECOND = 8
SHARE = 0.05


def suits(console: Console) -> bool:
    """Whether a console can show the dashboard: a terminal with a movable cursor and block characters."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


class Dashboard:
    """An observer that draws what it sees. Use it as a context manager around the runs; else it only counts.

    `text_of` turns tokens into text (`source.text`), so that drafted text can be coloured apart from the target's own.
    """

    def __init__(
        self,
        setup: Setup,
        ledgers: Mapping[str, Ledger],
        console: Console,
        text_of: TextOf,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.console, self.clock = console, clock
        self.tally = Tally(setup, text_of)
        layout = CockpitLayout if setup.scenario.company else Layout
        self.layout = layout(setup, ledgers, self.tally, console)
        self.frames = 0
        self.drawing_s = 0.0
        self._began: float | None = None
        self._next = float("inf")
        self._unseen: list[Span] = []
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=lambda: self,
        )

    def __enter__(self) -> Dashboard:
        self._live.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._next = float("inf")
        self._live.stop()

    @property
    def drawing_share(self) -> float:
        """Wall time spent on drawing over wall time since the first run began."""
        if self._began is None:
            return 0.0
        return self.drawing_s / max(1e-9, self.clock() - self._began)

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        self._absorb()
        self.tally.started(policy, tracks, requests)
        if self._began is None:
            # The first frame, which imports and warms up what the others use, is not charged to the run.
            self._began, self.frames, self.drawing_s = self.clock(), 0, 0.0
        self._tick()

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        self.tally.asked(request, conversation, user, at_ns)
        self._tick()

    def span(self, span: Span) -> None:
        self._unseen.append(span)
        self._tick()

    def round(self, round: Round, text: str) -> None:
        self.tally.round(round, text)
        self._tick()

    def request(self, record: RequestRecord) -> None:
        self.tally.request(record)
        self._tick()

    def sample(self, sample: Sample) -> None:
        self.tally.company.sample(sample)

    def turn(self, turn: TurnRecord) -> None:
        self.tally.turn(turn)
        self._tick()

    def _tick(self) -> None:
        """Draw if the clock allows it: at most so many frames a second, at most so large a share of the time."""
        if self.clock() >= self._next:
            self._draw()

    def _draw(self) -> None:
        begin = self.clock()
        self._absorb()
        self._live.refresh()
        end = self.clock()
        self.frames += 1
        self.drawing_s += end - begin
        self._next = begin + 1 / FRAMES_PER_SECOND
        if self._began is not None:
            self._next = max(self._next, self._began + self.drawing_s / SHARE)

    def _absorb(self) -> None:
        self.tally.absorb(self._unseen)
        self._unseen.clear()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        for line in self.layout.frame(width, height):
            yield from line.render(console)
            yield Segment.line()


def snapshot(dashboard: Dashboard, path: Path, *, width: int = 120, height: int = 34) -> None:
    """The dashboard as it stands, as an SVG picture that needs nothing from the network."""
    dashboard._absorb()
    console = Console(
        record=True,
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
    )
    layout = dashboard.layout.on(console)
    for line in layout.frame(width, height):
        console.print(line, no_wrap=True, overflow="crop", end="\n", highlight=False)
    scenario = layout.setup.scenario.name
    picture = console.export_svg(title=f"python simulate.py {scenario}", unique_id="hilsim")
    path.write_text(re.sub(r"@font-face\s*\{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")
