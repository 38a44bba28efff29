"""The charts of a page, drawn by Bokeh in the reader's browser: timeline, where time goes, memory, acceptance.

Colours are those of the terminal; text is grey, so that it is read on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool, Range1d, WheelZoomTool
from bokeh.models.annotations import Legend, LegendItem, Title
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from hilsim.describe.setup import Setup
from hilsim.measure.parts import LOSSES
from hilsim.show.kinds import BAD, CAUSES, DRAFT, GOOD, KINDS, PARTS, TARGET, kind_of, lane_order, role_of
from hilsim.show.numbers import counted, duration_of_ns, gibibytes
from hilsim.sim.trace import Round, Span, Trace
from hilsim.units import NS_PER_S

TEXT, LINE = "#7c8794", "#b4bcc6"
LANE_WIDTH = 150  # pixels of the names of tracks, so that timelines below each other have one axis
LEGEND_WIDTH, LEGEND_ROW = 46, 22  # characters across, and pixels of a row
ZOOM_KEY, ZOOM = "ctrl", "hold Ctrl and turn the wheel to zoom"
MOST_SPANS = 4000  # of a run; later ones are left out, which is said


def styled(plot: figure) -> figure:
    """A chart without a ground of its own."""
    plot.background_fill_color = plot.border_fill_color = None
    plot.outline_line_color = None
    plot.toolbar.logo, plot.toolbar.autohide = None, True
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = LINE, 0.35
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = LINE
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = plot.axis.axis_label_text_color = TEXT
    plot.axis.major_label_text_font_size = plot.axis.axis_label_text_font_size = "12px"
    plot.axis.axis_label_text_font_style = "normal"
    if isinstance(plot.title, Title):
        plot.title.text_color = TEXT
    for legend in plot.legend:
        legend.background_fill_color, legend.border_line_color = None, None
        legend.label_text_color, legend.label_text_font_size = TEXT, "12px"
    return plot


def with_legend(plot: figure, names: Sequence[str]) -> figure:
    """A chart with the legend of several names above it, in as many columns as a telephone has room for; an entry that
    is clicked hides what it names.
    """
    if len(names) > 1:
        columns = max(1, LEGEND_WIDTH // (max(map(len, names)) + 4))
        plot.legend.click_policy, plot.legend.location = "hide", "top_left"
        plot.legend.orientation, plot.legend.ncols = "horizontal", columns
        plot.add_layout(plot.legend[0], "above")
        plot.height = (plot.height or 0) + LEGEND_ROW * -(-len(names) // columns)
    else:
        plot.legend.visible = False
    return styled(plot)


def with_zoom(plot: figure, dimensions: Literal["width", "both"] = "both") -> figure:
    """A chart that zooms by the wheel while the key is held; the wheel alone scrolls the page, over a chart too."""
    wheel = WheelZoomTool(dimensions=dimensions, modifiers=ZOOM_KEY)
    plot.add_tools(wheel)
    plot.toolbar.active_scroll = wheel
    return plot


def timeline(trace: Trace, setup: Setup, until_s: float) -> tuple[figure, int]:
    """Every span of a run on its track, at first from 0 to `until_s` seconds; and how many are left out."""
    tracks = lane_order(setup, trace.tracks)
    names = {track: f"{role_of(setup, track)} {track}".strip() for track in tracks}
    rounds = {(one.request, one.number): one for one in trace.rounds}
    spans = trace.spans[:MOST_SPANS]
    columns: dict[str, list[Any]] = {
        name: [] for name in ("left", "right", "lane", "kind", "colour", "what", "took", "why")
    }
    for span in spans:
        columns["left"].append(span.start_ns / NS_PER_S)
        columns["right"].append(span.end_ns / NS_PER_S)
        columns["lane"].append(names[span.track])
        columns["kind"].append(span.kind)
        columns["colour"].append(kind_of(span.kind).colour)
        columns["what"].append(f"{span.kind}, request {span.request}" if span.request >= 0 else span.kind)
        columns["took"].append(duration_of_ns(span.end_ns - span.start_ns))
        columns["why"].append(why(span, rounds.get((span.request, span.round))))
    kinds = [kind for kind in KINDS if kind in columns["kind"]]
    kinds += [kind for kind in dict.fromkeys(columns["kind"]) if kind not in KINDS]
    last = max((span.end_ns for span in spans), default=0) / NS_PER_S
    plot = figure(
        height=70 + 34 * len(tracks),
        sizing_mode="stretch_width",
        y_range=FactorRange(factors=[names[track] for track in reversed(tracks)]),
        x_range=Range1d(start=0.0, end=min(until_s, last) or 1.0, bounds=(0.0, max(last, 1e-6))),
        x_axis_label="seconds",
        title=trace.policy,
        min_border_left=LANE_WIDTH,
        tools="xpan,box_zoom,reset",
        toolbar_location="above",
    )
    bars = plot.hbar(
        y="lane", left="left", right="right", height=0.7, color="colour", line_width=0, source=ColumnDataSource(columns)
    )
    drawn: list[GlyphRenderer[Any]] = [bars]
    items = [LegendItem(label=kind, renderers=drawn, index=columns["kind"].index(kind)) for kind in kinds]
    plot.add_layout(Legend(items=items))
    hover = HoverTool(renderers=[bars], tooltips=[("what", "@what"), ("took", "@took"), ("why", "@why")])
    plot.add_tools(hover)
    plot.ygrid.grid_line_color = None
    with_legend(with_zoom(plot, "width"), kinds)
    plot.legend.click_policy = "none"  # its entries are colours of one drawing
    return plot, len(trace.spans) - len(spans)


def why(span: Span, closed: Round | None) -> str:
    """Why a span is there and takes what it takes, in a sentence."""
    parts = []
    if span.rows:
        wider = f" run at width {span.width}" if span.width > span.rows else ""
        parts.append(f"{counted(span.rows, 'row')}{wider} after {span.cached} cached")
    if span.nbytes:
        parts.append(f"{span.nbytes:,} bytes")
    if span.done_ns > span.end_ns:
        parts.append(f"there {duration_of_ns(span.done_ns - span.end_ns)} later")
    if span.start_ns > span.asked_ns:
        parts.append(f"waited {duration_of_ns(span.start_ns - span.asked_ns)}")
    if closed is not None and span.kind in ("verify", "decode", "prefill"):
        parts.append(
            f"{closed.accepted} of {counted(closed.drafted, 'draft')} accepted, {counted(closed.emitted, 'token')}"
            if closed.drafted
            else counted(closed.emitted, "token")
        )
    return "; ".join(parts)


def where_time_goes(runs: Sequence[tuple[str, dict[str, float]]]) -> figure:
    """Seconds of all requests by cause, a bar a run; `runs` are names and milliseconds by cause."""
    causes = [cause for cause in ("verify", "draft", "waste", "transfer", "wait") if cause in LOSSES]
    columns: dict[str, list[Any]] = {"run": [name for name, _ in runs]}
    columns |= {cause: [lost[cause] / 1000 for _, lost in runs] for cause in causes}
    return stacked(columns, "run", causes, [CAUSES[cause] for cause in causes], "seconds of all requests")


def stacked(
    columns: dict[str, list[Any]], name: str, parts: Sequence[str], colours: Sequence[str], axis: str
) -> figure:
    """Horizontal bars of several parts, the first bar on top."""
    plot = figure(
        height=80 + 44 * len(columns[name]),
        sizing_mode="stretch_width",
        y_range=FactorRange(factors=columns[name][::-1]),
        x_range=DataRange1d(start=0.0),
        x_axis_label=axis,
        tools="",
        toolbar_location=None,
    )
    bars = plot.hbar_stack(
        list(parts), y=name, height=0.6, color=list(colours), source=ColumnDataSource(columns), legend_label=list(parts)
    )
    for part, bar in zip(parts, bars, strict=True):
        plot.add_tools(HoverTool(renderers=[bar], tooltips=[(part, f"@{{{part}}}{{0.000}}")]))
    plot.ygrid.grid_line_color = None
    return with_legend(plot, parts)


def memory(chips: dict[str, dict[str, Any]]) -> figure:
    """GiB of each chip by what holds them, and its cap as a mark."""
    names = list(chips)
    parts = [part for part in PARTS if any(item["part"] == part for one in chips.values() for item in one["items"])]
    columns: dict[str, list[Any]] = {"chip": names}
    for part in parts:
        columns[part] = [
            sum(item["bytes"] for item in chips[name]["items"] if item["part"] == part) / 2**30 for name in names
        ]
    plot = stacked(columns, "chip", parts, [PARTS[part] for part in parts], "GiB; the mark is the cap")
    caps = ColumnDataSource(
        {
            "chip": names,
            "cap": [chips[name]["cap_bytes"] / 2**30 for name in names],
            "words": [gibibytes(chips[name]["cap_bytes"]) for name in names],
        }
    )
    mark = plot.scatter(x="cap", y="chip", marker="dash", angle=1.5708, size=30, line_width=3, color=BAD, source=caps)
    plot.add_tools(HoverTool(renderers=[mark], tooltips=[("cap", "@words")]))
    return plot


def acceptance(standing: Sequence[int], offered: Sequence[int]) -> figure:
    """The share of drafted tokens that stood, by their place in the draft."""
    places = [str(place) for place in range(1, len(standing) + 1)]
    shares = [stood / tried if tried else 0.0 for stood, tried in zip(standing, offered, strict=True)]
    source = ColumnDataSource({"place": places, "share": shares, "stood": list(standing), "tried": list(offered)})
    plot = figure(
        height=240, sizing_mode="stretch_width", x_range=FactorRange(factors=places),
        y_range=Range1d(start=0.0, end=1.0), x_axis_label="place in the draft", y_axis_label="share accepted",
        tools="", toolbar_location=None,
        output_backend="svg",
    )  # fmt: skip
    bars = plot.vbar(x="place", top="share", width=0.7, color=DRAFT, source=source)
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[("accepted", "@stood of @tried")]))
    plot.xgrid.grid_line_color = None
    return styled(plot)


def intervals(rows: Iterable[tuple[str, float, float, float]], axis: str) -> figure:
    """A number with several intervals: name, low, nominal, high."""
    names, lows, nominals, highs = map(list, zip(*rows, strict=True))
    source = ColumnDataSource({"name": names, "low": lows, "nominal": nominals, "high": highs})
    plot = figure(
        height=70 + 36 * len(names), sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_axis_label=axis, tools="", toolbar_location=None, output_backend="svg",
    )  # fmt: skip
    plot.segment(x0="low", x1="high", y0="name", y1="name", line_width=6, color=TARGET, alpha=0.5, source=source)
    dots = plot.scatter(x="nominal", y="name", size=11, color=GOOD, source=source)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=[("", "@nominal{0.00}, @low{0.00} to @high{0.00}")]))
    plot.ygrid.grid_line_color = None
    return styled(plot)
