"""Pictures of grids: heat maps with contour lines, and lines. All of it stays readable in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hilsim.show.plots.canvas import canvas, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
LEVELS = (1.0, 1.5, 2.0, 2.5)
STYLES = ("-", "--", ":", "-.")
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#bdbdbd")  # on light and dark grounds
BLACK_AND = ("#000000", *HUES)
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def sheet(down: int, across: int, width: float, height: float) -> tuple[Figure, Any]:
    """An empty picture of `down` x `across` panels."""
    figure = canvas(width, height)
    return figure, figure.subplots(down, across, squeeze=False)


def finished(figure: Figure, title: str, path: Path, kind: str) -> None:
    """The picture under its title. `kind` is png, svg or pdf."""
    figure.suptitle(fill(title, round(11 * figure.get_figwidth())), fontsize=11, x=0.01, ha="left")
    figure.savefig(path, dpi=120, format=kind)


def heat_map(
    axes: Axes,
    across: Sequence[float],
    up: Sequence[float],
    values: Floats,
    limits: tuple[float, float],
    *,
    levels: Sequence[float] = LEVELS,
    log: bool = False,
) -> Any:
    """A field for every pair (`values` up x across), bright where it is fast, with contour lines; refused ones grey."""
    axes.set_facecolor("0.85")
    if log:
        axes.set(xscale="log", yscale="log")  # before labels look for their places
    image = axes.pcolormesh(across, up, values, shading="nearest", cmap="viridis", vmin=limits[0], vmax=limits[1])
    contours(axes, across, up, values, levels)
    axes.tick_params(labelsize=9)
    return image


def write_in_fields(
    axes: Axes, image: Any, field: Floats, texts: Mapping[tuple[int, ...], str], size: float = 7
) -> None:
    """A text in each of these fields (up, across) of an image, dark on bright ones and on those without a number."""
    for (row, place), text in texts.items():
        dark = True
        if np.isfinite(field[row, place]):
            bright = image.cmap(image.norm(field[row, place]))
            dark = 0.3 * bright[0] + 0.59 * bright[1] + 0.11 * bright[2] > 0.5
        axes.text(place, row, text, ha="center", va="center", fontsize=size, color="black" if dark else "white")


def contours(
    axes: Axes,
    across: Sequence[float] | Floats,
    up: Sequence[float] | Floats,
    values: Floats,
    levels: Sequence[float],
    *,
    style: str = "-",
    label: bool = True,
    colour: str = "white",
) -> None:
    """Lines of equal height, the thicker the higher, those that there are; white ones have a dark rim."""
    finite = values[np.isfinite(values)]
    there = [level for level in levels if finite.size and finite.min() < level < finite.max()]
    if not there or min(values.shape) < 2:
        return
    widths = [0.9 + 0.4 * list(levels).index(level) for level in there]
    lines = axes.contour(across, up, values, levels=there, colors=colour, linewidths=widths, linestyles=style)
    texts = axes.clabel(lines, fmt=lambda level: f"{level:g}x", fontsize=8) if label else []
    if colour == "white":
        for drawn in (lines, *texts):
            drawn.set_path_effects(rim(2.0 if drawn is not lines else max(widths) + 1.4))


def rim(width: float = 2.0) -> Any:
    """A dark rim round white lines and letters, so that any ground will do."""
    from matplotlib.patheffects import Normal, withStroke

    return [withStroke(linewidth=width, foreground="black"), Normal()]


def colour_bar(figure: Figure, image: Any, panels: Any, label: str = "speed-up over the target alone") -> None:
    """One scale for all panels."""
    bar = figure.colorbar(image, ax=panels, label=label, pad=0.01)
    bar.ax.tick_params(labelsize=9)


def empty(axes: Axes, label: str) -> None:
    """A panel with the reason why there is nothing in it."""
    axes.set_facecolor("0.85")
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, fill(label, 40), ha="center", va="center", fontsize=8, transform=axes.transAxes)


def lines(
    axes: Axes,
    across: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    dashed: Sequence[str] = (),
    steps: bool = False,
) -> None:
    """A line for each name, with its own colour and mark; those in `dashed` are closed forms and have no marks."""
    for number, (name, values) in enumerate(series.items()):
        axes.plot(
            across,
            values,
            label=name,
            color=BLACK_AND[number % len(BLACK_AND)],
            marker="" if name in dashed else MARKS[number % len(MARKS)],
            markersize=4.5,
            linewidth=1.6,
            linestyle=STYLES[1 + list(dashed).index(name) % 3] if name in dashed else "-",
            drawstyle="steps-post" if steps else "default",
        )
    plain(axes, "both")


def level_line(axes: Axes, value: float, label: str = "") -> None:
    """A thin line across, such as where nothing is won."""
    axes.axhline(value, color="0.45", linewidth=0.9, linestyle=(0, (1, 2)))
    if label:
        axes.annotate(label, (0.995, value), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", ha="right", fontsize=8, color="0.35")  # fmt: skip


def draw_series(
    across: Sequence[float], series: Mapping[str, Sequence[float]], label: str, title: str, path: Path, kind: str, *,
    up: str = "speed-up over the target alone", level: float = 1.0,
) -> None:  # fmt: skip
    """A line for each name over one number, and the level that counts: of speed-ups 1."""
    figure, panels = sheet(1, 1, 7.5, 4.4)
    axes = panels[0][0]
    lines(axes, across, series)
    level_line(axes, level)
    axes.set(xlabel=label, ylabel=up, xticks=across)
    axes.legend(frameon=False, fontsize=9)
    finished(figure, title, path, kind)
