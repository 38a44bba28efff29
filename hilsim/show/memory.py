"""The memory of a placement as plain data, for documents: ledgers, how far their verdicts hold, notes of the chips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilsim.cost.fit import Fit, FitCondition
from hilsim.cost.memory import Ledger
from hilsim.describe.figure import Figure
from hilsim.describe.setup import Setup


def memory_in_full(ledgers: Mapping[str, Ledger], fits: Mapping[str, Fit]) -> dict[str, dict[str, Any]]:
    """Every chip's ledger, its verdict, and what turns it."""
    return {
        chip: {
            "cap_bytes": ledgers[chip].cap_bytes,
            "used_bytes": ledgers[chip].used_bytes,
            "loading_bytes": ledgers[chip].loading_bytes,
            "staged_bytes": ledgers[chip].staged_bytes,
            "items": [{"what": item.what, "bytes": item.bytes, "part": item.part} for item in ledgers[chip].items],
            "fit": fit.verdict,
            "fit_in_words": str(fit),
            "conditions": [condition_as_data(condition) for condition in fit.conditions],
            "rests_on": {name: figure_as_data(figure) for name, figure in fit.rests_on.items()},
            "over_ranges": {
                "worst": {"cap_bytes": fit.worst.cap_bytes, "needed_bytes": fit.worst.needed_bytes},
                "best": {"cap_bytes": fit.best.cap_bytes, "needed_bytes": fit.best.needed_bytes},
                "figures": list(fit.ranged),
            },
        }
        for chip, fit in fits.items()
        if chip in ledgers
    }


def condition_as_data(condition: FitCondition) -> dict[str, Any]:
    """One condition: the figure, the side and the bound in the figure's unit."""
    found: dict[str, Any] = {"figure": condition.name, "in_words": str(condition)}
    if isinstance(condition.figure, Figure):
        return found | {("at_least" if condition.at_least else "at_most"): condition.bound} | {
            "unit": condition.figure.unit, **figure_as_data(condition.figure)
        }  # fmt: skip
    return found | {"is": True, "kind": condition.figure.kind, "source": condition.figure.source}


def figure_as_data(figure: Figure) -> dict[str, Any]:
    """A figure with its provenance."""
    span = None if figure.range is None else list(figure.range)
    return {"value": figure.value, "unit": figure.unit, "kind": figure.kind, "range": span, "source": figure.source}


def notes_of(setup: Setup) -> dict[str, str]:
    """Of the chips in use: the published figures that their files stand on, and the notes there."""
    texts = {name: [chip.stands_on.strip(), chip.notes.strip()] for name, chip in setup.chips.items()}
    return {name: " ".join(filter(None, parts)) for name, parts in texts.items() if any(parts)}
