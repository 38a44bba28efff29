"""Terminal parts that every view is made of: bars, panels, columns. Lines are rich Texts of an exact width.

Nothing here parses markup, so text from models stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

FRAME = "dim"
EIGHTHS = " ▏▎▍▌▋▊▉█"


def blocks(share: float, width: int) -> str:
    """A bar of block characters, `share` of `width` cells long to an eighth of a cell; visible unless it is 0."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    if share > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (EIGHTHS[rest] if rest else "")


def bar(share: float, width: int, style: str, empty: str = "·") -> Text:
    """A bar in its colour, the rest of its width dotted."""
    filled = blocks(share, width)
    return Text.assemble((filled, style), (empty * (width - len(filled)), FRAME))


def fitted(line: Text, width: int) -> Text:
    """The line cut or padded to exactly `width` cells."""
    line = line.copy()
    line.truncate(max(0, width), overflow="ellipsis", pad=True)
    return line


def spread(left: Text, right: Text, width: int) -> Text:
    """`left` and `right` at the two ends of a line; the left one gives way."""
    room = width - right.cell_len - 1
    if room < 8:
        return fitted(left, width)
    return Text.assemble(fitted(left, room), " ", right)


def panel(title: str, lines: Iterable[Text], width: int, height: int) -> list[Text]:
    """The lines in a box of exactly `width` by `height` cells."""
    inside = [fitted(line, width - 4) for line in lines][: height - 2]
    inside += [Text(" " * (width - 4))] * (height - 2 - len(inside))
    title = f" {title} " if len(title) + 6 <= width else ""
    top = Text.assemble(("╭─", FRAME), (title, "bold"), ("─" * (width - 3 - len(title)) + "╮", FRAME))
    bottom = Text("╰" + "─" * (width - 2) + "╯", FRAME)
    return [top, *(Text.assemble(("│ ", FRAME), line, (" │", FRAME)) for line in inside), bottom]


def beside(left: Sequence[Text], right: Sequence[Text]) -> list[Text]:
    """Two columns of the same height."""
    return [Text.assemble(one, other) for one, other in zip(left, right, strict=True)]
