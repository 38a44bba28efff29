"""What is known of the text of a role's model in its precision: a measured figure, or that none is known."""

from __future__ import annotations

from typing import Any

from hilsim.describe.catalogue import load_record
from hilsim.describe.model import Model
from hilsim.describe.quality import FLOATS, QualityFigure
from hilsim.describe.setup import Placed
from hilsim.places import DATA


def quality_text(placed: Placed) -> str:
    """What is known of a role's model in its precision, and of its stand-in, in a line."""
    precision, model, folder = placed.precision, placed.model, placed.stand_in
    found = f"quality of {precision}: {known_of(model, precision)}"
    if folder is None or precision in FLOATS or folder.name == model.name.removeprefix("stand-in-"):
        return found
    own = stand_in_figure(placed)
    return f"{found}; of its stand-in: {own.compared if own else 'measured by hilsim quality'}"


def known_of(model: Model, precision: str) -> str:
    """The figure of a precision, or that none is known, with the nearest that is."""
    if precision in model.quality:
        return str(model.quality[precision])
    if precision in FLOATS:
        return "taken as the model's own"
    name = nearest(model, precision)
    return "none known" if name is None else f"none known; of {name}: {model.quality[name]}"


def nearest(model: Model, precision: str) -> str | None:
    """A precision that has a figure and weights of as many bits."""
    return next((name for name in model.quality if name[:2] == precision[:2]), None)


def stand_in_figure(placed: Placed) -> QualityFigure | None:
    """The figure of a shipped stand-in in its role's precision; None of another, or where none was measured."""
    folder = placed.stand_in
    if folder is None or folder.resolve().parent != (DATA / "models").resolve():
        return None
    file = DATA / "models" / f"stand-in-{folder.name}.yaml"
    return load_record(Model, file).quality.get(placed.precision) if file.is_file() else None


def quality_record(placed: Placed) -> dict[str, Any]:
    """The same for a document: the line, and the model's figure of its precision, or of the nearest, where one is."""
    known = placed.model.quality
    name = placed.precision if placed.precision in known else nearest(placed.model, placed.precision)
    return {"text": quality_text(placed), "of": name, "figure": None if name is None else known[name].model_dump()}
