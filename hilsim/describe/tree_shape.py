"""Shapes of token trees: so many children for every node of a level, or the likeliest nodes of a wider tree."""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import NamedTuple


class Branches(NamedTuple):
    """Shape of a token tree: `children[d]` for every node of depth d."""

    children: tuple[int, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        """Nodes of each level."""
        return tuple(accumulate(self.children, mul))

    @property
    def nodes(self) -> int:
        """All nodes below the prefix."""
        return sum(self.levels)

    @property
    def depth(self) -> int:
        """Levels below the prefix."""
        return len(self.children)

    @property
    def growth(self) -> tuple[tuple[int, int], ...]:
        """By level: children for every node that is read on from above, and nodes of it that are read on from."""
        return tuple(zip(self.children, self.levels, strict=True))

    def cut(self, depth: int) -> Branches:
        """Its first levels."""
        return Branches(self.children[:depth])


class BestNodes(NamedTuple):
    """A token tree by the draft's probabilities: the `nodes` whose paths are likeliest.

    Of every level the `top` likeliest nodes are followed on, each to its `top` likeliest tokens (EAGLE-2, arXiv
    2406.16858).
    """

    nodes: int
    top: int
    depth: int

    @property
    def growth(self) -> tuple[tuple[int, int], ...]:
        """By level: children for every node that is read on from above, and nodes of it that are read on from."""
        return ((self.top, self.top),) * self.depth

    def cut(self, depth: int) -> BestNodes:
        """Its first levels, which may have fewer nodes."""
        depth = min(depth, self.depth)
        return BestNodes(min(self.nodes, drawn(self.top, depth)), self.top, depth)


TreeShape = Branches | BestNodes


def drawn(top: int, depth: int) -> int:
    """Nodes that such a tree is chosen from: `top` tokens below the prefix and below `top` nodes of each level."""
    return top + max(0, depth - 1) * top * top
