"""What may be written in a described file, by kind: its keys with types, ranges, defaults and meaning; its JSON Schema.

All of it is read off the records that files are validated with. The meaning of a key is the docstring below its field.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from hilsim.describe.acceptance_profile import AcceptancePair
from hilsim.describe.campaign import Campaign
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.describe.figure import Record
from hilsim.describe.link import Link
from hilsim.describe.model import Model
from hilsim.describe.profile import Profile
from hilsim.describe.runtime import Runtime
from hilsim.describe.scenario import Scenario
from hilsim.describe.study import Study
from hilsim.describe.tagged import KIND, Tagged, earlier_word

RECORDS: dict[str, type[Record]] = {
    "acceptance": AcceptancePair,
    "campaign": Campaign,
    "chip": Chip,
    "family": Family,
    "link": Link,
    "model": Model,
    "profile": Profile,
    "runtime": Runtime,
    "scenario": Scenario,
    "study": Study,
}


@cache
def meanings_in(module: str) -> dict[tuple[str, str], str]:
    """The docstrings below the fields of a module's classes, by class and field."""
    found = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value)
                found[node.name, field.target.id] = inspect.cleandoc(text)
    return found


def meaning_of(record: type[BaseModel], field: str) -> str:
    """What a field of a record means; "" where no class of its line says so."""
    for one in record.__mro__:
        if issubclass(one, BaseModel) and one.__module__.startswith("hilsim."):
            found = meanings_in(one.__module__).get((one.__name__, field))
            if found:
                return found
    return ""


class DescribedSchema(GenerateJsonSchema):
    """JSON Schema of records, with what every key means in place of its name in capitals."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        record = schema["cls"]
        for name, field in record.model_fields.items():
            if meaning := meaning_of(record, name):
                made["properties"][field.alias or name]["description"] = meaning
        if issubclass(record, Tagged):
            with_earlier_word(made, earlier_word(record))
        return made

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        if "discriminator" in made:
            made["discriminator"]["propertyName"] = KIND  # not the earlier word, which blocks have too
        return made


def with_earlier_word(made: JsonSchemaValue, word: str) -> None:
    """Lets a block's schema take the earlier word for its kind too, marked as deprecated."""
    made["properties"][word] = {
        "const": made["properties"][KIND]["const"],
        "deprecated": True,
        "description": "Earlier word for kind.",
        "type": "string",
    }
    if KIND in made.get("required", ()):
        made["required"].remove(KIND)
        made["anyOf"] = [{"required": [KIND]}, {"required": [word]}]


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of file."""
    made = RECORDS[kind].model_json_schema(schema_generator=DescribedSchema)
    return {"$schema": DescribedSchema.schema_dialect, **made}
