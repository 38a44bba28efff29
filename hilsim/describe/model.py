"""A deployed model: the shape that sets bytes, operations, memory and the vocabulary that crosses the link."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hilsim.describe.figure import Kind, Named, Names, Record
from hilsim.errors import Misfit

MOST_WEIGHTS = 10**14  # some hundred times the largest models that anybody runs


class Vocabulary(Record):
    """Models with the same `name` share token ids; `entries` is the width of a logits row."""

    name: str
    entries: int = Field(ge=2, le=10**7)


class Architecture(Record):
    """Llama-family shape. One provenance covers the block: the numbers come from one published configuration."""

    kind: Kind
    source: str = Field(min_length=3)
    layers: int = Field(ge=1, le=1000)
    hidden: int = Field(ge=1, le=10**6)
    intermediate: int = Field(ge=1, le=10**7)
    heads: int = Field(ge=1, le=10**4)
    kv_heads: int = Field(ge=1, le=10**4)
    head_dim: int = Field(ge=1, le=10**4)
    tied_head: bool
    context: int = Field(ge=1, le=10**8)

    @model_validator(mode="after")
    def _grouped(self) -> Architecture:
        if (
            weights := self.layers * self.hidden * (4 * self.heads * self.head_dim + 3 * self.intermediate)
        ) > MOST_WEIGHTS:
            raise Misfit(
                f"a shape of {weights:.2g} weights", f"at most {MOST_WEIGHTS:.0e}: is one of the sizes mistaken?"
            )
        if self.heads % self.kv_heads:
            raise Misfit(f"{self.heads} heads cannot share {self.kv_heads} key/value heads", "use a divisor")
        return self


class Model(Named):
    """One language model as it would be deployed. `known_as` are beginnings of the names that measurements use."""

    known_as: Names = ()
    role: Literal["target", "draft", "either"] = "either"
    vocabulary: Vocabulary
    architecture: Architecture
    notes: str = ""
