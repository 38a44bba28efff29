"""The rolling timeline: one line of cells per track, coloured by what ran, edges to an eighth of a cell.

Without colour every cell carries the letter of its kind instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rich.text import Text

from hilsim.show.kinds import INK, KINDS, Kind, kind_of
from hilsim.show.numbers import nice_step
from hilsim.show.terminal.paint import EIGHTHS, FRAME
from hilsim.sim.trace import Span
from hilsim.units import NS_PER_MS

IDLE = "─"
NAMES = list(KINDS)


class Window(NamedTuple):
    """The stretch of simulated time on show, in `cells` cells."""

    start_ns: int
    end_ns: int
    cells: int

    def eighth(self, at_ns: int) -> int:
        """The eighth of a cell in which an instant lies, clipped to the window."""
        length = max(1, self.end_ns - self.start_ns)
        return min(8 * self.cells, max(0, round((at_ns - self.start_ns) * 8 * self.cells / length)))


class Piece(NamedTuple):
    """Neighbouring spans of one kind and round, drawn as one bar."""

    kind: str
    start_ns: int
    end_ns: int
    rows: int


def pieces(spans: Iterable[Span]) -> list[Piece]:
    """Spans of one track, joined where one follows the other without a gap in the same round."""
    joined: list[Piece] = []
    before: Span | None = None
    for span in spans:
        same = before is not None and (before.kind, before.request, before.round) == (
            span.kind,
            span.request,
            span.round,
        )
        if same and joined[-1].end_ns == span.start_ns:
            joined[-1] = joined[-1]._replace(end_ns=span.end_ns, rows=joined[-1].rows + 1)
        else:
            # Drafting makes one token a step; every other kind does all its rows in one.
            joined.append(Piece(span.kind, span.start_ns, span.end_ns, 1 if span.kind == "draft" else span.rows))
        before = span
    return joined


def lane(spans: Sequence[Span], window: Window, *, colour: bool, arrow: str = "") -> Text:
    """One track over the window. `arrow` marks messages too short to be seen as bars."""
    shown = [piece for piece in pieces(spans) if piece.end_ns > window.start_ns and piece.start_ns < window.end_ns]
    if not colour:
        return _letters(shown, window, arrow)
    eighths = bytearray(8 * window.cells)
    for piece in shown:
        first, last = window.eighth(piece.start_ns), window.eighth(piece.end_ns)
        first = min(first, 8 * window.cells - 1)
        last = max(last, first + 1)
        number = NAMES.index(piece.kind) + 1 if piece.kind in KINDS else 255
        eighths[first:last] = bytes([number]) * (last - first)
    cells = [_cell(eighths[8 * place : 8 * place + 8], arrow) for place in range(window.cells)]
    for before, piece in pairwise(shown):
        place = window.eighth(piece.start_ns) // 8
        if piece.kind == before.kind and place < window.cells and cells[place][1].startswith("on "):
            cells[place] = ("▏", f"{INK} on {kind_of(piece.kind).colour}")
    for piece in shown:
        _label(cells, piece, window)
    return _joined(cells)


def _letters(shown: Iterable[Piece], window: Window, arrow: str) -> Text:
    """The lane without colour: whole cells, each with the letter of its kind."""
    cells = [IDLE] * window.cells
    for piece in shown:
        kind = kind_of(piece.kind)
        first = min(window.cells - 1, round(window.eighth(piece.start_ns) / 8))
        last = max(first + 1, round(window.eighth(piece.end_ns) / 8))
        cells[first:last] = [arrow if kind.message and arrow else kind.letter] * (last - first)
    return Text("".join(cells))


def _cell(eighths: bytearray, arrow: str) -> tuple[str, str]:
    """Character and style of one cell from its eighths: at most two runs are drawn truly, more by the widest."""
    seen = set(eighths) - {0}
    if not seen:
        return IDLE, FRAME
    widest = max(seen, key=eighths.count)
    kind, cover = _kind(widest), eighths.count(widest)
    if kind.message and arrow and cover < 8:
        return arrow, kind.colour
    if cover == 8:
        return " ", f"on {kind.colour}"
    first, last = eighths[0], eighths[7]
    left = next(place for place, value in enumerate(eighths) if value != first)
    if eighths[left:] != bytes([last]) * (8 - left):
        return ("█" if cover >= 6 else "▌" if cover >= 3 else "▎"), kind.colour
    if not last:
        return EIGHTHS[left], kind.colour
    if not first:
        return EIGHTHS[left], f"{kind.colour} reverse"
    return EIGHTHS[left], f"{_kind(first).colour} on {_kind(last).colour}"


def _kind(number: int) -> Kind:
    return kind_of(NAMES[number - 1] if number <= len(NAMES) else "")


def _label(cells: list[tuple[str, str]], piece: Piece, window: Window) -> None:
    """Write the kind, with its rows where there is room, into the whole cells of a bar."""
    first, last = -(-window.eighth(piece.start_ns) // 8), window.eighth(piece.end_ns) // 8
    room = last - first - 2
    for text in (f"{piece.kind} {piece.rows}" if piece.rows > 1 else piece.kind, piece.kind):
        if len(text) <= room:
            style = f"bold {INK} on {kind_of(piece.kind).colour}"
            for offset, character in enumerate(text):
                cells[first + 1 + offset] = (character, style)
            return


def _joined(cells: Sequence[tuple[str, str]]) -> Text:
    """Cells as one Text, neighbours of one style together."""
    line = Text()
    run, style = "", ""
    for character, its in cells:
        if its != style and run:
            line.append(run, style)
            run = ""
        run, style = run + character, its
    line.append(run, style)
    return line


def axis(window: Window) -> Text:
    """Whole milliseconds of simulated time under the lanes."""
    length_ms = max(1e-6, (window.end_ns - window.start_ns) / NS_PER_MS)
    step = nice_step(length_ms * 14 / max(1, window.cells))
    line = [" "] * window.cells
    tick = -(-window.start_ns // (step * NS_PER_MS)) * step
    while tick * NS_PER_MS <= window.end_ns:
        place = min(window.eighth(tick * NS_PER_MS) // 8, window.cells - 1)
        label = f"╵{tick}"
        if place + len(label) <= window.cells:
            line[place : place + len(label)] = label
        tick += step
    return Text("".join(line), FRAME)
