"""What `check` found, as it is printed: plans, ledgers, the longest context, caveats."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.text import Text

from hilsim.cost.largest_context import Largest
from hilsim.cost.start_up import start_ups
from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.deployed_pair import folder_notes
from hilsim.describe.known_quality import quality_text
from hilsim.describe.outside import outside_car
from hilsim.show.caveats import caveats, chip_notes
from hilsim.show.check import Checked
from hilsim.show.compile_lists import render_lists
from hilsim.show.compile_report import render_plans
from hilsim.show.memory import notes_of
from hilsim.show.sentences import outside_sentence
from hilsim.show.terminal.page import Page

WIDTH = 110  # of the answer as text


def as_text(found: Checked) -> str:
    """The whole answer as text, with fallback options and the ledger that does not fit."""
    text = StringIO()
    console = Console(file=text, width=WIDTH, force_terminal=False)
    render(found, console)
    rest = [f"  {option}" for option in found.fallback_options]
    rest += [str(found.verdict)] if found.compiles and not found.fits else []
    for line in rest:
        console.print(Text(line), soft_wrap=True)
    return text.getvalue().strip()


def render(found: Checked, console: Console) -> None:
    """Print everything; a ledger that does not fit is left to the error that follows."""
    verdict = found.verdict
    if verdict is not None and (outside := outside_car(verdict.setup)):
        console.print(Text(outside_sentence(outside)), soft_wrap=True)
    render_plans(found.plans.values(), console)
    for remark in found.unchecked:
        console.print(remark, style="dim", highlight=False, markup=False)
    console.print()
    if found.longest is not None:
        console.print(Text(longest_sentence(found.longest)), soft_wrap=True)
    if verdict is not None:
        render_verdict(verdict, console, found)
    render_lists(list(found.plans.values()), console)


def render_verdict(verdict: PlacementVerdict, console: Console, found: Checked) -> None:
    """What a scenario takes in memory and at its start, and what to know of its chips."""
    if verdict.fits or not found.compiles:
        console.print(Text(str(verdict)), soft_wrap=True)
    if started := start_ups(verdict.setup):
        others = [chip for chip in verdict.setup.chips if chip not in {one.chip for one in started}]
        lines = [*map(str, started), *(f"{chip}: its file has no figure of it" for chip in others)]
        console.print(Text(f"Start: {'; '.join(lines)}."), soft_wrap=True)
    for name, placed in verdict.setup.roles.items():
        console.print(Text(f"{name}: {quality_text(placed)}"), soft_wrap=True)
    for note in folder_notes(verdict.setup):
        console.print(Text(f"Note: {note}"), soft_wrap=True)
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
