"""Pydantic's validation errors as `Fault` records: file, line, found, expected, remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from hilsim.describe.figure import NAME, PLAIN_NAME, Record
from hilsim.describe.foreign import head_meant, kind_meant, meant_by, value_meant
from hilsim.describe.names import key_hint
from hilsim.describe.strict_yaml import Document, dotted
from hilsim.describe.tagged import KIND
from hilsim.errors import Fault, Misfit, Misfits, ScenarioError

R = TypeVar("R", bound=Record)
SHOWN_BY = {  # the command that a file of a kind is for
    "scenario": "simulate", "study": "study", "campaign": "campaign", "chip": "chip", "acceptance": "acceptance show",
}  # fmt: skip


def validated(record: type[R], document: Document, file: str) -> R:
    """A document as a record; pydantic's complaints become faults with line, found, expected and remedy."""
    try:
        return record.model_validate(document.data)
    except ValidationError as error:
        if fault := another_kind(record, document.data, file):
            raise ScenarioError([fault]) from None
        items = [part for item in error.errors() for part in apart(item) if not is_long_enough(item)]
        raise ScenarioError([translate(record, item, document, file) for item in items]) from None


def another_kind(record: type[BaseModel], data: object, file: str) -> Fault | None:
    """The one fault of a file whose keys are all of another kind of file, with every key that this one needs."""
    from hilsim.describe.schema import RECORDS

    ours = next((kind for kind, one in RECORDS.items() if one is record), "")
    if not ours or not isinstance(data, dict):
        return None
    for kind, other in RECORDS.items():
        keys = {word for name, field in other.model_fields.items() for word in (name, field.alias) if word}
        needed = {field.alias or name for name, field in other.model_fields.items() if field.is_required()}
        if kind != ours and needed <= data.keys() <= keys:
            use = f"`hilsim {SHOWN_BY[kind]} {file}` takes it. " if kind in SHOWN_BY else ""
            is_a, wanted = (f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in (kind, ours))
            remedy = f"{use}`hilsim explain {ours}` lists the keys of {wanted}."
            return Fault(file, "", f"{is_a}, not {wanted}", wanted, remedy)
    return None


def is_long_enough(item: Any) -> bool:
    """Whether a list is called too short for its entries that are at fault, each of which has a message."""
    return bool(item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"])


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
            ours = nearest_keys(known, block_at(document.data, path[:-1]))
            remedy = remedy_of_key(record, wrong, dotted(tuple(path[:-1])), unique(chain(*known)))
            return Fault(file, where, "an unknown key", f"one of {', '.join(ours)}", remedy)
        case "value_error":
            error: Misfit = item["ctx"]["error"]
            return error.fault(file, where, "a consistent description")
        case "union_tag_invalid":
            tags = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
            earlier, *_, key = words_for_kind(item)
            wrong = item["ctx"]["tag"]
            meant = kind_meant(earlier, wrong, tags)
            remedy = f"Did you mean {meant!r}?" if meant else head_meant(wrong, tags) or key_hint(wrong, tags)
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
            if expectation(item) == LIST and isinstance(item["input"], dict):
                remedy = "A dash begins each entry of a list."
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
    if (word := wrong.partition(":")[0]) in known:
        return f"A blank follows the colon: `{word}: {wrong[len(word) + 1 :]}`."
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


def block_at(data: Any, path: Sequence[str | int]) -> dict[str, Any]:
    """The block at a place of a document; {} where none is."""
    for part in path:
        data = data[part]
    return data if isinstance(data, dict) else {}


def known_keys(record: type[BaseModel], location: Sequence[str | int], wrong: str) -> list[list[str]]:
    """The keys of each record allowed at a location, of those alone that do not have the key that is `wrong` there."""
    keys = [[field.alias or name for name, field in one.model_fields.items()] for one in records_at(record, location)]
    return [of for of in keys if wrong not in of]


def nearest_keys(known: Sequence[Sequence[str]], block: Mapping[str, object]) -> list[str]:
    """Of the keys of several records, those of the record that a block has most keys of, or of several alike."""
    shared = [len(block.keys() & set(keys)) for keys in known]
    return unique(key for keys, count in zip(known, shared, strict=True) if count == max(shared) for key in keys)


def unique(keys: Iterable[str]) -> list[str]:
    """Keys in order, each once."""
    return list(dict.fromkeys(keys))


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
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a block of {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
