"""What each key of the JSON documents means, for the documentation site and tests: patterns of paths with meanings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from hilsim.describe.strict_yaml import parse

Path = tuple[str, ...]
# The commands that print a document, and its file under json_keys/.
DOCUMENTS = {
    "simulate --json": "simulate",
    "check --json": "check",
    "modes --json": "modes",
    "measure-first --json": "measure_first",
    "campaign --json": "campaign",
    "quality --json": "quality",
    "acceptance show --json": "acceptance",
    "validate --json": "validate",
    "validate --speculation --json": "validate_speculation",
    "validate --trace --json": "validate_trace",
}
# Of units that are no numbers; figures of a file keep theirs.
TYPES = {"text": "string", "true or false": "boolean"}


@dataclass(frozen=True)
class DocumentKey:
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
    """Whether one key is of one part of a pattern: one of several keys, where `*` is any text."""
    return any(fnmatchcase(key, one) for one in part.split("|"))


@cache
def document_keys(command: str = "simulate --json") -> tuple[DocumentKey, ...]:
    """The table of one of `DOCUMENTS`, in the order of the document."""
    name = f"{DOCUMENTS[command]}.yaml"
    text = files("hilsim.show").joinpath("json_keys", name).read_text(encoding="utf-8")
    return tuple(DocumentKey(str(pattern), *row) for pattern, row in parse(text, name).data.items())


def without_meaning(command: str, document: Any) -> list[str]:
    """The paths of a document that none of its command's keys covers, in order."""
    keys = document_keys(command)
    return sorted(".".join(path) for path in set(paths_of(document)) if not any(key.covers(path) for key in keys))


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
            pattern = f"^{'.*'.join(one.split('*'))}$"  # keys have letters, figures and _ alone
            places, key = ("patternProperties", pattern) if "*" in one else ("properties", one)
            node((*path, one))
            parent.setdefault(places, {})[key] = {"$ref": f"#/$defs/{'.'.join((*path, one))}"}
            yield (*path, one)

    for key in document_keys():
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
