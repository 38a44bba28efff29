"""Every rewrite that the compile gate can offer, by name and by operator. Each is proven by a test that iterates them."""

from __future__ import annotations

from hilsim.compiler.rewrite import topk
from hilsim.compiler.rewrite.record import Rewrite

__all__ = ["REWRITES", "Rewrite", "by_name", "rewrites_for"]

REWRITES: tuple[Rewrite, ...] = (*topk.REWRITES,)


def rewrites_for(operator: str) -> tuple[Rewrite, ...]:
    """Rewrites of an operator, `str(node.target)`, the most exact and cheapest first."""
    return tuple(rewrite for rewrite in REWRITES if operator in rewrite.operators)


def by_name(name: str) -> Rewrite:
    """The rewrite of that name; KeyError with the known names where there is none."""
    for rewrite in REWRITES:
        if rewrite.name == name:
            return rewrite
    raise KeyError(f"no rewrite {name!r}; known: {', '.join(rewrite.name for rewrite in REWRITES)}")
