"""An einsum with one constant that repeats: by ones along a new letter, or by a matrix that selects heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from hilsim.compiler.nodes import fixed, value_of
from hilsim.compiler.rewrite.products import sides_of
from hilsim.compiler.slow.factors import Axis, Copied, Values, any_copies, axis_of, pattern_of


def repeated_by_einsum(node: fx.Node, side: int, before: Copied, held: Tensor) -> Copied | None:
    """What an einsum of two operands copies: `before` is operand `side`, `held` the other one, a known constant."""
    args: Any = node.args
    left, right = sides_of(args[0])
    mine, theirs = left[side], left[1 - side]
    if "." in args[0] or any(len(set(letters)) != len(letters) for letters in (mine, theirs, right)):
        return None
    axes: dict[str, Axis] = dict(zip(mine, before.axes, strict=True))
    source = {letter: letter for letter in mine}  # the letter of the operand that a letter of the result shows
    if not set(mine) & set(theirs):  # ones: every number again along the new letters
        if set(right) != set(mine) | set(theirs) or not bool((held == 1).all()):
            return None
        axes |= {letter: axis_of(size, copies=True) for letter, size in zip(theirs, held.shape, strict=True)}
    else:
        found = selected_letter(mine, theirs, right, held)
        if found is None:
            return None
        old, new, places = found
        pattern = pattern_of(places, fixed(value_of(args[1][side]).shape[mine.index(old)]))
        if pattern is None or any_copies(axes[old]):
            return None
        axes[new], source[new] = pattern, old
    order = [mine.index(source[letter]) for letter in right if letter in source]
    inserted = [place for place, letter in enumerate(right) if letter not in source]

    def make(values: Values) -> Tensor:
        thin = before.make(values)
        thin = thin if order == sorted(order) else thin.permute(order)
        for place in inserted:
            thin = thin.unsqueeze(place)
        return thin

    return Copied(tuple(axes[letter] for letter in right), before.sources, make, (*before.path, node))


def selected_letter(mine: str, theirs: str, right: str, held: Tensor) -> tuple[str, str, list[int]] | None:
    """The letter summed over, the one in its place, and which of its places each entry shows; None else.

    A matrix selects where every entry of the new letter has a single one, and zeros beside it.
    """
    shared = [letter for letter in theirs if letter in mine]
    fresh = [letter for letter in theirs if letter not in mine]
    if len(shared) != 1 or len(fresh) != 1:
        return None
    old, new = shared[0], fresh[0]
    if old in right or set(right) != {*mine, new} - {old}:
        return None
    rows = held if theirs[0] == new else held.t()
    if not bool((((rows == 1).sum(1) == 1) & ((rows == 0).sum(1) == rows.shape[1] - 1)).all()):
        return None
    return old, new, [int(place) for place in rows.argmax(1).tolist()]
