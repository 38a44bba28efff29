"""A key/value cache that can be rewound, of arrays or of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from hilsim.networks.config import NetworkConfig

Numbers = TypeVar("Numbers", bound=Any)  # NumPy's arrays or PyTorch's tensors


class Cache(Generic[Numbers]):
    """Keys and values of a batch of equally long sequences, allocated once and rewound by forgetting.

    `keys` and `values` have shape (layers, batch, kv_heads, capacity, head_dim); positions [0, length) are valid.
    `context` is the capacity that it was made with. LongRoPE picks its factors by it, as deployed runtimes do, so that
    no key has to be turned again when a conversation grows.

    `states` (batch, capacity, len(read) x hidden) has the outputs of the layers in `read`, which draft heads read.
    """

    def __init__(
        self,
        config: NetworkConfig,
        capacity: int,
        zeros: Callable[[tuple[int, ...]], Numbers],
        batch: int = 1,
        read: Sequence[int] = (),
    ):
        """`zeros` makes the memory: zeros of a shape."""
        self.zeros, width = zeros, config.hidden_size
        shape = (config.layers, batch, config.kv_heads, capacity, config.head_dim)
        self.keys, self.values = zeros(shape), zeros(shape)
        self.states = zeros((batch, capacity, len(read) * width))
        self.read = {layer: slice(place * width, (place + 1) * width) for place, layer in enumerate(read)}
        self.capacity = self.context = capacity
        self.length = 0

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on. What lies beyond is overwritten by the next pass."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind a cache of {self.length} positions to {length}")
        self.length = length

    def reserve(self, capacity: int) -> None:
        """Make room for at least `capacity` positions."""
        if capacity > self.capacity:
            self.keys, self.values = (self.longer(held, capacity) for held in (self.keys, self.values))
            self.states, self.capacity = self.longer(self.states, capacity), capacity

    def longer(self, held: Numbers, capacity: int) -> Numbers:
        """A copy with room for `capacity` positions."""
        copy = self.zeros((*held.shape[:-2], capacity, held.shape[-1]))
        copy[..., : self.capacity, :] = held
        return copy

    def layers(self, end: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Keys and values of positions [0, end), layer by layer, as views: what is written there stays."""
        return zip(self.keys[:, :, :, :end], self.values[:, :, :, :end], strict=True)
