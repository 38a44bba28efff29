"""Every key of the described files as a row: what it takes, its default, its unit, what it means, and an example."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from hilsim.describe.catalogue import FOLDERS
from hilsim.describe.names import UNITS
from hilsim.describe.schema import schema_of
from hilsim.describe.strict_yaml import parse
from hilsim.describe.tagged import KIND
from hilsim.files import read_text
from hilsim.places import DATA

FIGURE = ("value", "unit", "kind", "source", "range")
TYPES = {
    "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null",
    "object": "block", "array": "list",
}  # fmt: skip
BOUNDS = {
    "minimum": "{} or more", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
    "minLength": "{} letters or more", "maxLength": "at most {} letters", "minItems": "{} of them or more",
    "maxItems": "at most {} of them", "minProperties": "{} of them or more",
}  # fmt: skip
PAIRS = (
    ("minimum", "maximum", "{}"), ("minLength", "maxLength", "{} letters"), ("minItems", "maxItems", "{} of them"),
)  # fmt: skip


@dataclass(frozen=True)
class Key:
    """One key of a kind of file.

    `path` is dotted, with `NAME` for a name of the user's choice and `[]` for a place in a list; `block` says which of
    several kinds of block it belongs to, such as `sync` of a policy. `meaning` falls back on that of its whole block.
    """

    kind: str
    path: str
    block: str
    takes: str
    bounds: str
    unit: str
    default: str
    required: bool
    meaning: str
    about: str  # what its block is
    earlier: str = ""  # the word that it had before, which is still read

    @property
    def is_tag(self) -> bool:
        """Whether its one value chooses the block, so that what it means is what the block is."""
        return self.takes == self.block != ""

    @property
    def limits(self) -> str:
        """What it takes, in which range and unit."""
        return ", ".join(part for part in (self.takes, " ".join(filter(None, (self.bounds, self.unit)))) if part)


@dataclass(frozen=True)
class KeyBlock:
    """Keys that stand beside each other; `tag` is the key whose value `name` chooses this block among others."""

    path: str
    tag: str
    name: str
    about: str
    keys: tuple[Key, ...]  # but for the tag


@cache
def keys_of(kind: str) -> tuple[Key, ...]:
    """All keys of a kind of file, in the order of its records."""
    schema = schema_of(kind)
    return tuple(dict.fromkeys(walk(kind, schema, schema["$defs"], "", ())))


def walk(
    kind: str, block: Mapping[str, Any], records: Mapping[str, Any], path: str, inside: tuple[str, ...], of: str = ""
) -> Iterator[Key]:
    """The keys of a block, then those inside them.

    `inside` are the records on the way, so that none recurs; `of` is what the block is called among others there.
    """
    needed, below = [*block.get("required", ()), *([KIND] if "anyOf" in block else ())], []
    properties = block.get("properties", {})
    earlier = next((name for name, found in properties.items() if found.get("deprecated")), "")
    for name, found in properties.items():
        if name == earlier:
            continue
        place = f"{path}.{name}" if path else name
        words, nested = takes(found, records), list(blocks(found, records, place))
        yield Key(
            kind,
            place,
            of,
            words,
            ", ".join(dict.fromkeys(bounds(found, records))),
            UNITS.get(name.rpartition("_")[2], "") if "figure" not in words else "",
            "" if name in needed or found.get("default") is None else written(found["default"]),
            name in needed,
            found.get("description", ""),
            block.get("description", ""),
            earlier if name == KIND else "",
        )
        below += [(*one, len(nested) > 1) for one in nested]
    for place, record, title, several in below:
        if title not in inside:
            called = (tag_of(record) or title) if several else ""
            yield from walk(kind, record, records, place, (*inside, title), called)


def parent_of(key: Key) -> str:
    """The path of the block that a key is in."""
    return key.path.rpartition(".")[0]


def name_of(key: Key) -> str:
    """A key's name in its block."""
    return key.path.rpartition(".")[2]


def by_block(keys: Iterable[Key]) -> Iterator[KeyBlock]:
    """Keys in their order, by the block that they are in."""
    for (path, name), inside in groupby(keys, lambda key: (parent_of(key), key.block)):
        found = tuple(inside)
        tag = next((name_of(key) for key in found if key.is_tag), "")
        yield KeyBlock(path, tag, name, found[0].about, tuple(key for key in found if not key.is_tag))


