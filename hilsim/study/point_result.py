"""What became of a point of a study, its metrics packed: a few hundred bytes of numbers under names that rows share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from struct import Struct
from typing import Literal
from zlib import crc32

State = Literal["done", "refused", "failed"]
FLOAT, WHOLE, NONE = "d", "q", "n"  # the kinds of a metric's value; the first two as `struct` names eight bytes of it
VALUES = {FLOAT: Struct("<d"), WHOLE: Struct("<q")}
EACH_BYTES = 8


class Layout:
    """The names of some metrics, and what each one's value is: a float, a whole number or none."""

    __slots__ = ("checksum", "given", "kinds", "names", "numbers", "places")

    def __init__(self, names: tuple[str, ...], kinds: str):
        self.names, self.kinds = names, kinds
        self.checksum = crc32("\0".join((kinds, *names)).encode())
        self.given = [kind != NONE for kind in kinds]
        self.numbers = Struct("<" + kinds.replace(NONE, ""))
        self.places: dict[str, tuple[Struct, int] | None] = dict.fromkeys(names)
        for place, (name, kind) in enumerate(compress(zip(names, kinds, strict=True), self.given)):
            self.places[name] = VALUES[kind], EACH_BYTES * place


@lru_cache(maxsize=1024)
def layout_of(names: tuple[str, ...], kinds: str) -> Layout:
    """The one layout of these names and kinds in this process. Raises `ValueError` for kinds that there are not."""
    if len(names) != len(kinds) or not set(kinds) <= {*VALUES, NONE}:
        raise ValueError(f"no kinds of {len(names)} metrics: {kinds:.40}")
    return Layout(names, kinds)


class Metrics(Mapping[str, float | None]):
    """Metrics of a point as a mapping that is read in place."""

    __slots__ = ("layout", "packed")

    def __init__(self, layout: Layout, packed: bytes):
        """Raises `ValueError` for bytes of another length than the layout's."""
        if len(packed) != layout.numbers.size:
            raise ValueError(f"{len(packed)} bytes of metrics where {layout.numbers.size} are expected")
        self.layout, self.packed = layout, packed

    @staticmethod
    def of(values: Mapping[str, float | None]) -> Metrics:
        """These metrics packed. Raises `ValueError` for a number that is not finite."""
        if isinstance(values, Metrics):
            return values
        if wrong := [name for name, value in values.items() if value is not None and not math.isfinite(value)]:
            raise ValueError(f"metrics that are not finite: {', '.join(wrong)}")
        kinds = (NONE if one is None else WHOLE if isinstance(one, int) else FLOAT for one in values.values())
        layout = layout_of(tuple(values), "".join(kinds))
        return Metrics(layout, layout.numbers.pack(*compress(values.values(), layout.given)))

    def __getitem__(self, name: str) -> float | None:
        found = self.layout.places[name]
        if found is None:
            return None
        kind, offset = found
        number: float = kind.unpack_from(self.packed, offset)[0]
        return number

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.names)

    def __len__(self) -> int:
        return len(self.layout.names)

    def __repr__(self) -> str:
        return f"Metrics({dict(self)})"

    def __reduce__(self) -> tuple[object, ...]:
        return unpickled, (self.layout.names, self.layout.kinds, self.packed)


def unpickled(names: tuple[str, ...], kinds: str, packed: bytes) -> Metrics:
    """Metrics from another process, with this one's own layout."""
    return Metrics(layout_of(names, kinds), packed)


@dataclass(frozen=True)
class PointResult:
    """What became of a point: metrics where it is done, the reason where it was refused or failed.

    In a campaign `reason` of a point that is done is a remark on it: what was lost, or why the fault hit nothing.
    """

    key: str
    state: State
    metrics: Mapping[str, float | None]
    reason: str
    seconds: float
