"""YAML without its surprises: no duplicate keys, no sexagesimal numbers, no yes/no booleans, no tags, no aliases.

Plain `yaml.safe_load` lets the last duplicate win, reads `1e9` as text and `12:30` as 750. Every file of hilsim
comes through here, with the line of every value for messages.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from hilsim.errors import Fault, ScenarioError
from hilsim.files import is_text

MAX_DEPTH = 40
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain data and the line (from 1) of each value."""

    data: Any
    lines: dict[Path, int]


@lru_cache(maxsize=256)
def parse(text: str, file: str) -> Document:
    """Parse one document. Raises `ScenarioError` with every duplicate key, alias and tag found.

    Studies read the same chips for every version of a scenario, so what was read is cached and never changed.
    """
    try:
        root, tags = quickly_composed(text), []
        if root is None:
            tags = list(explicit_tags(text))
            root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}" if mark else ""
        found = (error.problem or "unreadable text").removeprefix("found ")
        tab = r"'\t'" in found  # as PyYAML shows the character
        rest = "Check indentation, quotes, and the blank after each colon."
        remedy = "Indent by blanks; YAML takes no tab there." if tab else rest
        raise ScenarioError([Fault(file, place, found, "YAML", remedy)]) from None
    except (yaml.YAMLError, RecursionError) as error:
        found = getattr(error, "reason", None) or "nesting that is too deep or characters that no YAML has"
        raise ScenarioError([Fault(file, "", str(found), "YAML text")]) from None
    walk = NodeReader(file)
    for line, tag in tags:
        walk.fault(f"line {line}", f"the tag {tag}", "plain data")
    data = None if root is None else walk.plain(root, ())
    if walk.faults:
        raise ScenarioError(walk.faults)
    return Document(data, walk.lines)


def quickly_composed(text: str) -> yaml.Node | None:
    """The root of the document by libyaml, some ten times as quickly; None where it may differ from PyYAML.

    PyYAML is to say what is wrong, as its messages have the place. It alone refuses tabs inside plain text, question
    marks in plain text inside brackets, and characters that are not printable; tags are read in another way.
    """
    odd = any(mark in text for mark in "\t!") or ("?" in text and ("[" in text or "{" in text))
    if odd or not yaml.__with_libyaml__ or yaml.reader.Reader.NON_PRINTABLE.search(text):
        return None
    try:
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return None


def explicit_tags(text: str) -> Iterator[tuple[int, str]]:
    """Every tag that is written out, with its line; what PyYAML guesses for bare scalars is none."""
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag is not None:
            yield (event.start_mark.line + 1 if event.start_mark is not None else 0), str(event.tag)


class NodeReader:
    """One pass over the composed nodes; faults are collected, not raised."""

    def __init__(self, file: str):
        self.file = file
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self.seen: set[int] = set()

    def fault(self, place: str, found: str, expected: str) -> None:
        self.faults.append(Fault(self.file, place, found, expected))

    def plain(self, node: yaml.Node, path: Path) -> Any:
        """A node as dictionaries, lists and scalars."""
        line = node.start_mark.line + 1
        # An alias is the same node met twice, wherever it stands.
        if id(node) in self.seen or len(path) > MAX_DEPTH:
            what = "an alias" if id(node) in self.seen else f"more than {MAX_DEPTH} levels"
            self.fault(f"{dotted(path)} (line {line})", what, "the value written out")
            return None
        self.seen.add(id(node))
        self.lines[path] = line
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(child, (*path, index)) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if not is_text(node.value):
            self.fault(f"{dotted(path)} (line {line})", "half a character (a lone surrogate)", "text")
        return node.value if node.style else scalar(node.value)  # libyaml has "" for none

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        """A block of keys, each a plain name and each once."""
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(f"line {line}", "a key that is not a plain name", "a name")
                continue
            key = key_node.value
            if key in found:
                place = f"{dotted((*path, key))} (line {line})"
                self.fault(place, f"a second value (the first is in line {self.lines[*path, key]})", "each key once")
                continue
            found[key] = self.plain(value_node, (*path, key))
            self.lines.setdefault((*path, key), line)
        return found


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
