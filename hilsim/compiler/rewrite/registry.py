"""Every rewrite that the compile check can offer, by name and by operator. A test proves each of them."""

from __future__ import annotations

from hilsim.compiler.rewrite import (
    activations,
    axes,
    constants,
    images,
    indexing,
    masks,
    products,
    recurrent,
    sums,
    topk,
    writing,
)
from hilsim.compiler.rewrite.masks import REMEDIES
from hilsim.compiler.rewrite.record import Rewrite

__all__ = ["REMEDIES", "REWRITES", "Rewrite", "by_name", "rewrites_for"]

REWRITES: tuple[Rewrite, ...] = (
    *topk.REWRITES,
    *indexing.REWRITES,
    *writing.REWRITES,
    *sums.REWRITES,
    *products.REWRITES,
    *activations.REWRITES,
    *masks.REWRITES,
    *axes.REWRITES,
    *images.REWRITES,
    *recurrent.REWRITES,
    *constants.REWRITES,
)


def rewrites_for(operator: str) -> tuple[Rewrite, ...]:
    """Rewrites of an operator, `str(node.target)`, in order of preference: each narrows to where it pays (`fits`)."""
    return tuple(rewrite for rewrite in REWRITES if operator in rewrite.operators)


def by_name(name: str) -> Rewrite:
    """The rewrite of that name; KeyError with the known names where there is none."""
    for rewrite in REWRITES:
        if rewrite.name == name:
            return rewrite
    raise KeyError(f"no rewrite {name!r}; known: {', '.join(rewrite.name for rewrite in REWRITES)}")
