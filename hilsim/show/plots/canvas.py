"""An empty picture with margins: what all plots but the timeline are drawn on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN_IN = 0.12  # round the picture and between panels; matplotlib's own leaves labels at the very edge


def canvas(width: float, height: float) -> Figure:
    """A picture of so many inches, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=MARGIN_IN, h_pad=MARGIN_IN)  # type: ignore[call-arg]  # the stub knows the base class alone
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    """Light grid, no frame."""
    axes.grid(True, axis=grid, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
