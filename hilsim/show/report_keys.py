"""What each key of a run's document means, for the documentation site and tests: patterns of paths with meanings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hilsim.describe.strict_yaml import parse

Path = tuple[str, ...]
# Of units that are no numbers; figures of a file keep theirs.
TYPES = {"text": "string", "true or false": "boolean"}


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


def report_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document: of every key its meaning, its unit as `x-unit`, and its type."""
    defined: dict[str, dict[str, Any]] = {}

    def node(path: Path) -> dict[str, Any]:
        """The schema of what lies at a path, or of each item of the list there."""
        name = ".".join(path) or "document"
        return defined.setdefault(name, {"items": {"$ref": f"#/$defs/{name}"}})

    def children(path: Path, part: str) -> Iterator[Path]:
        """What lies a block down, entered into its parent."""
        parent = node(path)
        parent.setdefault("additionalProperties", False)
        for one in part.split("|"):
            places, key = ("patternProperties", f"{one[1:]}$") if one.startswith("*") else ("properties", one)
            node((*path, one))
            parent.setdefault(places, {})[key] = {"$ref": f"#/$defs/{'.'.join((*path, one))}"}
            yield (*path, one)

    for key in report_keys():
        parts = key.pattern.split(".")
        paths: list[Path] = [()]
        for part in parts[: len(parts) - (parts[-1] == "**")]:
            paths = [inner for path in paths for inner in children(path, part)]
        for path in paths:
            found = node(path)
            if parts[-1] == "**":
                found["additionalProperties"] = True
                found.setdefault("description", key.meaning)
            else:
                found["description"] = key.meaning
                if key.unit:
                    found |= {"x-unit": key.unit, "type": [TYPES.get(key.unit, "number"), "array", "null"]}
    title = "The document of hilsim simulate --json"
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": title, "$ref": "#/$defs/document", "$defs": defined}
