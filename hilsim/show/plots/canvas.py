"""An empty picture with margins: what all plots but the timeline are drawn on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
