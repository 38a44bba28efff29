"""A page of a report: lines and paragraphs that never exceed it, plain where the encoding has no more."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hilsim.show.numbers import clean
from hilsim.show.terminal.paint import FRAME

WIDEST = 110
ASCII = str.maketrans(dict.fromkeys("█▏▎▍▌▋▊▉", "#") | {"·": "-", "–": "-", "…": "~", "→": ">", "⏎": "/", "µ": "u"})


class Page:
    """Prints lines that never exceed the page."""

    def __init__(self, console: Console):
        self.console = console
        self.width = min(console.width, WIDEST)
        self.plain = not console.encoding.lower().startswith("utf")

    def line(self, *parts: Text | str | tuple[str, str]) -> None:
        """One line, cut at the page's edge."""
        line = Text.assemble(*parts)
        line.rstrip()
        if line.cell_len > self.width:
            line.truncate(self.width, overflow="ellipsis")
        if self.plain:
            encoding = self.console.encoding
            line = Text(line.plain.translate(ASCII).encode(encoding, "replace").decode(encoding))
        self.console.print(line, no_wrap=True, overflow="crop", highlight=False)

    def title(self, content: str, aside: str = "") -> None:
        """The head of a section, with a remark where it fits."""
        self.line()
        room = len(content) + 2 + len(aside) <= self.width
        self.line((content, "bold"), ("  " + aside if room and aside else "", FRAME))

    def paragraph(self, content: Text | str, indent: int = 0, mark: str = "") -> None:
        """Wrapped text, with `mark` before its first line."""
        text = Text(clean(content)) if isinstance(content, str) else content
        for row, part in enumerate(text.wrap(self.console, max(10, self.width - indent))):
            part.rstrip()
            self.line(f"{mark if row == 0 else '':<{indent}}", part)
