"""Caveats against a result, and the notes of the chips in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from hilsim.show.kinds import BAD
from hilsim.show.numbers import clean
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME


def caveats(page: Page, found: Sequence[dict[str, Any]]) -> None:
    """Caveats against the result, shown first, each with its source."""
    for caveat in found:
        source = f" [{clean(caveat['source'])}]" if caveat["source"] else ""
        sentence = Text.assemble((f"{caveat['kind']}: {clean(caveat['text'])}", f"bold {BAD}"), (source, FRAME))
        page.paragraph(sentence)


def chip_notes(page: Page, notes: dict[str, str]) -> None:
    """The notes of the chips in use."""
    if notes:
        page.title("chip notes")
    for chip, note in notes.items():
        page.paragraph(f"{chip}: {note}", 2)