def alternatives(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a value may follow."""
    return list(found.get("anyOf") or found.get("oneOf") or [found])


def is_figure(record: Mapping[str, Any]) -> bool:
    """Whether a block is a number with its unit and source."""
    return set(FIGURE) == set(record.get("properties", ()))


def tag_of(record: Mapping[str, Any]) -> str:
    """The value that tells a block from the others of its union; "" where it has none."""
    return next((str(one["const"]) for one in record.get("properties", {}).values() if "const" in one), "")


def by_name(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of what a block has under each name of the user's choice; empty of any other value."""
    found = [*one.get("patternProperties", {}).values(), one.get("additionalProperties")]
    return next((named for named in found if isinstance(named, dict)), {})


def blocks(
    found: Mapping[str, Any], records: Mapping[str, Any], path: str
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """The blocks of keys that a value may be or hold, with path and name; a figure is none, as all are alike."""
    for one in alternatives(found):
        if "$ref" in one:
            title = one["$ref"].rpartition("/")[2]
            if not is_figure(records[title]):
                yield path, records[title], title
        elif one.get("type") == "array" and isinstance(one.get("items"), dict):
            yield from blocks(one["items"], records, f"{path}[]")
        elif named := by_name(one):
            yield from blocks(named, records, f"{path}.NAME")
        elif "anyOf" in one or "oneOf" in one:
            yield from blocks(one, records, path)


def takes(found: Mapping[str, Any], records: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    words = [word for one in alternatives(found) for word in taken(one, records)]
    tags = [word for word in words if word.startswith("block ")]
    words = [word for word in dict.fromkeys(words) if word not in (*tags, "null")]  # null is as good as no key
    if tags:
        named = [word.removeprefix("block ") for word in dict.fromkeys(tags) if word != "block "]
        alone = {str(name) for one in alternatives(found) for name in one.get("enum", ())}  # shorthand for a block
        if alone and alone <= set(named):
            rest = " or ".join(name for name in named if name not in alone)
            return f"block: {', '.join(named)}; also a plain name{f', but for {rest}' if rest else ''}"
        words.append(f"block: {', '.join(named)}" if named else "block")
    return " or ".join(words)


def taken(one: Mapping[str, Any], records: Mapping[str, Any]) -> Iterator[str]:
    """What one alternative is, in words."""
    if "$ref" in one:
        record = records[one["$ref"].rpartition("/")[2]]
        if is_figure(record):
            units = one.get("properties", {}).get("unit", {}).get("enum", ())
            yield f"figure in {', '.join(units)}" if units else "figure"
        else:
            yield f"block {tag_of(record)}"
    elif "anyOf" in one or "oneOf" in one:
        yield takes(one, records)
    elif "const" in one:
        yield written(one["const"])
    elif "enum" in one:
        yield f"one of {', '.join(map(written, one['enum']))}"
    elif one.get("type") == "array":
        items = one.get("items")
        yield f"list of {takes(items, records)}" if isinstance(items, dict) and items else "list"
    elif named := by_name(one):
        yield f"names, each with {takes(named, records)}"
    else:
        yield TYPES.get(str(one.get("type")), "any value")


def bounds(found: Mapping[str, Any], records: Mapping[str, Any]) -> Iterator[str]:
    """The range of a value."""
    for one in alternatives(found):
        found_bounds = dict(one)
        for low, high, text in PAIRS:
            if low in one and high in one:
                least, most = (short_number(found_bounds.pop(key)) for key in (low, high))
                yield text.format(least if least == most else f"{least} to {most}")
        for key, text in BOUNDS.items():
            if key in found_bounds:
                yield text.format(short_number(found_bounds[key])).replace("1 letters", "1 letter")
        if isinstance(one.get("items"), dict):
            yield from (f"each {bound}" for bound in bounds(one["items"], records))


def short_number(value: float) -> str:
    """A bound as people write it: 1,000,000, 0.01, 1e+15."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e10 else f"{value:g}"


def written(value: object) -> str:
    """A value as YAML has it, on one line."""
    match value:
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case dict():
            return "{" + ", ".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(written, value)) + "]"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def example_of(key: Key) -> tuple[str, str]:
    """A shipped value of a key, and the file that has it; two empty texts where none has."""
    *steps, last = re.findall(r"\[\]|[^.\[\]]+", key.path)
    for file in sorted((DATA / FOLDERS[key.kind]).glob("*.yaml")):
        for block in values_at(parse(read_text(file), str(file)).data, steps):
            if is_block(block, key):
                for value in values_at(block, [last]):
                    return written(value), file.name
    return "", ""


def is_block(data: Any, key: Key) -> bool:
    """Whether data is the kind of block that a key belongs to: by its tag, or by having the keys of this kind."""
    if not key.block or not isinstance(data, dict):
        return True
    beside = [one for one in keys_of(key.kind) if (one.block, parent_of(one)) == (key.block, parent_of(key))]
    if any(one.is_tag for one in beside):
        return key.block in data.values()
    return set(data) <= {name_of(one) for one in beside} and {name_of(one) for one in beside if one.required} <= {*data}


def values_at(data: Any, steps: list[str]) -> Iterator[Any]:
    """The values that a path leads to."""
    if not steps:
        yield data
    elif steps[0] == "[]":
        for one in data if isinstance(data, list) else ():
            yield from values_at(one, steps[1:])
    elif isinstance(data, dict):
        for name in data if steps[0] == "NAME" else [steps[0]] if steps[0] in data else ():
            yield from values_at(data[name], steps[1:])
