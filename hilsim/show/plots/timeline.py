"""One request drawn twice on one time axis: the target alone above, speculation below, one of its rounds enlarged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from hilsim.describe.setup import Setup
from hilsim.show.kinds import BAD, GOOD, INK, KINDS, OTHER, kind_of, lane_order, role_of
from hilsim.show.numbers import clean, counted, described, duration_of_ns, shortened
from hilsim.sim.trace import RequestRecord, Round, Span, Trace
from hilsim.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN, LOW_IN, DPI = 16.0, 7.0, 2.7, 100
PLOT_PIXELS = 1350
GREY, PALE, TEXT = "#6b7280", "#f1f3f6", "#1f2933"


@dataclass(frozen=True)
class Strip:
    """One request of one run, on the clock that starts with the question."""

    trace: Trace
    record: RequestRecord
    rounds: list[Round]
    spans: list[Span]

    def others(self, track: str) -> list[Span]:
        """What else held a track between the question and the end of its answer."""
        begin, end = self.record.arrived_ns, self.record.arrived_ns + self.length_ns
        return [
            span
            for span in self.trace.spans
            if span.track == track and span.start_ns < end and span.end_ns > begin
            if all(one.request != self.record.number for one in span.each)
        ]

    @property
    def length_ns(self) -> int:
        return max([self.record.finished_ns, *(span.done_ns for span in self.spans)]) - self.record.arrived_ns

    def at(self, instant_ns: int) -> float:
        """An instant in seconds after the question."""
        return (instant_ns - self.record.arrived_ns) / NS_PER_S

    @property
    def clause_ns(self) -> int:
        """When the first clause had been delivered."""
        left = self.record.clause_tokens
        for closed in self.rounds:
            left -= closed.emitted
            if left <= 0:
                return closed.delivered_ns
        return self.record.finished_ns


def draw(path: Path, baseline: Trace, speculative: Trace | None, setup: Setup) -> None:
    """Write the picture as PNG. Raises ImportError where matplotlib is not installed."""
    figure = timeline(baseline, speculative, setup)
    # A character that the font lacks is no reason to complain on the terminal.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(path, format="png")


def timeline(baseline: Trace, speculative: Trace | None, setup: Setup) -> Figure:
    """The picture as a matplotlib figure. Raises ImportError where matplotlib is not installed."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = HEIGHT_IN if speculative is not None else LOW_IN
    figure = Figure(figsize=(WIDTH_IN, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    number = typical_request(baseline, speculative)
    with rc_context({"text.parse_math": False}):  # what people say is no formula
        if number is None:
            figure.text(0.5, 0.5, "no request was answered", ha="center", color=GREY, fontsize=14)
        else:
            compose(figure, setup, [strip(trace, number) for trace in (baseline, speculative) if trace is not None])
    return figure


def typical_request(baseline: Trace, speculative: Trace | None) -> int | None:
    """The request whose answer is of middling length, among those that both runs finished."""
    done = {record.number for record in (speculative or baseline).requests if record.output_tokens}
    both = [record for record in baseline.requests if record.number in done and record.output_tokens]
    if not both:
        return None
    middle = median(record.output_tokens for record in both)
    return min(both, key=lambda record: (abs(record.output_tokens - middle), record.number)).number


def strip(trace: Trace, number: int) -> Strip:
    """What one run did for one request."""
    return Strip(
        trace,
        next(record for record in trace.requests if record.number == number),
        [closed for closed in trace.rounds if closed.request == number],
        [mine for span in trace.spans for mine in span.each if mine.request == number],
    )


def compose(figure: Figure, setup: Setup, strips: Sequence[Strip]) -> None:
    """Title, the runs on one axis, one round enlarged, legend."""
    alone, latest = strips[0], max(strip.length_ns for strip in strips) / NS_PER_S
    lanes = [lane_order(setup, strip.trace.tracks) for strip in strips]
    heights = [1.0 + len(tracks) for tracks in lanes] + ([1.0 + len(lanes[1])] if len(strips) > 1 else [])
    high = figure.get_figheight()
    grid = figure.add_gridspec(
        len(heights),
        1,
        height_ratios=heights,
        left=0.135,
        right=0.985,
        top=1 - 1.02 / high,
        bottom=0.88 / high,
        hspace=0.5,
    )
    figure.text(0.012, 1 - 0.32 / high, heading(setup, strips), fontsize=15, fontweight="bold", color=TEXT)
    question = shortened(clean(alone.record.user), 110)
    quoted = f"“{question}”" if question else f"a question of {alone.record.prompt_tokens} tokens"
    about = f"{quoted}   ({alone.record.output_tokens} tokens answered, request {alone.record.number})"
    figure.text(0.012, 1 - 0.58 / high, about, fontsize=10.5, color=GREY)
    axes = []
    for place, (strip, tracks) in enumerate(zip(strips, lanes, strict=True)):
        axis = figure.add_subplot(grid[place])
        lay_out(axis, setup, tracks, strip, (-0.004 * latest, latest * 1.06))
        milestones(axis, strip, latest)
        axes.append(axis)
    axes[0].set_title("target alone", loc="left", fontsize=11, fontweight="bold", color=TEXT, pad=16)
    if len(strips) > 1:
        label = described(setup.scenario.policy.model_dump(), "name")
        axes[1].set_title(f"with speculation: {label}", loc="left", fontsize=11, fontweight="bold", color=TEXT, pad=16)
        sooner(axes[1], strips)
        enlarge(figure.add_subplot(grid[2]), axes[1], setup, lanes[1], strips[1])
    axes[len(strips) - 1].set_xlabel("seconds after the question", fontsize=9.5, color=GREY, labelpad=2, loc="right")
    drawn = [(strip, set(tracks)) for strip, tracks in zip(strips, lanes, strict=True)]
    others = any(strip.others(track) for strip, tracks in drawn for track in tracks)
    seen = {
        span.kind
        for strip, tracks in drawn
        for span in strip.spans
        if span.track in tracks and span.end_ns > strip.record.arrived_ns
    }
    legend(figure, seen, others)


def heading(setup: Setup, strips: Sequence[Strip]) -> str:
    """What the picture shows, in a line."""
    alone = strips[0].record
    spent = alone.finished_ns - alone.arrived_ns
    if len(strips) == 1:
        return f"{setup.scenario.name}: answered in {duration_of_ns(spent)}"
    ours = strips[1].record.finished_ns - strips[1].record.arrived_ns
    faster = f"{spent / ours:.2f} times as fast" if ours else "at once"
    return f"{setup.scenario.name}: {duration_of_ns(ours)} instead of {duration_of_ns(spent)}, {faster}"


def lay_out(axis: Axes, setup: Setup, tracks: Sequence[str], strip: Strip, limits: tuple[float, float]) -> None:
    """A lane per track with its spans, coloured by kind."""
    pixel = (limits[1] - limits[0]) / PLOT_PIXELS
    for row, track in enumerate(tracks):
        axis.axhspan(row - 0.4, row + 0.4, color=PALE, lw=0, zorder=0)
        others = [(strip.at(span.start_ns), (span.end_ns - span.start_ns) / NS_PER_S) for span in strip.others(track)]
        if others:
            axis.broken_barh(others, (row - 0.4, 0.8), color=OTHER.colour, lw=0, zorder=1.5)
        for kind in dict.fromkeys(span.kind for span in strip.spans if span.track == track):
            spans = [span for span in strip.spans if span.track == track and span.kind == kind]
            starts = [strip.at(span.start_ns) for span in spans]
            # What is thinner than two pixels would not be seen; a message on a fast link is.
            widths = [max(2 * pixel, (span.end_ns - span.start_ns) / NS_PER_S) for span in spans]
            edge = 0.8 if min(widths) > 6 * pixel else 0.0
            axis.barh(
                [row] * len(spans),
                widths,
                0.8,
                starts,
                color=kind_of(kind).colour,
                edgecolor="white",
                lw=edge,
                zorder=2,
            )
    axis.set_ylim(len(tracks) - 0.5, -0.5)
    axis.set_xlim(*limits)
    names = [f"{role_of(setup, track)}  {track.removesuffix('.up').removesuffix('.down')}" for track in tracks]
    axis.set_yticks(range(len(tracks)), names, fontsize=9.5, color=TEXT)
    axis.tick_params(axis="y", length=0, pad=6)
    axis.tick_params(axis="x", labelsize=9, colors=GREY, length=3)
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#c5cbd3")


def milestones(axis: Axes, strip: Strip, latest: float) -> None:
    """First token, first clause and end, and how many tokens each step of the target brought."""
    instants = [
        ("first token", strip.rounds[0].delivered_ns if strip.rounds else strip.record.finished_ns, GREY),
        ("first clause", strip.clause_ns, "#be185d"),
        ("finished", strip.record.finished_ns, GOOD),
    ]
    edge, taken, gap = axis.get_xlim()[1], -latest, 0.006 * latest
    top = axis.get_xaxis_transform()
    for place, (name, instant, colour) in enumerate(instants):
        at = strip.at(instant)
        axis.plot([at, at], [0, 1.02], color=colour, lw=1.4, zorder=4, clip_on=False, transform=top)
        axis.plot([at], [1.02], marker="v", ms=6, color=colour, zorder=5, clip_on=False, transform=top)
        # A label stands right of its mark where it fits before the next one, else left, else right and pushed on; where
        # that would leave the picture, a line higher at its edge.
        label = f"{name} {duration_of_ns(instant - strip.record.arrived_ns)}"
        length = 0.0051 * len(label) * latest
        following = strip.at(instants[place + 1][1]) if place + 1 < len(instants) else edge
        before = max(taken, strip.at(instants[place - 1][1]) if place else -latest)
        fits_right, fits_left = at >= taken and at + gap + length <= following, at - gap - length >= before
        left = at - gap - length if fits_left and not fits_right else max(at, taken) + gap
        above = left + length > edge * 1.02
        where, lift, side = (edge, 14, "right") if above else (left, 1, "left")
        axis.annotate(
            label, (where, 1.02), (0, lift), top, "offset points", ha=side, fontsize=9, color=colour,
            annotation_clip=False,
        )  # fmt: skip
        taken = max(at, taken if above else left + length)
    target = [row for row, text in enumerate(axis.get_yticklabels()) if text.get_text().startswith(("target", "both"))]
    steps = {span.round: span for span in strip.spans if span.kind in ("verify", "prefill", "decode")}
    for closed in strip.rounds if target else []:
        span = steps.get(closed.number)
        if span is None or (span.end_ns - span.start_ns) / NS_PER_S < 0.016 * latest:
            continue
        middle = (strip.at(span.start_ns) + strip.at(span.end_ns)) / 2
        axis.text(middle, target[0], f"+{closed.emitted}", fontsize=9, color=INK, ha="center", va="center", zorder=6)


def sooner(axis: Axes, strips: Sequence[Strip]) -> None:
    """How much earlier, or later, the answer is over than without speculation."""
    ours, alone = (strip.at(strip.record.finished_ns) for strip in reversed(strips))
    gap = round((alone - ours) * NS_PER_S)
    if abs(alone - ours) < 0.12 * max(ours, alone):
        return
    middle = sum(axis.get_ylim()) / 2
    arrow = {"arrowstyle": "<->", "color": GOOD if gap > 0 else BAD, "lw": 1.4}
    axis.annotate("", (ours, middle), (alone, middle), arrowprops=arrow)
    label = f"{duration_of_ns(abs(gap))} {'sooner' if gap > 0 else 'later'}"
    axis.text(
        (ours + alone) / 2, middle - 0.35, label, ha="center", fontsize=11, fontweight="bold", color=arrow["color"]
    )


def enlarge(axis: Axes, above: Axes, setup: Setup, tracks: Sequence[str], strip: Strip) -> None:
    """The first round that drafted the most, with its durations written in, and where it lies in the axis above."""
    from matplotlib.patches import ConnectionPatch

    drafted = [closed for closed in strip.rounds if closed.drafted]
    if not drafted:
        axis.set_visible(False)
        return
    closed = max(drafted, key=lambda closed: closed.drafted)
    begin, end = strip.at(closed.start_ns), strip.at(closed.end_ns)
    margin = 0.02 * (end - begin)
    lay_out(axis, setup, tracks, strip, (begin - margin, end + 8 * margin))
    above.axvspan(begin, end, color="#e69f00", alpha=0.13, lw=0, zorder=1)
    for at in (begin, end):
        line = ConnectionPatch((at, above.get_ylim()[0]), (at, -0.5), "data", "data", axesA=above, axesB=axis)
        line.set(color="#e6b85c", lw=0.9, ls=(0, (4, 3)), zorder=-1)
        axis.figure.add_artist(line)
    for kind in ("draft", "drafts", "verify", "verdict"):
        spans = [span for span in strip.spans if span.round == closed.number and span.kind == kind]
        if not spans:
            continue
        row, first, last = tracks.index(spans[0].track), strip.at(spans[0].start_ns), strip.at(spans[-1].end_ns)
        label = annotation(kind, spans, closed)
        inside = last - first > 0.012 * len(label) * (end - begin)
        late = last > begin + 0.75 * (end - begin)
        axis.text(
            (first + last) / 2 if inside else first - margin / 2 if late else last + margin / 2,
            row,
            label,
            fontsize=9.5,
            color=INK if inside else TEXT,
            bbox={"facecolor": kind_of(kind).colour if inside else "none", "edgecolor": "none", "pad": 1.5},
            ha="center" if inside else "right" if late else "left",
            va="center",
            zorder=6,
        )
    axis.set_title(
        f"round {closed.number} enlarged: {closed.drafted} drafted, {closed.accepted} accepted, "
        f"{closed.emitted} emitted in {duration_of_ns(closed.end_ns - closed.start_ns)}",
        loc="left",
        fontsize=11,
        fontweight="bold",
        color=TEXT,
        pad=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    ticks = axis.get_xticks()
    step_ms = (ticks[1] - ticks[0]) * NS_PER_S / NS_PER_MS
    inside_ticks = [tick for tick in ticks if begin - margin <= tick <= end + 8 * margin]
    axis.set_xticks(inside_ticks, [f"{tick * 1000:.{0 if step_ms >= 1 else 2}f}" for tick in inside_ticks])
    axis.set_xlabel("milliseconds after the question", fontsize=9.5, color=GREY, labelpad=2, loc="right")


def annotation(kind: str, spans: Sequence[Span], closed: Round) -> str:
    """What one part of a round was and how long it took."""
    busy = sum(span.end_ns - span.start_ns for span in spans)
    done = [span for span in spans if span.rows] or spans  # of a step in pieces the last one has its rows
    if kind == "draft":
        return f"{counted(len(done), 'draft step')}, {duration_of_ns(busy)}"
    if kind == "verify":
        return f"verify {done[-1].rows} rows at width {done[-1].width}: {duration_of_ns(busy)}, emits {closed.emitted}"
    return (
        f"{kind}: {sum(span.nbytes for span in spans):,} bytes, {duration_of_ns(spans[-1].done_ns - spans[0].start_ns)}"
    )


def legend(figure: Figure, seen: set[str], others: bool) -> None:
    """Colours of the kinds that are drawn."""
    from matplotlib.patches import Patch

    names: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        if name in seen:
            # A message has its sender's colour.
            names.setdefault(kind.colour, []).append(f"message: {name}" if kind.message else name.replace("_", " "))
    if others:
        names.setdefault(OTHER.colour, []).append("other work")
    figure.legend(
        handles=[Patch(color=colour, label=", ".join(kinds)) for colour, kinds in names.items()],
        loc="lower left",
        bbox_to_anchor=(0.008, 0.02 / figure.get_figheight()),
        ncols=len(names),
        frameon=False,
        fontsize=9.5,
        labelcolor=TEXT,
        handlelength=1.2,
        columnspacing=1.6,
    )
