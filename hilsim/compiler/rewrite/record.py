"""What a rewrite is: a plain function in place of an operator, and what it promises. Owns the record, no rewrite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import fx

Exactness = Literal["bits", "values", "rounding"]
Domain = Literal["any", "finite", "moderate"]


def always(node: fx.Node) -> str:
    """For rewrites that apply wherever their operator stands."""
    return ""


@dataclass(frozen=True)
class Rewrite:
    """One operator as plainer ones.

    `exactness`: "bits" gives the same bits (zeros may differ in sign); "values" the same values, but among equal ones
    other indices; "rounding" the same up to float rounding, plus `bound` where the technique is an approximation.
    """

    name: str  # what users write in a scenario
    title: str  # one line for people
    operators: tuple[str, ...]  # str(node.target)
    exactness: Exactness
    function: Callable[..., Any]
    fits: Callable[[fx.Node], str] = always  # "" where it applies to this node, else why not, as a sentence fragment
    caveat: str = ""  # what can differ and when
    source: str = "general technique"
    domain: Domain = "any"  # which floats it is proven for: with infinities; finite ones; magnitudes up to about 100
    bound: float = 0.0  # largest absolute error of the technique itself, in the operator's own unit
    used: Callable[[Any], Any] = lambda outputs: outputs  # the part of the outputs that counts where it fits
    with_operator: bool = False  # the function takes the operator first: it stays, on other shapes
    contiguous: bool = False  # what it yields lies in order, so that any view of it will do

    def called(self, operator: Callable[..., Any]) -> Callable[..., Any]:
        """The function in place of an operator."""
        return partial(self.function, operator) if self.with_operator else self.function


def value(argument: Any) -> Any:
    """What an argument of a node is at run time, as a fake tensor; constants are themselves."""
    return argument.meta.get("val") if isinstance(argument, fx.Node) else argument


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a node by its place or its name, as a fake tensor or a constant."""
    found = node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
    return value(found)


def is_last(dim: int, rank: int) -> bool:
    """Whether an axis is the last one, counted from either end."""
    return dim in (-1, rank - 1)


def extent(tensor: Any, dim: int = -1) -> int:
    """Length of an axis, or 0 where it is only known at run time."""
    size = tensor.shape[dim]
    return size if isinstance(size, int) else 0
