"""Pydantic's validation errors as `Fault` records: file, line, found, expected, remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from hilsim.describe.figure import NAME, PLAIN_NAME, Record
from hilsim.describe.foreign import kind_meant, meant_by, value_meant
from hilsim.describe.names import key_hint
from hilsim.describe.strict_yaml import Document, dotted
from hilsim.describe.tagged import KIND
from hilsim.errors import Fault, Misfit, Misfits, ScenarioError

R = TypeVar("R", bound=Record)


def validated(record: type[R], document: Document, file: str) -> R:
    """A document as a record; pydantic's complaints become faults with line, found, expected and remedy."""
    try:
        return record.model_validate(document.data)
    except ValidationError as error:
        items = [part for item in error.errors() for part in apart(item)]
        raise ScenarioError([translate(record, item, document, file) for item in items]) from None


def apart(item: Any) -> list[Any]:
    """One complaint of a whole record may hold several faults; each gets a message of its own."""
    error = item["ctx"]["error"] if item["type"] == "value_error" else None
    return [{**item, "ctx": {"error": one}} for one in error.misfits] if isinstance(error, Misfits) else [item]


def translate(record: type[BaseModel], item: Any, document: Document, file: str) -> Fault:
    """One pydantic error as a `Fault`."""
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
    if item["type"] == "value_error":
        path += item["ctx"]["error"].path
    # A missing key has its block's line; a value from --set has none.
    line = document.lines.get(tuple(path[:-1] if item["type"] == "missing" else path))
    place = dotted(tuple(path)) or "top level"
    where = f"{place} (line {line})" if line else place
    found = short(item["input"])
    match item["type"]:
        case "missing":
            return Fault(file, where, "nothing", f"the key {path[-1]!r}", "Add it.")
        case "extra_forbidden":
            wrong = str(path[-1]) if path else ""
            known = known_keys(record, item["loc"][:-1], wrong)
            remedy = remedy_of_key(record, wrong, dotted(tuple(path[:-1])), known)
            return Fault(file, where, "an unknown key", f"one of {', '.join(known)}", remedy)
        case "value_error":
            error: Misfit = item["ctx"]["error"]
            return error.fault(file, where, "a consistent description")
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
            earlier, *_, key = words_for_kind(item)
            wrong = item["ctx"]["tag"]
            meant = kind_meant(earlier, wrong, tags)
            remedy = f"Did you mean {meant!r}?" if meant else key_hint(wrong, tags)
            return Fault(file, where, f"{key} {wrong!r}", f"one of {', '.join(tags)}", remedy)
        case "union_tag_not_found":
            field, *_, key = words_for_kind(item)
            given = [word for word in (field, key) if isinstance(item["input"], dict) and word in item["input"]]
            found = f"{given[0]} {short(item['input'][given[0]])}" if given else f"no key {key!r} in {found}"
            return Fault(file, where, found, f"the key {key!r}, one of {kinds_at(record, item['loc'], field)}")
        case "model_attributes_type" if kinds := kinds_at(record, item["loc"], KIND):
            return Fault(file, where, found, f"a block with the key 'kind', one of {kinds}")
        case _:
            remedy = value_meant(path, item["input"])
            if item["type"] == "literal_error" and isinstance(item["input"], str):
                remedy = key_hint(item["input"], re.findall(r"'([^']*)'", item["ctx"]["expected"]))
            return Fault(file, where, found, expectation(item), remedy)


def words_for_kind(item: Any) -> list[str]:
    """The words by which a union's tag may be given: that of the field, then that of files; or the one there is."""
    words = re.findall(r"\w+", item["ctx"]["discriminator"])
    return [words[0], words[-1]]


def kinds_at(record: type[BaseModel], location: Sequence[str | int], word: str) -> str:
    """The kinds that a block may be of at a location, by the key that says which; "" where no union is."""
    at = records_at(record, location)
    tags = [[field for name, field in one.model_fields.items() if word in (name, field.alias)] for one in at]
    kinds = [kind for fields in tags for field in fields for kind in get_args(field.annotation)]
    return ", ".join(dict.fromkeys(map(str, kinds))) if len(at) > 1 and all(tags) else ""


def remedy_of_key(record: type[BaseModel], wrong: str, block: str, known: Sequence[str]) -> str:
    """What to do about an unknown key: what another program means by it, a slip, its right block, or away with it."""
    if sentence := meant_by(wrong, record.__name__, block, known):
        return sentence
    if slip := key_hint(wrong, known):
        return slip
    blocks = list(dict.fromkeys(blocks_with(record, wrong)))
    if (here := re.sub(r"\[\d+\]", "", block)) in blocks and here:
        return f"Another kind of {here.rpartition('.')[2]} has it. Remove it, or change the kind."
    if len(wrong) > 3 and len(blocks) == 1:
        return f"That key belongs {f'in the block {blocks[0]}' if blocks[0] else 'at the top level'}."
    return "Remove it."


