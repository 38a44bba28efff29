"""Passes whose rows are no plain sequence: each row's position, and which rows it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilsim.networks.arrays import Array, Flags, Ints


@dataclass(frozen=True)
class RowLayout:
    """Layout of a pass whose rows are no plain sequence."""

    positions: Ints  # (rows,)
    key_positions: Ints  # (cached + rows,)
    visible: Flags  # (rows, cached + rows)

    def mask(self, window: int | None, dtype: npt.DTypeLike = "float32") -> Array:
        """Additive mask (rows, cached + rows)."""
        visible = self.visible
        if window is not None:
            visible = visible & (self.key_positions[None, :] > self.positions[:, None] - window)
        return np.where(visible, 0, -np.inf).astype(dtype)


def layout_of(cached: int, parents: Sequence[int]) -> RowLayout:
    """Rows below `cached` positions; each sees these, itself and its ancestors. `parents` are rows, -1 the cache."""
    rows = len(parents)
    visible = np.zeros((rows, cached + rows), bool)
    visible[:, :cached] = True
    depths: list[int] = []
    for row, parent in enumerate(parents):
        depths.append(0 if parent < 0 else depths[parent] + 1)
        if parent >= 0:
            visible[row] |= visible[parent]
        visible[row, cached + row] = True
    positions = cached + np.array(depths, np.int64)
    return RowLayout(positions, np.concatenate((np.arange(cached), positions)), visible)


def rows_before(chain: int, parents: Sequence[int]) -> list[int]:
    """For each row of a chain, then of a tree below its last row, the row that it follows; -1 for the cache."""
    return [*range(-1, chain - 1), *(chain + parent if parent >= 0 else chain - 1 for parent in parents)]
