"""Layers that differ from an architecture's own: experts, constant state, attention windows, shared caches; and parts

beside them: a vision tower, LoRA adapters. `Architecture.layer_kinds` completes what a kind leaves open.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Misfit

BITS = 16  # of adapters and of vision towers, as they are deployed


class Experts(Record):
    """A feed-forward of many experts, of which a row goes through some, and through a shared one beside them."""

    count: int = Field(ge=2, le=10**5)
    """Experts of a layer, all of which are held in memory."""
    active: int = Field(ge=1, le=10**5)
    """Experts that each row goes through."""
    intermediate: int = Field(ge=1, le=10**6)
    """Inner width of one expert's feed-forward."""
    shared_intermediate: int = Field(0, ge=0, le=10**7)
    """Inner width of the expert that every row goes through; none where 0."""

    @model_validator(mode="after")
    def _some_of_all(self) -> Experts:
        if self.active > self.count:
            raise Misfit(f"{self.active} active experts of {self.count}", "at most all of them")
        return self


class Recurrent(Record):
    """A layer whose memory is a state of constant size in place of a growing cache: Gated DeltaNet, Mamba-2.

    Projected from a row are query, key, value, output gate and `scalars`. Of Mamba-2 B and C stand for key and query.
    """

    key_heads: int = Field(ge=1, le=10**4)
    """Heads of queries and of keys."""
    key_dim: int = Field(ge=1, le=10**4)
    """Numbers of a query or key in each head."""
    value_heads: int = Field(ge=1, le=10**4)
    """Heads of values; each has a state of key_dim by value_dim numbers."""
    value_dim: int = Field(ge=1, le=10**4)
    """Numbers of a value in each head."""
    scalars: int = Field(2, ge=0, le=16)
    """Numbers projected for each value head beside its value, such as decay and step."""
    kernel: int = Field(4, ge=1, le=64)
    """Rows that the convolution over query, key and value spans."""
    state_bits: int = Field(32, ge=8, le=64)
    """Bits for each number of the state."""


class LayerKind(Record):
    """Layers of one kind; what is not given is the architecture's."""

    layers: int = Field(ge=1, le=1000)
    """How many layers are of this kind; those of all kinds add up to the architecture's."""
    intermediate: int | None = Field(None, ge=0, le=10**7)
    """Inner width of the feed-forward; the architecture's where not given, none where 0."""
    heads: int | None = Field(None, ge=0, le=10**4)
    """Heads of queries; the architecture's where not given, no attention where 0."""
    kv_heads: int | None = Field(None, ge=0, le=10**4)
    """Heads of keys and values; the architecture's where not given, no attention where 0."""
    head_dim: int | None = Field(None, ge=1, le=10**4)
    """Numbers in each head; the architecture's where not given."""
    window: int | None = Field(None, ge=1, le=10**8)
    """Positions back that a row sees at most; all of them where not given."""
    cached: bool = True
    """Whether it has keys and values of its own; false: it reads the cache of an earlier layer."""
    gated: bool = False
    """Whether attention has an output gate as wide as the queries."""
    further: int = Field(0, ge=0, le=10**10)
    """Other weights of each layer that every row is multiplied by."""
    experts: Experts | None = None
    """Experts in place of one feed-forward."""
    recurrent: Recurrent | None = None
    """A state of constant size in place of attention and its cache."""

    @model_validator(mode="after")
    def _attends_or_recurs(self) -> LayerKind:
        if self.recurrent is not None and (self.window is not None or not self.cached or self.gated):
            raise Misfit("a recurrent layer with a window, a shared cache or an attention gate", "one kind of memory")
        if (self.heads == 0) != (self.kv_heads == 0):
            raise Misfit(f"heads {self.heads} with kv_heads {self.kv_heads}", "both 0 where a layer does not attend")
        return self


class Vision(Record):
    """A tower of transformer layers that makes tokens of an image. Its attention sees the whole image."""

    layers: int = Field(ge=1, le=1000)
    """Transformer layers of the tower."""
    hidden: int = Field(ge=1, le=10**6)
    """Width of the tower."""
    intermediate: int = Field(ge=1, le=10**7)
    """Inner width of its feed-forward."""
    matrices: int = Field(2, ge=2, le=3)
    """Matrices of its feed-forward: 2, or 3 where it is gated."""
    patch: int = Field(ge=1, le=1000)
    """Pixels along each side of a patch."""
    frames: int = Field(1, ge=1, le=16)
    """Frames that one patch spans."""
    merge: int = Field(2, ge=1, le=16)
    """Patches along each side of the square that becomes one token."""
    projectors: int = Field(1, ge=1, le=16)
    """Projectors that make tokens of patches."""


class Adapter(Record):
    """LoRA: a pair of matrices beside every matrix of the layers."""

    rank: int = Field(ge=1, le=4096)
    """Rank of the pair of matrices beside each matrix of the layers."""
    loaded: int = Field(1, ge=1, le=1000)
    """Sets of adapters in memory at once."""
