"""Pydantic's complaints about a document in our words: file, line, found, expected, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hilsim.describe.figure import Record
from hilsim.describe.strict_yaml import Document, dotted
from hilsim.errors import Fault, ScenarioError

R = TypeVar("R", bound=Record)


def validated(record: type[R], document: Document, file: str) -> R:
    """A document as a record; pydantic's complaints become faults with line, found, expected and remedy."""
    try:
        return record.model_validate(document.data)
    except ValidationError as error:
        items = [part for item in error.errors() for part in apart(item)]
        raise ScenarioError([translate(record, item, document, file) for item in items]) from None


def apart(item: Any) -> list[Any]:
    """One complaint of a whole record may hold several faults, joined by " | "; each stands alone in a message."""
    if item["type"] != "value_error":
        return [item]
    parts = str(item["ctx"]["error"]).split(" | ")
    return [{**item, "ctx": {"error": part}} for part in parts]


def translate(record: type[BaseModel], item: Any, document: Document, file: str) -> Fault:
    """One pydantic complaint in our words."""
    # Discriminated unions add their tag to the path; it is no key of the file, so follow only what the data has.
    path: list[str | int] = []
    node = document.data
    for position, part in enumerate(item["loc"]):
        last = position == len(item["loc"]) - 1
        if (isinstance(node, dict) and part in node) or (
            isinstance(node, list) and isinstance(part, int) and part < len(node)
        ):
            node = node[part]
        elif not (last and item["type"] in ("missing", "union_tag_not_found")):
            continue
        path.append(part)
    # A missing key has its block's line; a value from --set has none.
    line = document.lines.get(tuple(path[:-1] if item["type"] == "missing" else path))
    place = dotted(tuple(path)) or "top level"
    where = f"{place} (line {line})" if line else place
    found = short(item["input"])
    match item["type"]:
        case "missing":
            return Fault(file, where, "nothing", f"the key {path[-1]!r}", "Add it.")
        case "extra_forbidden":
            known = known_keys(record, item["loc"][:-1])
            near = difflib.get_close_matches(str(path[-1]) if path else "", known, 1)
            remedy = f"Did you mean {near[0]!r}?" if near else "Remove it."
            return Fault(file, where, "an unknown key", f"one of {', '.join(known)}" if known else "known keys", remedy)
        case "value_error":
            message = str(item["ctx"]["error"])
            found, _, expected = message.partition("; ")
            return Fault(file, where, found, expected or "a consistent description")
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
            near = difflib.get_close_matches(item["ctx"]["tag"], tags, 1)
            remedy = f"Did you mean {near[0]!r}?" if near else ""
            key = item["ctx"]["discriminator"].strip("'")
            return Fault(file, where, f"{key} {item['ctx']['tag']!r}", f"one of {', '.join(tags)}", remedy)
        case _:
            return Fault(file, where, found, expectation(item))


EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "tuple_type": "a list",
}


def expectation(item: Any) -> str:
    """What a pydantic complaint wanted to see."""
    context = item.get("ctx", {})
    signs = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    if item["type"] in signs:
        sign = signs[item["type"]]
        return f"{words[sign]} {context[sign]:g}"
    if item["type"] == "literal_error":
        return f"one of {context['expected']}"
    if item["type"].startswith("union_tag"):
        return f"{context.get('discriminator', 'a tag')} to be one of {context.get('expected_tags', 'the known kinds')}"
    return EXPECTED.get(item["type"]) or str(item["msg"]).replace("Input should be ", "")


def known_keys(record: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that a record takes at a location, as far as it can be followed by field names and tags of unions.

    Where several records may stand there and no tag tells which, the keys of all.
    """
    inside = [record]
    for part in location:
        fields = inside[0].model_fields if len(inside) == 1 else {}
        if isinstance(part, int):
            continue
        if part in fields:
            inside = records_inside(fields[str(part)].annotation)
        else:
            inside = [other for other in inside if part in tags_of(other)]
    return list(dict.fromkeys(field.alias or name for one in inside for name, field in one.model_fields.items()))


def records_inside(annotation: Any) -> list[type[BaseModel]]:
    """The record types that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = [record for part in getattr(annotation, "__args__", ()) for record in records_inside(part)]
    return list(dict.fromkeys(found))


def tags_of(record: type[BaseModel]) -> set[object]:
    """The plain words that tell a record from the others of its union."""
    return {word for field in record.model_fields.values() for word in getattr(field.annotation, "__args__", ())}


def short(value: object) -> str:
    """A value as it fits into a message."""
    if isinstance(value, dict):
        return f"a block of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
