"""Keys of described files as a reader sees them: one explained in full, or those of a block as a list."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hilsim.describe.keys import Key, by_block, example_of, name_of

MOST_COLUMNS = 100  # of text that is read line by line
MOST_DEFAULT = 24  # letters of a default in a list; that of a whole block is shown with the key alone


def print_keys(console: Console, keys: Sequence[Key], listed: bool, also: Sequence[str] = ()) -> None:
    """Keys in full, or as a list, a table a block; then the names of others that may be meant."""
    columns = min(console.width, MOST_COLUMNS)
    if listed:
        print_list(console, keys)
    for place, key in enumerate(() if listed else keys):
        if place:
            console.print()
        for line in key_lines(key, columns):
            console.print(Text(line), soft_wrap=True)
    if also:
        console.print()
        for line in wrapped("also", ", ".join(also), columns):
            console.print(Text(line), soft_wrap=True)


def key_lines(key: Key, columns: int) -> Iterator[str]:
    """One key, line by line: what it means, takes, defaults to, and how a shipped file writes it."""
    yield f"{key.kind}: {key.path}{f' ({key.block})' if key.block else ''}"
    for paragraph in re.split(r"\n\n|\n(?=- )", key.meaning or key.about):
        yield from wrapped("", " ".join(paragraph.split()), columns)
    yield from wrapped("takes", key.limits, columns)
    yield from wrapped("default", "none: it must be given" if key.required else key.default or "nothing", columns)
    if key.earlier:
        yield from wrapped("earlier", f"{key.earlier}, which is still read", columns)
    value, file = example_of(key)
    if value and len(value) <= 200:
        yield from wrapped("example", f"{value}   ({file})", columns)


def wrapped(label: str, text: str, columns: int) -> Iterator[str]:
    """A text beside its label, which further lines leave room for."""
    first = f"  {label:9}" if label else "  "
    yield from textwrap.wrap(
        text, columns, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )


def print_list(console: Console, keys: Sequence[Key]) -> None:
    """Keys in short, under the block that they belong to."""
    longest = max(len(name_of(key)) for key in keys)
    for place, block in enumerate(by_block(keys)):
        if place:
            console.print()
        if block.path:
            named = f", {block.tag}: {block.name}" if block.tag else f" ({block.name})" if block.name else ""
            console.print(Text(f"{block.path}{named}", style="bold"))
            console.print(Padding(Text(" ".join(block.about.partition("\n\n")[0].split())), (0, 0, 0, 2)))
        if block.keys:
            table = key_table(block.keys, min(longest, console.width // 3))
            console.print(Padding(table, (0, 0, 0, 2 if block.path else 0)))


def key_table(keys: Sequence[Key], longest: int) -> Table:
    """Keys of one block, with what they mean, take and default to."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("key", min_width=longest, overflow="fold", style="cyan")
    table.add_column("meaning", ratio=3)
    table.add_column("takes", ratio=2)
    for key in keys:
        short = key.default if len(key.default) <= MOST_DEFAULT and key.default not in ("[]", "{}") else ""
        rest = "; required" if key.required else f"; default {short}" if short else ""
        table.add_row(name_of(key), Text(key.meaning), Text(f"{key.limits}{rest}"))
    return table
