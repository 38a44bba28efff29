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
    """Name of the vocabulary; models with the same one share token ids."""
    entries: int = Field(ge=2, le=10**7)
    """Entries of the vocabulary, which is the width of a row of logits."""


class Architecture(Record):
    """Llama-family shape. One provenance covers the block: the numbers come from one published configuration."""

    kind: Kind
    """How well the shape is known: published, or assumed."""
    source: str = Field(min_length=3)
    """Where the shape is published, such as the model's configuration."""
    layers: int = Field(ge=1, le=1000)
    """Layers of all kinds."""
    hidden: int = Field(ge=1, le=10**6)
    """Width of the model."""
    intermediate: int = Field(ge=1, le=10**7)
    """Inner width of the gated feed-forward."""
    heads: int = Field(ge=1, le=10**4)
    """Heads of queries."""
    kv_heads: int = Field(ge=1, le=10**4)
    """Heads of keys and values, which groups of query heads share."""
    head_dim: int = Field(ge=1, le=10**4)
    """Numbers in each head."""
    tied_head: bool
    """Whether the output head shares the weights of the embedding."""
    context: int = Field(ge=1, le=10**8)
    """Positions that the model was made for at most."""
    kinds: Annotated[tuple[LayerKind, ...], BeforeValidator(as_tuple)] = ()
    """Kinds of layers where they differ; all alike where empty."""
    lookup: int = Field(0, ge=0, le=10**7)
    """Numbers of each token that are looked up beside its embedding, in tables that are held, not multiplied by."""

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
    """One language model as it would be deployed."""

    known_as: Names = ()
    """Beginnings of the names that measurements use for it."""
    role: Literal["target", "draft", "either"] = "either"
    """What it is used as: a target, a draft, or either."""
    vocabulary: Vocabulary
    """Vocabulary of its tokens; target and draft need the same."""
    architecture: Architecture
    """The sizes that its bytes and operations follow from."""
    head_entries: int | None = Field(None, ge=2, le=10**7)
    """Rows of a trimmed output head; the whole vocabulary where not given."""
    output_heads: int | None = Field(None, ge=2, le=64)
    """Output heads, each with logits of its own, as in Medusa; one where not given."""
    vision: Vision | None = None
    """A tower that makes tokens of images; none where not given."""
    adapter: Adapter | None = None
    """LoRA adapters beside its weights; none where not given."""
    notes: str = ""
    """Remarks for readers; no time follows from them."""
    # Nothing that is computed depends on it, so it is in no digest.
    quality: dict[str, QualityFigure] = Field(default_factory=dict, exclude=True)
    """What precisions cost it in text, by the names that units give them; no time follows from it."""

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
