"""Axes of tensors as factors: numbers of their own and copies. What a node's axes become of another shape or order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, fx

from hilsim.compiler.nodes import fixed, operator_of


def named(*names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names)


ALIASES = named("alias.default", "clone.default", "contiguous.default", "detach.default", "lift_fresh_copy.default")
RESHAPES = named(
    "view.default", "_unsafe_view.default", "reshape.default", "view_copy.default", "unsqueeze.default",
    "squeeze.default", "squeeze.dim", "squeeze.dims",
)  # fmt: skip
PERMUTATIONS = named("permute.default", "permute_copy.default", "transpose.int", "t.default")
EXPANSIONS = named("expand.default", "expand_copy.default")
SELECTIONS = named("index_select.default", "index.Tensor", "gather.default")
FILLS = named("full.default", "ones.default", "zeros.default", "full_like.default", "ones_like.default")
Values = Mapping[fx.Node, Tensor]
Make = Callable[[Values], Tensor]


@dataclass(frozen=True)
class Factor:
    """A part of an axis: so many numbers, or so many copies. A length that is known at run time is at its example."""

    size: int
    copies: bool = False
    dynamic: bool = False


Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class Copied:
    """A tensor with copies in it: its axes, and how its thin form is made of the values of `sources`.

    The thin form has as many axes. `path` are the nodes between the sources and this one that hold copies.
    """

    axes: tuple[Axis, ...]
    sources: tuple[fx.Node, ...]
    make: Make
    path: tuple[fx.Node, ...] = ()

    @property
    def times(self) -> int:
        """How many times each number is there."""
        return prod(factor.size for axis in self.axes for factor in axis if factor.copies)


def axis_of(size: object, copies: bool = False) -> Axis:
    """An axis of one kind; one of length 1 has no factors."""
    dynamic, length = not isinstance(size, int), fixed(size)
    return (Factor(length, copies, dynamic),) if length != 1 or dynamic else ()


def length_of(axis: Axis) -> int:
    return prod(factor.size for factor in axis)


def all_copies(axis: Axis) -> bool:
    return all(factor.copies for factor in axis)


def any_copies(axis: Axis) -> bool:
    return any(factor.copies for factor in axis)


def thinned(axis: Axis) -> int:
    """The length of an axis without copies; -1 where it is only known at run time."""
    kept = [factor for factor in axis if not factor.copies]
    return -1 if any(factor.dynamic for factor in kept) else prod(factor.size for factor in kept)


def thin_shape(axes: Sequence[Axis]) -> list[int]:
    """The shape of a thin form. Raises `ValueError` where more than one length is only known at run time."""
    sizes = [thinned(axis) for axis in axes]
    if sizes.count(-1) > 1:
        raise ValueError("more than one length is only known at run time")
    return sizes


def leading(x: Tensor, more: int) -> Tensor:
    """The tensor with so many axes of length 1 in front."""
    return x.reshape(*(1 for _ in range(more)), *x.shape) if more else x


def regrouped(factors: Sequence[Factor], shape: Sequence[object]) -> tuple[Axis, ...] | None:
    """Factors dealt out to the axes of another shape, those that span two of them cut; None where that cannot be."""
    left, axes = list(factors), []
    for size in shape:
        wanted, axis = fixed(size), []
        while wanted > 1:
            if not left:
                return None
            factor = left.pop(0)
            if factor.size > wanted:
                if factor.size % wanted or factor.dynamic:
                    return None
                left.insert(0, Factor(factor.size // wanted, factor.copies))
                factor = Factor(wanted, factor.copies)
            if wanted % factor.size:
                return None
            axis.append(factor)
            wanted //= factor.size
        axes.append(tuple(axis))
    return tuple(axes) if all(factor.size == 1 for factor in left) else None


def order_of(node: fx.Node, rank: int) -> list[int]:
    """The order of axes that a permutation or a transposition makes."""
    order = list(range(rank))
    if operator_of(node) in ("aten.transpose.int", "aten.t.default"):
        one, two = (axis % rank for axis in numbers(node.args[1:] or (0, -1)))
        order[one], order[two] = order[two], order[one]
        return order
    return [axis % rank for axis in numbers(node.args[1])]


def numbers(argument: Any) -> list[int]:
    return [int(number) for number in argument]


def pattern_of(places: Sequence[int], length: int) -> Axis | None:
    """Places of an axis of so many numbers as factors: each some times in a row, or all of them over again."""
    times, rest = divmod(len(places), length)
    if rest or times < 2 or length < 1:
        return None
    own, copies = ((Factor(length),) if length > 1 else ()), Factor(times, copies=True)
    if list(places) == [place // times for place in range(len(places))]:
        return (*own, copies)
    return (copies, *own) if list(places) == [place % length for place in range(len(places))] else None
