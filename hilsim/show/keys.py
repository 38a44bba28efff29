"""Keys of described files as a reader sees them: one explained in full, or those of a block as a list."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.describe.keys import Key, example_of


def print_keys(console: Console, keys: Sequence[Key], listed: bool) -> None:
    """Keys in full, or as a list."""
    if listed:
        console.print(key_table(keys))
        return
    for place, key in enumerate(keys):
        if place:
            console.print()
        for line in key_lines(key):
            console.print(Text(line), soft_wrap=False)


def key_lines(key: Key) -> Iterator[str]:
    """One key, line by line: what it means, takes, defaults to, and how a shipped file writes it."""
    yield f"{key.kind}: {key.path}{f' ({key.block})' if key.block else ''}"
    for paragraph in (key.meaning or key.about).split("\n\n"):
        yield from textwrap.wrap(" ".join(paragraph.split()), 100, initial_indent="  ", subsequent_indent="  ")
    yield f"  takes    {', '.join(part for part in (key.takes, key.bounds, key.unit) if part)}"
    yield f"  default  {'none: it must be given' if key.required else key.default or 'nothing'}"
    value, file = example_of(key)
    if value and len(value) <= 200:
        yield f"  example  {value}   ({file})"


def key_table(keys: Sequence[Key]) -> Table:
    """Keys by path, with what they take and mean."""
    table = Table("key", "takes", "default", "meaning", box=None, header_style="bold", pad_edge=False)
    for key in keys:
        path = f"{key.path}{f' ({key.block})' if key.block else ''}"
        limits = ", ".join(part for part in (key.takes, key.bounds, key.unit) if part)
        table.add_row(Text(path), Text(limits), Text("required" if key.required else key.default), Text(key.meaning))
    return table
