"""What each key of a run's document means, for the documentation site and tests: patterns of paths with meanings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hilsim.describe.strict_yaml import parse

Path = tuple[str, ...]


@dataclass(frozen=True)
class ReportKey:
    """A pattern of paths, the unit of what lies there ("" for none), and its meaning."""

    pattern: str
    unit: str
    meaning: str

    def covers(self, path: Path) -> bool:
        """Whether a path is of this pattern."""
        parts = self.pattern.split(".")
        if parts[-1] == "**":
            parts, path = parts[:-1], path[: len(parts) - 1]
        return len(parts) == len(path) and all(map(matches, parts, path))


def matches(part: str, key: str) -> bool:
    """Whether one key is of one part of a pattern: one of several keys, with `*` for any beginning."""
    return any(key.endswith(one[1:]) if one.startswith("*") else key == one for one in part.split("|"))


@cache
def report_keys() -> tuple[ReportKey, ...]:
    """The table, in the order of the document."""
    text = files("hilsim.show").joinpath("report_keys.yaml").read_text(encoding="utf-8")
    return tuple(ReportKey(str(pattern), *row) for pattern, row in parse(text, "report_keys.yaml").data.items())


def paths_of(node: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value of a document, and of every empty list; items of a list have the list's own."""
    if isinstance(node, dict):
        for key, inside in node.items():
            yield from paths_of(inside, (*path, str(key)))
    elif isinstance(node, Sequence) and not isinstance(node, str) and node:
        for inside in node:
            yield from paths_of(inside, path)
    else:
        yield path