def blocks_with(record: type[BaseModel], wanted: str, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """The dotted blocks of a described thing that have a key of this name."""
    for name, field in record.model_fields.items():
        if (field.alias or name) == wanted:
            yield prefix
        for inside in records_inside(field.annotation) if depth < 2 else ():
            yield from blocks_with(inside, wanted, f"{prefix}.{name}" if prefix else name, depth + 1)


SIGNS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
WORDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
WHOLE, NUMBER, TEXT, FLAG, BLOCK, LIST = (
    "a whole number",
    "a number",
    "text",
    "true or false",
    "a block of keys",
    "a list",
)
# By the beginning of pydantic's name for a complaint; the longest beginning counts, and "" stands for all others.
EXPECTED = {
    "int_": WHOLE,
    "float_": NUMBER,
    "finite_number": "a finite number",
    "decimal_": NUMBER,
    "fraction_": NUMBER,
    "complex_": NUMBER,
    "string_": TEXT,
    "bytes_": TEXT,
    "bool_": FLAG,
    "dict_": BLOCK,
    "mapping_": BLOCK,
    "model_": BLOCK,
    "dataclass_": BLOCK,
    "frozen_dict_type": BLOCK,
    "ordered_dict_type": BLOCK,
    "counter_type": BLOCK,
    "arguments_type": BLOCK,
    "list_type": LIST,
    "tuple_type": LIST,
    "set_": LIST,
    "frozen_set_type": LIST,
    "deque_type": LIST,
    "iterable_type": LIST,
    "iteration_error": LIST,
    "named_tuple_type": LIST,
    "none_required": "nothing (null)",
    "invalid_key": "a plain name as key",
    "recursion_": "a description without circles",
    "date": "a date",
    "time": "a time",
    "url_": "an address",
    "uuid_": "a UUID",
    "": "a value of another kind",
}
PATTERNS = {
    NAME: "a name of letters, digits, dots, dashes and underscores that begins with a letter or digit",
    PLAIN_NAME: "a name of letters, digits, dashes and underscores that begins with a letter or digit",
}


def expectation(item: Any) -> str:
    """What a pydantic error expected, in plain English."""
    kind, context = item["type"], item.get("ctx") or {}
    if kind in SIGNS:
        return f"{WORDS[SIGNS[kind]]} {context[SIGNS[kind]]:g}"
    if kind in ("literal_error", "enum"):
        return f"one of {str(context['expected']).replace(' or ', ', ')}"
    if kind == "multiple_of":
        return f"a multiple of {context['multiple_of']:g}"
    if kind in ("string_too_short", "bytes_too_short"):
        return f"a text of at least {context['min_length']} letters"
    if kind in ("string_too_long", "bytes_too_long"):
        return f"a text of at most {context['max_length']} letters"
    if kind == "too_short":
        return f"at least {context['min_length']} of them"
    if kind == "too_long":
        return f"at most {context['max_length']} of them"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return PATTERNS.get(pattern, f"a text of the form {pattern}")
    if kind == "int_parsing_size":
        return "a number of fewer digits"
    return EXPECTED[max((beginning for beginning in EXPECTED if kind.startswith(beginning)), key=len)]


def known_keys(record: type[BaseModel], location: Sequence[str | int], wrong: str) -> list[str]:
    """The keys of the records allowed at a location, of those alone that do not have the key that is `wrong` there."""
    keys = [[field.alias or name for name, field in one.model_fields.items()] for one in records_at(record, location)]
    return list(dict.fromkeys(key for of in keys if wrong not in of for key in of))


def records_at(record: type[BaseModel], location: Sequence[str | int]) -> list[type[BaseModel]]:
    """The records allowed at a location, followed by field names, by tags of unions, and by keys of mappings."""
    inside = [record]
    for part in location:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field for one in inside for name, field in one.model_fields.items()}
        if len(inside) > 1 and any(part in tags_of(other) for other in inside):
            inside = [other for other in inside if part in tags_of(other)]
        elif part in fields:
            inside = records_inside(fields[part].annotation)
        # Any other part is the key of a mapping, whose records are already here.
    return inside


def records_inside(annotation: Any) -> list[type[BaseModel]]:
    """The record types that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = [record for part in getattr(annotation, "__args__", ()) for record in records_inside(part)]
    return list(dict.fromkeys(found))


def tags_of(record: type[BaseModel]) -> set[object]:
    """The literal values that distinguish a record from the others of its union: of any field."""
    fields = record.model_fields.values()
    return {word for one in fields for word in getattr(one.annotation, "__args__", ()) if isinstance(word, str)}


def short(value: object) -> str:
    """A value as it fits into a message."""
    if isinstance(value, dict):
        return f"a block of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
