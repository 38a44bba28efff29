"""What `check` found, as a document and on the terminal: plans, ledgers, the longest context, caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from hilsim.compiler.fallback_options import WayOut
from hilsim.compiler.plan import UNCHECKED, Plan
from hilsim.cost.fit import whole
from hilsim.cost.memory import Largest
from hilsim.cost.verdict import Verdict
from hilsim.describe.deployed_pair import folder_notes
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.describe.write import typed
from hilsim.show.compile import render_plans
from hilsim.show.memory import memory_in_full, notes_of
from hilsim.show.report import caveats, chip_notes
from hilsim.show.sentences import outside_words
from hilsim.show.terminal.page import Page


@dataclass(frozen=True)
class Checked:
    """The plans of a scenario or a module; of a scenario its verdict, and fallback options where it is refused."""

    subject: str
    plans: Sequence[Plan]
    unchecked: Sequence[str] = ()
    verdict: Verdict | None = None
    fallback_options: Sequence[WayOut] = ()
    longest: Largest | None = None

    @property
    def compiles(self) -> bool:
        """Whether no plan is refused."""
        return all(plan.outcome != "refused" for plan in self.plans)


def units_unchecked(setup: Setup, plans: dict[int, Plan]) -> list[str]:
    """Units without a profile, where nothing could be checked."""
    tracks = [
        part.track for index, part in enumerate(setup.parts) if index not in plans or plans[index].profile == UNCHECKED
    ]
    return [f"{track}: no rule profile, so nothing was checked there" for track in dict.fromkeys(tracks)]


def as_json(found: Checked) -> dict[str, Any]:
    """The document of `check --json`."""
    verdict = found.verdict
    document: dict[str, Any] = {
        "checked": found.subject,
        "compiles": found.compiles,
        "fits": None if verdict is None else verdict.fits,
        "fit": None if verdict is None else whole(verdict.by_chip),
        "plans": [plan.as_json() for plan in found.plans],
        "unchecked": list(found.unchecked),
        "ways_out": [
            {"set": typed(way.changes).removeprefix("--set "), "why": way.why, "step_ms": way.step_ms}
            for way in found.fallback_options
        ],
        "memory": {} if verdict is None else memory_in_full(verdict.ledgers, verdict.by_chip),
        "caveats": [] if verdict is None else [vars(caveat) for caveat in verdict.caveats],
        "chip_notes": {} if verdict is None else notes_of(verdict.setup),
        "talk_leaves_car": [] if verdict is None else list(outside_car(verdict.setup)),
    }
    return document if found.longest is None else document | {"largest_context": vars(found.longest)}


def render(found: Checked, console: Console) -> None:
    """Print everything; a ledger that does not fit is left to the error that follows."""
    verdict = found.verdict
    if verdict is not None and (outside := outside_car(verdict.setup)):
        print(outside_words(outside))
    render_plans(found.plans, console)
    for remark in found.unchecked:
        console.print(remark, style="dim", highlight=False, markup=False)
    console.print()
    if found.longest is not None:
        print(longest_sentence(found.longest))
    if verdict is None:
        return
    if verdict.fits or not found.compiles:
        print(verdict)
    for note in folder_notes(verdict.setup):
        print(f"Note: {note}")
    page = Page(console)
    caveats(page, [vars(caveat) for caveat in verdict.caveats if caveat.kind != "memory"])
    chip_notes(page, notes_of(verdict.setup))


def longest_sentence(longest: Largest) -> str:
    """The longest context, what limits it, and its range over all that the memory's figures leave open."""
    found = f"{longest.tokens:,} tokens" if longest.tokens else "none fits"
    over = "" if longest.least == longest.most else (
        " Over the ranges of the memory's figures, and an assumed yes or no either way,"
        f" it is {longest.least:,} to {longest.most:,}."
    )  # fmt: skip
    return f"Largest context: {found} (stopped by {longest.stopped_by}).{over}"
