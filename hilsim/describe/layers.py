"""Layers that differ from an architecture's own: experts, constant state, attention windows, shared caches; and parts

beside them: a vision tower, LoRA adapters. `Architecture.layer_kinds` completes what a kind leaves open.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Misfit

BITS = 16  # of adapters and of vision towers, as they are deployed


class Experts(Record):
    """A feed-forward of `count` experts, of which a row goes through `active`, and through a shared one beside them."""

    count: int = Field(ge=2, le=10**5)
    active: int = Field(ge=1, le=10**5)
    intermediate: int = Field(ge=1, le=10**6)
    shared_intermediate: int = Field(0, ge=0, le=10**7)

    @model_validator(mode="after")
    def _some_of_all(self) -> Experts:
        if self.active > self.count:
            raise Misfit(f"{self.active} active experts of {self.count}", "at most all of them")
        return self


class Recurrent(Record):
    """A layer whose memory is a state of constant size in place of a growing cache: Gated DeltaNet, Mamba-2.

    The state is a matrix of `key_dim` by `value_dim` numbers of `state_bits` for each of `value_heads`. Projected from
    a row are query and key (`key_heads` of each), value and output gate, and `scalars` a value head (decay, step);
    query, key and value pass a convolution over `kernel` rows. Of Mamba-2 B and C stand for key and query.
    """

    key_heads: int = Field(ge=1, le=10**4)
    key_dim: int = Field(ge=1, le=10**4)
    value_heads: int = Field(ge=1, le=10**4)
    value_dim: int = Field(ge=1, le=10**4)
    scalars: int = Field(2, ge=0, le=16)
    kernel: int = Field(4, ge=1, le=64)
    state_bits: int = Field(32, ge=8, le=64)


class LayerKind(Record):
    """So many `layers` of one kind; what is not given is the architecture's.

    With `window` a row sees that many positions back at most. One with `cached: false` reads the cache of an earlier
    layer and has neither key and value weights nor a cache. `gated`: a gate as wide as the queries. `further` are other
    weights a layer that every row is multiplied by. With `heads` and `kv_heads` 0 a layer does not attend.
    """

    layers: int = Field(ge=1, le=1000)
    intermediate: int | None = Field(None, ge=0, le=10**7)
    heads: int | None = Field(None, ge=0, le=10**4)
    kv_heads: int | None = Field(None, ge=0, le=10**4)
    head_dim: int | None = Field(None, ge=1, le=10**4)
    window: int | None = Field(None, ge=1, le=10**8)
    cached: bool = True
    gated: bool = False
    further: int = Field(0, ge=0, le=10**10)
    experts: Experts | None = None
    recurrent: Recurrent | None = None

    @model_validator(mode="after")
    def _attends_or_recurs(self) -> LayerKind:
        if self.recurrent is not None and (self.window is not None or not self.cached or self.gated):
            raise Misfit("a recurrent layer with a window, a shared cache or an attention gate", "one kind of memory")
        if (self.heads == 0) != (self.kv_heads == 0):
            raise Misfit(f"heads {self.heads} with kv_heads {self.kv_heads}", "both 0 where a layer does not attend")
        return self


class Vision(Record):
    """A tower of transformer layers that makes tokens of an image: `merge` x `merge` patches become one token.

    Patches have `patch` x `patch` pixels of so many `frames`; `matrices` of its feed-forward are 2, or 3 where it is
    gated; `projectors` make tokens of patches. Its attention sees the whole image.
    """

    layers: int = Field(ge=1, le=1000)
    hidden: int = Field(ge=1, le=10**6)
    intermediate: int = Field(ge=1, le=10**7)
    matrices: int = Field(2, ge=2, le=3)
    patch: int = Field(ge=1, le=1000)
    frames: int = Field(1, ge=1, le=16)
    merge: int = Field(2, ge=1, le=16)
    projectors: int = Field(1, ge=1, le=16)


class Adapter(Record):
    """LoRA: a pair of matrices of `rank` beside every matrix of the layers, `loaded` sets of them in memory."""

    rank: int = Field(ge=1, le=4096)
    loaded: int = Field(1, ge=1, le=1000)
