"""Charts of many runs, drawn by Bokeh in the reader's browser: clouds of configurations, lines, fields, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import BasicTicker, ColumnDataSource, FactorRange, HoverTool, LinearColorMapper, Range1d
from bokeh.models.annotations import ColorBar
from bokeh.models.annotations import Span as Line
from bokeh.models.text import BaseText
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from hilsim.show.kinds import BAD, DRAFT, GOOD, TARGET
from hilsim.show.numbers import three_digits
from hilsim.show.page.charts import LINE, TEXT, styled, with_legend, with_zoom
from hilsim.show.plots.curves import HUES

Numbers = npt.NDArray[np.float64]
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star", "square_pin")
RASTER = (80, 50)  # places across and up of which one cloud shows one dot each
ZOOMED = "pan,box_zoom,reset"


@dataclass(frozen=True)
class Dots:
    """A kind of dot in a cloud: its name, its numbers, what is read where one is pointed at."""

    name: str
    x: Sequence[float] | Numbers
    y: Sequence[float] | Numbers
    about: Sequence[str]
    colour: str
    size: int = 5
    marker: str = "circle"
    hollow: bool = False


def thinned(x: Numbers, y: Numbers, log: tuple[bool, bool], raster: tuple[int, int]) -> list[int]:
    """The first of all dots that fall on the same place of a raster over their range; those that are no numbers fall
    nowhere. So a cloud keeps its shape and its ends, however many lie on each other.
    """
    across, up = (scaled(*one) for one in zip((x, y), log, raster, strict=True))
    inside = np.flatnonzero(np.isfinite(across) & np.isfinite(up))
    _, first = np.unique(across[inside] * raster[1] + up[inside], return_index=True)
    return [int(place) for place in inside[np.sort(first)]]


def scaled(values: Numbers, log: bool, count: int) -> Numbers:
    """The place of each value among `count` equal parts of their range; NaN for what is no number on the axis."""
    usable = np.isfinite(values) & ((values > 0) | (not log))
    numbers = np.where(usable, values, np.nan)
    numbers = np.log(numbers) if log else numbers
    if not usable.any():
        return numbers
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    found: Numbers = np.minimum(count - 1, np.floor((numbers - low) / ((high - low) or 1.0) * count))
    return found


def wide(values: Numbers) -> bool:
    """Whether numbers spread so far that a logarithmic axis shows them better."""
    inside = values[np.isfinite(values)]
    return bool(len(inside)) and bool(0 < 4 * inside.min() < inside.max())


def cloud(kinds: Sequence[Dots], axes: tuple[str, str], log: tuple[bool, bool], *, square: bool = False) -> figure:
    """Kinds of dots over two axes; a click on a name hides its kind. `square` adds the diagonal where both are equal,
    and the band of a quarter round it.
    """
    plot = figure(
        height=460,
        sizing_mode="stretch_width",
        x_axis_type="log" if log[0] else "linear",
        y_axis_type="log" if log[1] else "linear",
        x_axis_label=axes[0],
        y_axis_label=axes[1],
        tools=ZOOMED,
        toolbar_location="above",
    )
    if square:
        ends = [value for dots in kinds for value in (*dots.x, *dots.y)]
        low, high = min(ends) / 1.4, max(ends) * 1.4
        plot.x_range, plot.y_range = Range1d(start=low, end=high), Range1d(start=low, end=high)
        plot.varea([low, high], [low * 0.75, high * 0.75], [low * 1.25, high * 1.25], color=LINE, alpha=0.3)
        plot.line([low, high], [low, high], color=TEXT)
    for dots in kinds:
        columns = {"x": list(dots.x), "y": list(dots.y), "about": list(dots.about)}
        drawn = plot.scatter(
            x="x", y="y", size=dots.size, marker=dots.marker, color=dots.colour, fill_alpha=0.0 if dots.hollow else 0.8,
            line_width=2 if dots.hollow else 0, source=ColumnDataSource(columns), legend_label=dots.name,
        )  # fmt: skip
        names = [(axes[0], "@x{0,0.[000]}"), (axes[1], "@y{0,0.[000]}"), (dots.name, "@about")]
        plot.add_tools(HoverTool(renderers=[drawn], tooltips=names))
    return with_legend(with_zoom(plot), [dots.name for dots in kinds])


@dataclass(frozen=True)
class Series:
    """A line of a chart: its name, where its points lie, their values and the ends of their intervals."""

    name: str
    x: Sequence[float]
    values: Sequence[float]
    ends: Sequence[tuple[float, float]]
    about: Sequence[str]


def lines(
    series: Sequence[Series], axes: tuple[str, str], ticks: Mapping[int, str], *, joined: bool, log: bool = False
) -> figure:
    """Lines over one axis with the intervals of their points; `ticks` names its places, where they are no numbers.

    Where nothing orders the places (`joined` is False), their marks stand alone.
    """
    plot = figure(
        height=340,
        sizing_mode="stretch_width",
        x_axis_type="log" if log else "linear",
        x_axis_label=axes[0],
        y_axis_label=axes[1],
        tools=ZOOMED,
        toolbar_location="above",
    )
    for number, one in enumerate(series):
        columns = {
            "x": list(one.x), "y": list(one.values), "low": [low for low, _ in one.ends],
            "high": [high for _, high in one.ends], "about": list(one.about),
        }  # fmt: skip
        source, colour = ColumnDataSource(columns), HUES[number % len(HUES)]
        colour = TEXT if colour == "#000000" else colour
        if joined:
            plot.line(x="x", y="y", line_width=2, color=colour, source=source, legend_label=one.name)
        plot.segment(
            x0="x", x1="x", y0="low", y1="high", color=colour, line_width=1.5, source=source, legend_label=one.name
        )
        marks = plot.scatter(
            x="x",
            y="y",
            size=8,
            marker=MARKERS[number % len(MARKERS)],
            color=colour,
            source=source,
            legend_label=one.name,
        )
        plot.add_tools(HoverTool(renderers=[marks], tooltips=[(axes[1], "@y{0,0.[000]}"), ("at", "@about")]))
    if ticks:
        names: dict[float | str, str | BaseText] = {float(place): name for place, name in ticks.items()}
        plot.xaxis.ticker = list(ticks)
        plot.xaxis.major_label_overrides = names
        if max(map(len, ticks.values())) > 10:
            plot.xaxis.major_label_orientation = 0.6
    return with_legend(with_zoom(plot), [one.name for one in series])


def fields(
    across: Sequence[str], up: Sequence[str], values: Mapping[tuple[int, int], float], axes: tuple[str, str, str],
    *, less_is_better: bool,
) -> figure:  # fmt: skip
    """A field for every combination of two axes, by their places; what has no number stays empty."""
    columns: dict[str, list[Any]] = {
        "x": [across[place] for place, _ in values], "y": [up[place] for _, place in values],
        "value": list(values.values()), "shown": [three_digits(value) for value in values.values()],
    }  # fmt: skip
    numbers = list(values.values()) or [0.0, 1.0]
    palette = Viridis256[::-1] if less_is_better else Viridis256
    mapper = LinearColorMapper(palette=palette, low=min(numbers), high=max(numbers))
    plot = figure(
        height=140 + 26 * min(len(up), 16), sizing_mode="stretch_width", x_range=FactorRange(factors=list(across)),
        y_range=FactorRange(factors=list(up)), x_axis_label=axes[0], y_axis_label=axes[1], tools="",
        toolbar_location=None,
    )  # fmt: skip
    drawn = plot.rect(
        x="x", y="y", width=1, height=1, line_width=0, source=ColumnDataSource(columns),
        fill_color={"field": "value", "transform": mapper},
    )  # fmt: skip
    names = [(axes[2], "@shown"), (axes[0], "@x"), (axes[1], "@y")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=names))
    bar = ColorBar(
        color_mapper=mapper, ticker=BasicTicker(desired_num_ticks=5), title=axes[2], title_text_color=TEXT,
        major_label_text_color=TEXT, background_fill_color=None,
    )  # fmt: skip
    plot.add_layout(bar, "right")
    plot.grid.visible = False
    return styled(plot)


def gains(rows: Sequence[tuple[str, float, str]]) -> figure:
    """Speed-ups as bars, the first on top, each with what is read there; a dashed line where nothing is won."""
    names, gained = [name for name, _, _ in rows], [gain for _, gain, _ in rows]
    columns = {
        "name": names, "gain": [gain for _, gain, _ in rows], "about": [text for _, _, text in rows],
        "colour": [GOOD if gain > 1 else DRAFT if gain == 1 else BAD for _, gain, _ in rows],
    }  # fmt: skip
    plot = figure(
        height=80 + 30 * len(names), sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_range=Range1d(start=0.0, end=1.08 * max(gained, default=1.0)), x_axis_label="speed-up over the target alone",
        tools="", toolbar_location=None,
    )  # fmt: skip
    bars = plot.hbar(y="name", right="gain", height=0.65, color="colour", source=ColumnDataSource(columns))
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[("@name", "@gain{0.00} times"), ("", "@about")]))
    plot.add_layout(Line(location=1.0, dimension="height", line_color=TEXT, line_dash="dashed"))
    plot.ygrid.grid_line_color = None
    return styled(plot)


def ends(rows: Sequence[tuple[str, float, float]], middle: float, axis: str) -> figure:
    """What each figure makes of a number at the two ends of its range, the one that moves it most on top."""
    names = [name for name, _, _ in rows]
    columns = {"name": names, "low": [low for _, low, _ in rows], "high": [high for _, _, high in rows]}
    plot = figure(
        height=80 + 30 * len(names), sizing_mode="stretch_width", y_range=FactorRange(factors=names[::-1]),
        x_axis_label=axis, tools="", toolbar_location=None,
    )  # fmt: skip
    source = ColumnDataSource(columns)
    bars = plot.segment(x0="low", x1="high", y0="name", y1="name", line_width=8, color=TARGET, source=source)
    names_ = [("@name", "@low{0,0.[000]} at its low end, @high{0,0.[000]} at its high end")]
    plot.add_tools(HoverTool(renderers=[bars], tooltips=names_))
    plot.add_layout(Line(location=middle, dimension="height", line_color=TEXT, line_dash="dashed"))
    plot.ygrid.grid_line_color = None
    return styled(plot)
