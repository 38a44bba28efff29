"""A trip over its minutes: temperature, clock, memory rate, and the first audio of every turn against its limit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilsim.describe.cockpit import UNHEARD
from hilsim.describe.setup import Setup
from hilsim.measure.trip import Course, courses
from hilsim.measure.turns import by_passenger, times_of
from hilsim.show.kinds import BAD, DRAFT, GOOD, READING, SPEECH, TARGET
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.timeline import GREY, TEXT
from hilsim.sim.trace import Trace
from hilsim.units import NS_PER_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, PANEL_IN = 12.0, 2.1
PARTS = 400  # of the trip, over each of which a memory rate is averaged
COLOURS = (TARGET, DRAFT, GOOD, READING, "#be185d", SPEECH, "#2c6ea3", "#8a8a8a")


def draw(path: Path, trace: Trace, setup: Setup) -> None:
    """Write the picture as PNG. Raises ImportError where matplotlib is not installed."""
    trip_chart(trace, setup).savefig(path, format="png", dpi=100)


def trip_chart(trace: Trace, setup: Setup) -> Figure:
    """The picture as a matplotlib figure. Raises ImportError where matplotlib is not installed."""
    wanted = [
        (temperature, courses(trace.samples, "temperature")),
        (clock, courses(trace.samples, "clock")),
        (memory_rate, courses(trace.samples, "memory rate")),
        (latency, trace.turns),
    ]
    panels = [one for one, found in wanted if found] or [latency]
    figure = canvas(WIDTH_IN, PANEL_IN * len(panels) + 0.6)
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        plain(axes, "both")
        panel(axes, trace, setup)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8.5)
    grid[0].set_title(heading(trace, setup), loc="left", fontsize=12, fontweight="bold", color=TEXT)
    grid[-1].set_xlabel("minutes", fontsize=9.5, color=GREY)
    grid[-1].set_xlim(0, max(minutes(trace.end_ns), 1e-3))
    return figure


def heading(trace: Trace, setup: Setup) -> str:
    """What the picture shows, in a line."""
    return f"{setup.scenario.name}: {len(trace.turns)} turns in {minutes(trace.end_ns):.3g} minutes"


def minutes(instant_ns: float) -> float:
    """An instant in minutes since the start."""
    return instant_ns / NS_PER_S / 60


def held(axes: Axes, course: Course, end_ns: int, label: str, colour: str) -> None:
    """A value that holds until the next, as steps to the end of the trip."""
    at = [minutes(instant) for instant in (*course.starts_ns, end_ns)]
    axes.plot(at, [*course.values, course.values[-1]], drawstyle="steps-post", color=colour, lw=1.4, label=label)


def temperature(axes: Axes, trace: Trace, setup: Setup) -> None:
    """Every node of every chip, and dotted where the governor steps in."""
    place = 0
    found = courses(trace.samples, "temperature")
    for chip, nodes in ((chip, found[chip]) for chip in setup.chips if chip in found):
        first = COLOURS[place % len(COLOURS)]
        for node, course in nodes.items():
            held(axes, course, trace.end_ns, f"{chip} {node}", COLOURS[place % len(COLOURS)])
            place += 1
        thermal = setup.chips[chip].thermal
        hottest = max(value for course in nodes.values() for value in course.values)
        near = [] if thermal is None else [one for one in thermal.governor.steps if one.above.si <= hottest + 5]
        for step in near:
            label = f"{chip} steps down" if step is near[0] else None
            axes.axhline(step.above.si, color=first, lw=0.9, ls=":", label=label)
    axes.set_ylabel("°C", fontsize=9.5, color=GREY)


def clock(axes: Axes, trace: Trace, setup: Setup) -> None:
    """The share of the full clock of every unit; of units that go together one line."""
    place, drawn = 0, set()
    found = courses(trace.samples, "clock")
    for chip, units in ((chip, found[chip]) for chip in setup.chips if chip in found):
        for unit, course in units.items():
            if (chip, course) not in drawn:
                together = ", ".join(name for name, other in units.items() if other == course)
                held(axes, course, trace.end_ns, f"{chip} {together or unit}", COLOURS[place % len(COLOURS)])
                drawn.add((chip, course))
                place += 1
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("share of full clock", fontsize=9.5, color=GREY)


def memory_rate(axes: Axes, trace: Trace, setup: Setup) -> None:
    """The mean rate through each chip's memory."""
    edges = np.linspace(0, max(1, trace.end_ns), PARTS + 1).astype(np.int64)
    found = courses(trace.samples, "memory rate")
    for place, chip in enumerate(chip for chip in setup.chips if chip in found):
        by_name = found[chip]
        means = by_name[""].means(edges) / 1e9
        axes.plot(
            edges / NS_PER_S / 60, [*means, means[-1]], drawstyle="steps-post", color=COLOURS[place], lw=1.0, label=chip
        )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("memory, GB/s", fontsize=9.5, color=GREY)


def latency(axes: Axes, trace: Trace, setup: Setup) -> None:
    """The first audio of every turn, by passenger, those without any at the top."""
    speech = setup.scenario.speech
    limit = None if speech is None else speech.budget.first_audio_ms
    most = 0.0
    for place, (name, turns) in enumerate(by_passenger(trace.turns).items()):
        heard = [(turn, times_of(turn)["first_audio"] / NS_PER_S) for turn in turns if turn.first_audio_ns >= 0]
        most = max([most, *(wait for _, wait in heard)])
        at = [minutes(turn.spoken_ns) for turn, _ in heard]
        axes.plot(at, [wait for _, wait in heard], "o", ms=4, color=COLOURS[place % len(COLOURS)], label=name)
    lost = [minutes(turn.spoke_ns) for turn in trace.turns if turn.outcome in UNHEARD]
    if lost:
        axes.plot(lost, [1.1 * most or 1.0] * len(lost), "x", ms=6, color=BAD, label="refused or given up")
    if limit is not None:
        axes.axhline(limit / 1000, color=BAD, lw=1.1, ls="--", label="limit")
    axes.set_ylim(0, 1.2 * max(most, (limit or 0) / 1000) or 1.2)
    axes.set_ylabel("first audio, s", fontsize=9.5, color=GREY)
