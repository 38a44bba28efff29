"""Spoken turns on one time axis, stages as lanes, speech as blocks: a usual one, the slowest, one with a gap or cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.describe.setup import Setup
from hilsim.measure.turns import STAGE_INSTANTS, times_of
from hilsim.show.kinds import BAD, GOOD, INK, SPEECH, STAGE_KINDS, kind_of, lane_order, role_of
from hilsim.show.numbers import duration_of_ns
from hilsim.show.plots.canvas import canvas
from hilsim.show.plots.timeline import GREY, PALE, TEXT
from hilsim.sim.trace import Span, Trace, TurnRecord
from hilsim.units import NS_PER_S

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, LANE_IN, HEAD_IN = 14.0, 0.3, 1.3
PIXELS = 1100
EARLIER_S = 2.0  # of the question is drawn at most
SPOKEN_LANES = {  # of spans that are in no unit's lane
    "wake_word": "passenger",
    "end_of_speech": "end of speech",
    "recognition": "recognition",
    "synthesis": "synthesis",
}
LATER_S = 1.5  # of playback is drawn behind the last thing that happens but playback itself
OTHERS = "other work there"


def draw(path: Path, trace: Trace, setup: Setup) -> None:
    """Write the picture as PNG. Raises ImportError where matplotlib is not installed."""
    turn_timeline(trace, setup).savefig(path, format="png", dpi=100)


def turn_timeline(trace: Trace, setup: Setup) -> Figure:
    """The picture as a matplotlib figure. Raises ImportError where matplotlib is not installed."""
    shown = chosen(trace.turns)
    lanes = [lanes_of(trace, setup, turn) for _, turn in shown]
    figure = canvas(WIDTH_IN, sum(HEAD_IN + LANE_IN * len(names) for names in lanes) + 0.5 if shown else 2.5)
    if not shown:
        figure.text(0.5, 0.5, "no question was answered", ha="center", color=GREY, fontsize=14)
        return figure
    grid = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=[len(names) for names in lanes])
    limits = min(begin for begin, _ in (ends_s(turn) for _, turn in shown)), max(ends_s(turn)[1] for _, turn in shown)
    for axes, (title, turn), names in zip(grid[:, 0], shown, lanes, strict=True):
        lay_out(axes, trace, setup, turn, names, limits)
        wait = duration_of_ns(times_of(turn)["first_audio"])
        axes.set_title(
            f"{title}: turn {turn.number} of {turn.passenger}, first audio after {wait}",
            loc="left", fontsize=11, fontweight="bold", color=TEXT, pad=44,
        )  # fmt: skip
    grid[-1, 0].set_xlabel("seconds after the end of speech", fontsize=9.5, color=GREY, loc="right")
    turns = [turn for _, turn in shown]
    kinds = {span.kind for span in trace.spans if any(belongs(span, turn) for turn in turns)}
    legend(figure, kinds, gaps=any(turn.gaps for turn in turns))
    return figure


def chosen(turns: Sequence[TurnRecord]) -> list[tuple[str, TurnRecord]]:
    """The turn with the middle first audio, the slowest, and an interrupted one or that with the longest gap."""
    heard = sorted((turn for turn in turns if turn.first_audio_ns >= 0), key=lambda turn: times_of(turn)["first_audio"])
    if not heard:
        return []
    found = {heard[len(heard) // 2].number: ("a usual turn", heard[len(heard) // 2])}
    if len(heard) > 2:
        found.setdefault(heard[-1].number, ("the slowest", heard[-1]))
    cut = [("an interrupted one", turn) for turn in heard if turn.interrupted_ns >= 0]
    dry = [("the longest gap", turn) for turn in sorted(heard, key=lambda turn: -times_of(turn)["gap"]) if turn.gaps]
    for title, turn in (*cut[:1], *dry[:1]):
        if len(found) < 3:
            found.setdefault(turn.number, (title, turn))
    return list(found.values())


def belongs(span: Span, turn: TurnRecord) -> bool:
    """Whether something was done for a turn, alone or in a batch with others."""
    return span.request == turn.request or any(one.request == turn.request for one in span.fellows)


def seconds(turn: TurnRecord, instant_ns: int) -> float:
    """An instant in seconds after the end of speech."""
    return (instant_ns - turn.spoken_ns) / NS_PER_S


def ends_s(turn: TurnRecord) -> tuple[float, float]:
    """From the first word to a little behind the last thing that happens beside playback."""
    last = max(turn.first_audio_ns, turn.finished_ns, turn.silent_ns, *(end for _, end in turn.gaps), 0)
    return max(-EARLIER_S, seconds(turn, turn.spoke_ns)), min(
        seconds(turn, last) + LATER_S, seconds(turn, max(turn.heard_ns, last)) + 0.1
    )


def lanes_of(trace: Trace, setup: Setup, turn: TurnRecord) -> list[str]:
    """The lanes of a turn: its question, its stages with the units of the language model, and playback."""
    tracks = {span.track for span in trace.spans if belongs(span, turn) and span.kind not in SPOKEN_LANES}
    model = [track for track in lane_order(setup, trace.tracks) if track in tracks]
    stages = ["end of speech", "recognition", "prompt", *model]
    return ["passenger", *stages, *([OTHERS] if model else []), "synthesis", "playback"]


def lay_out(
    axes: Axes, trace: Trace, setup: Setup, turn: TurnRecord, names: Sequence[str], limits: tuple[float, float]
) -> None:
    """The lanes of one turn with what happened in each."""
    rows = {name: row for row, name in enumerate(names)}
    for row in rows.values():
        axes.axhspan(row - 0.4, row + 0.4, color=PALE, lw=0, zorder=0)
    blocks: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)  # by lane and colour
    blocks["passenger", SPEECH].append((turn.spoke_ns, turn.spoken_ns))
    for stage in ("end_of_speech", "recognition", "prompt"):
        begin, end = (getattr(turn, which) for which in STAGE_INSTANTS[stage])
        blocks[stage.replace("_", " "), STAGE_KINDS[stage].colour].append((begin, end))
    first, last = (turn.spoken_ns + round(limit * NS_PER_S) for limit in limits)
    for span in trace.spans:
        if span.end_ns <= first or span.start_ns >= last:
            continue
        if belongs(span, turn):
            blocks[SPOKEN_LANES.get(span.kind, span.track), kind_of(span.kind).colour].append(
                (span.start_ns, span.end_ns)
            )
        elif span.track in rows:
            blocks[OTHERS, "#8a8a8a"].append((span.start_ns, span.end_ns))
    least = 1.5 * (limits[1] - limits[0]) / PIXELS
    for (name, colour), intervals in blocks.items():
        reached = [(begin, end) for begin, end in intervals if 0 <= begin < end]
        seen = 0.0 if name == OTHERS else least  # many short executions of others are no long one
        bars = [(seconds(turn, begin), max(seen, (end - begin) / NS_PER_S)) for begin, end in reached]
        if name in rows:
            axes.broken_barh(bars, (rows[name] - 0.4, 0.8), color=colour, lw=0, zorder=2)
    play(axes, turn, rows["playback"], limits)
    marks(axes, setup, turn, limits)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(*limits)
    axes.set_yticks(range(len(names)), [labelled(setup, name) for name in names], fontsize=9, color=TEXT)
    axes.tick_params(axis="y", length=0, pad=6)
    axes.tick_params(axis="x", labelsize=9, colors=GREY, labelbottom=True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color("#c5cbd3")


def play(axes: Axes, turn: TurnRecord, row: int, limits: tuple[float, float]) -> None:
    """The speech that is heard as blocks, with the gaps between them hatched."""
    end = turn.silent_ns if turn.silent_ns >= 0 else turn.heard_ns
    begin = turn.first_audio_ns
    for start, stop in (*turn.gaps, (end, end)):
        if begin < start:
            axes.barh(row, (start - begin) / NS_PER_S, 0.8, seconds(turn, begin), color=SPEECH, zorder=2)
        if start < stop:
            at = seconds(turn, start)
            axes.barh(row, (stop - start) / NS_PER_S, 0.8, at, color="white", edgecolor=BAD, hatch="////", zorder=3)
            axes.text(
                at, row - 0.42, f"gap {duration_of_ns(stop - start)}", fontsize=8.5, color=BAD, va="bottom", zorder=5
            )
        begin = max(begin, stop)
    if seconds(turn, end) > limits[1]:
        axes.text(limits[1], row, "goes on ▸ ", ha="right", va="center", fontsize=8.5, color=INK, zorder=4)


def marks(axes: Axes, setup: Setup, turn: TurnRecord, limits: tuple[float, float]) -> None:
    """First token, first clause, first audio and the interruption as lines, the limit of the first audio dashed."""
    top = axes.get_xaxis_transform()
    instants = [
        ("first token", turn.first_token_ns, GREY),
        ("first clause", turn.clause_ns, "#be185d"),
        ("first audio", turn.first_audio_ns, GOOD),
        ("speaks up", turn.interrupted_ns, BAD),
    ]
    taken = [limits[0]] * len(instants)
    for name, instant, colour in instants:
        if instant < 0:
            continue
        at = seconds(turn, instant)
        axes.plot([at, at], [0, 1], color=colour, lw=1.1, zorder=4, transform=top)
        line = next((line for line, until in enumerate(taken) if at >= until), 0)
        axes.annotate(
            f"{name} {at:.2f}", (at, 1), (1, 2 + 11 * line), top, "offset points", fontsize=8.5, color=colour,
            annotation_clip=False,
        )  # fmt: skip
        taken[line] = at + 0.0062 * (len(name) + 5) * (limits[1] - limits[0])
    speech = setup.scenario.speech
    limit = None if speech is None else speech.budget.first_audio_ms
    if limit is not None:
        axes.plot([limit / 1000] * 2, [0, 1], color=BAD, lw=1.1, ls=(0, (4, 3)), zorder=4, transform=top)
        axes.text(limit / 1000, 0.01, " limit", fontsize=8.5, color=BAD, transform=top, va="bottom")


def labelled(setup: Setup, name: str) -> str:
    """A lane's name, of a unit or link with what it is for."""
    if "." not in name:
        return name
    return f"{role_of(setup, name)}  {name.removesuffix('.up').removesuffix('.down')}".strip()


def legend(figure: Figure, seen: set[str], *, gaps: bool) -> None:
    """What the colours of the language model's lanes mean, and of speech."""
    from matplotlib.patches import Patch

    kinds = ("prefill", "draft prefill", "draft", "verify", "decode", "tool call", "switch", "network")
    model = [name for name in kinds if name in seen]
    handles = [Patch(color=kind_of(name).colour, label=name) for name in model]
    handles += [Patch(color=SPEECH, label="speech")]
    if gaps:
        handles += [Patch(fc="white", ec=BAD, hatch="////", label="gap in playback")]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9)
