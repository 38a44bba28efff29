"""A deployed model: the shape that sets bytes, operations, memory and the vocabulary that crosses the link."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Kind, Named, Names, Record, as_tuple
from hilsim.describe.layers import Adapter, LayerKind, Vision
from hilsim.describe.quality import QualityFigure
from hilsim.errors import Misfit

MOST_WEIGHTS = 10**14  # some hundred times the largest models that anybody runs


class Vocabulary(Record):
    """Models with the same `name` share token ids; `entries` is the width of a logits row."""

    name: str
    entries: int = Field(ge=2, le=10**7)


class Architecture(Record):
    """Llama-family shape. One provenance covers the block: the numbers come from one published configuration.

    Where layers differ, `kinds` says how, and how many there are of each. `lookup` are numbers a token that are looked
    up beside its embedding, in tables held and not multiplied by.
    """

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
    kinds: Annotated[tuple[LayerKind, ...], BeforeValidator(as_tuple)] = ()
    lookup: int = Field(0, ge=0, le=10**7)

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
        if self.kinds and (found := sum(kind.layers for kind in self.kinds)) != self.layers:
            raise Misfit(f"kinds of {found} layers in all", f"as many as layers, {self.layers}")
        return self

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """Every kind of layer with its sizes filled in; one where all are alike."""
        return completed(self)

    def alike(self, layers: int) -> Architecture:
        """So many plain layers of its sizes, as a draft head of its own has."""
        return self.model_copy(update={"layers": layers, "kinds": ()})


@lru_cache(maxsize=1024)
def completed(shape: Architecture) -> tuple[LayerKind, ...]:
    """`layer_kinds`, once a shape: a fit asks a million times."""
    own = {name: getattr(shape, name) for name in ("intermediate", "heads", "kv_heads", "head_dim")}
    kinds = shape.kinds or (LayerKind(layers=shape.layers),)
    return tuple(
        kind.model_copy(update={name: size for name, size in own.items() if getattr(kind, name) is None})
        for kind in kinds
    )


class Model(Named):
    """One language model as it would be deployed. `known_as` are beginnings of the names that measurements use.

    A trimmed output head has `head_entries` rows instead of one for each entry of the vocabulary; of several
    `output_heads` each makes logits of its own (Medusa).
    """

    known_as: Names = ()
    role: Literal["target", "draft", "either"] = "either"
    vocabulary: Vocabulary
    architecture: Architecture
    head_entries: int | None = Field(None, ge=2, le=10**7)
    output_heads: int | None = Field(None, ge=2, le=64)
    vision: Vision | None = None
    adapter: Adapter | None = None
    notes: str = ""
    # By precision, as units call them. Nothing that is computed depends on it, so it is in no digest.
    quality: dict[str, QualityFigure] = Field(default_factory=dict, exclude=True)

    @model_validator(mode="after")
    def _head_inside_vocabulary(self) -> Model:
        if self.head_entries is not None and self.head_entries > self.vocabulary.entries:
            raise Misfit(f"head_entries {self.head_entries}", f"at most the vocabulary, {self.vocabulary.entries}")
        return self

    @property
    def row_entries(self) -> int:
        """Entries of one row of its logits."""
        return self.head_entries or self.vocabulary.entries

    @property
    def rows_a_position(self) -> int:
        """Rows of logits of one position: one an output head."""
        return self.output_heads or 1

    @property
    def plain(self) -> bool:
        """Whether it is a decoder whose layers are alike but for their windows, and nothing else."""
        windowed = all(kind == LayerKind(layers=kind.layers, window=kind.window) for kind in self.architecture.kinds)
        return windowed and not self.architecture.lookup and self.vision is None
