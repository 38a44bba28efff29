"""YAML without its surprises: no duplicate keys, no sexagesimal numbers, no yes/no booleans, no tags, no aliases.

Plain `yaml.safe_load` lets the last duplicate win, reads `1e9` as text and `12:30` as 750. Every file of hilsim
comes through here, with the line of every value kept for messages.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from hilsim.errors import Fault, ScenarioError

MAX_DEPTH = 40
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data and the line (from 1) where each value stands."""

    data: Any
    lines: dict[Path, int]


def parse(text: str, file: str) -> Document:
    """Parse one document. Raises `ScenarioError` with every duplicate key, alias and tag found."""
    faults: list[Fault] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark else ""
        found = (error.problem or "unreadable text").removeprefix("found ")
        raise ScenarioError([Fault(file, place, found, "YAML", "Check indentation and quotes.")]) from None
    except (yaml.YAMLError, RecursionError) as error:
        found = getattr(error, "reason", None) or "nesting that is too deep or characters that no YAML has"
        raise ScenarioError([Fault(file, "", str(found), "YAML text")]) from None
    lines: dict[Path, int] = {}
    data = None if root is None else plain(root, (), lines, faults, file)
    if faults:
        raise ScenarioError(faults)
    return Document(data, lines)


def plain(node: yaml.Node, path: Path, lines: dict[Path, int], faults: list[Fault], file: str) -> Any:
    """A composed node as dictionaries, lists and scalars; faults are collected, not raised."""
    line = node.start_mark.line + 1
    if path in lines or len(path) > MAX_DEPTH:
        faults.append(Fault(file, f"line {line}", "an alias or too deep a nesting", "the value written out"))
        return None
    lines[path] = line
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            key_line = key_node.start_mark.line + 1
            if key is None:
                faults.append(Fault(file, f"line {key_line}", "a key that is no plain word", "a name"))
            elif key in mapping:
                first = lines[(*path, key)]
                place = f"{dotted((*path, key))} (line {key_line})"
                faults.append(Fault(file, place, f"a second value (the first is in line {first})", "each key once"))
            else:
                mapping[key] = plain(value_node, (*path, key), lines, faults, file)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [plain(child, (*path, index), lines, faults, file) for index, child in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None:
        if not (node.tag or "").startswith("tag:yaml.org,2002:"):
            faults.append(Fault(file, f"{dotted(path)} (line {line})", f"the tag {node.tag}", "plain data"))
        return scalar(node.value)
    return node.value


def scalar(text: str) -> str | int | float | bool | None:
    """An unquoted scalar: true, false, null, a decimal number, or text."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.match(text) and len(text) < 40:
        return int(text.replace("_", ""))
    if NUMBER.match(text):
        number = float(text.replace("_", ""))
        return number if math.isfinite(number) else text
    return text


def dotted(path: Path) -> str:
    """A path as it is written in messages and in --set: `placement.target.widths[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
