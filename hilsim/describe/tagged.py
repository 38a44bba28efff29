"""Blocks that are one of several kinds: the key `kind` says which, in every such block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Misfit

KIND = "kind"


class Tagged(Record):
    """A record whose `kind` chooses it among the others of its union; its tag is the field with that alias.

    The tag's field has the word that files had for it before `kind` (`name`, `scheme`, `rule`, `source`). Files, --set
    and Python may still say it, and records keep it in Python and in JSON, so that digests and reports stay the same.
    """

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, data: object) -> object:
        if not isinstance(data, dict) or KIND not in data or (earlier := earlier_word(cls)) not in data:
            return data
        if data[KIND] != data[earlier]:
            found = f"kind {data[KIND]!r} and {earlier} {data[earlier]!r}"
            raise Misfit(found, f"kind alone, as {earlier} is the earlier word for it")
        return {key: value for key, value in data.items() if key != earlier}


def earlier_word(record: type[Tagged]) -> str:
    """The word that was said for a record's `kind`, which is the name of its field."""
    return next(name for name, field in record.model_fields.items() if field.alias == KIND)


def other_words(key: str, records: list[type[Any]]) -> Iterator[str]:
    """What else a key of one of these records may be called in a file, if it is their tag."""
    for record in records:
        if issubclass(record, Tagged):
            words = (KIND, earlier_word(record))
            if key in words:
                yield from (word for word in words if word != key)


def shorthand(records: Any) -> BeforeValidator:
    """Reads a plain name as the kind of one of `records`, a union, where that needs nothing else."""
    kinds: list[str] = []
    for record in get_args(records):
        tag = earlier_word(record)
        if not any(field.is_required() and name != tag for name, field in record.model_fields.items()):
            kinds += get_args(record.model_fields[tag].annotation)
    written = Annotated[str, Field(json_schema_extra={"enum": kinds})]
    return BeforeValidator(
        lambda data: {KIND: data} if isinstance(data, str) else data, json_schema_input_type=written | records
    )
