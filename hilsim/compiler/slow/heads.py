"""Key and value heads that are repeated for every query head, and the same products with the queries in groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from math import prod
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import operator_of, value_of
from hilsim.compiler.rewrite.apply import substitute, tidy
from hilsim.compiler.rewrite.products import sides_of
from hilsim.compiler.slow.factors import PERMUTATIONS, RESHAPES, Axis, Copied, all_copies, any_copies
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.pattern import Pattern, SlowPlace, put_call, put_function
from hilsim.compiler.slow.repeated_heads import NAME, REMEDY, TITLE
from hilsim.compiler.slow.repeats import CopyMap

REPEATED = Pattern(
    NAME,
    TITLE,
    REMEDY,
    "rounding",
    "vinc-lin/llm-deploy docs/REFERENCE.md at 6757672: 146.3 ms a token with copied heads, 22.37 ms in groups",
)
BATCH = Pattern(
    "repeat_batch",
    "keys and values copied for every entry of a batch before they are multiplied",
    "leave the copies out: of a batch axis of length 1 a product takes the one entry for all of them; or make the "
    "entries rows of one product, as beams over one memory can be",
    "rounding",
    "the same copy as repeat_kv makes, along the batch",
)


def repeated_heads(facts: Facts) -> Iterator[SlowPlace]:
    """Products and attentions that take a computed tensor whose heads are copies."""
    for node in facts.nodes:
        if node.op == "call_function" and node not in facts.constants and operator_of(node) in FINDERS:
            found = FINDERS[operator_of(node)](facts.copies, node)
            if found is not None:
                yield (
                    found
                    if not is_of_batch(facts.copies, found)
                    else replace(found, pattern=BATCH, detail=found.detail.replace("head", "entry"))
                )


def is_of_batch(copies: CopyMap, found: SlowPlace) -> bool:
    """Whether what is copied first is a batch: the first of four axes or more, and no axis behind it."""
    first = next((copies.found[node].axes for node in found.nodes if node in copies.found), ())
    along = [any_copies(axis) for axis in first]
    return len(along) > 3 and along[0] and all_copies(first[0]) and not any(along[1:])


def copied_of(copies: CopyMap, node: object) -> Copied | None:
    """What an operand copies; None where nothing, or where it is folded when the graph is built."""
    found = copies.found.get(node) if isinstance(node, fx.Node) else None
    return None if found is None or set(found.sources) <= copies.constants else found


def place(copied: Sequence[Copied], put: Any) -> SlowPlace:
    """A place of copied heads."""
    times = max(one.times for one in copied)
    path = dict.fromkeys(chain.from_iterable(one.path for one in copied))
    # Without copies other views and orders of axes are still there, of fewer numbers.
    nodes = tuple(node for node in path if operator_of(node) not in RESHAPES | PERMUTATIONS)
    return SlowPlace(REPEATED, nodes, put=put, detail=f"each head {times} times")


def put_instead(node: fx.Node, made: fx.Node, program: ExportedProgram) -> None:
    """Use what was made instead of a node, and drop what nothing uses any more."""
    substitute(program, node, made)
    tidy(program)


def of_product(copies: CopyMap, node: fx.Node) -> SlowPlace | None:
    """A batched product with copies in the batch of one operand."""
    operands: Any = node.args
    for side, other in ((1, 0), (0, 1)):
        copied = copied_of(copies, operands[side])
        if copied is None or operands[other] in copies.found or not any_copies(copied.axes[0]):
            continue
        if any(any_copies(axis) for axis in copied.axes[1:]):
            continue
        return place([copied], None if is_dynamic(copied.axes[0]) else partial(put_product, node, copied, side))
    return None


def is_dynamic(axis: Axis) -> bool:
    return any(factor.dynamic for factor in axis)


def put_product(node: fx.Node, copied: Copied, side: int, program: ExportedProgram) -> None:
    operands: Any = node.args
    taken = (*copied.sources, operands[1 - side])
    made = put_function(node, NAME, partial(grouped_product, copied, side), taken, like=value_of(node))
    put_instead(node, made, program)


def grouped_product(copied: Copied, side: int, *values: Tensor) -> Tensor:
    """A batched product in which the copies of one operand's batch are rows, or columns, of the other one."""
    thin = copied.make(dict(zip(copied.sources, values[:-1], strict=True)))
    other, batch = values[-1], copied.axes[0]
    (rows, columns), rank = other.shape[1:], len(batch)
    sizes = [factor.size for factor in batch]
    own = [axis for axis, factor in enumerate(batch) if not factor.copies]
    again = [axis for axis, factor in enumerate(batch) if factor.copies]
    heads, times = ([sizes[axis] for axis in axes] for axes in (own, again))
    apart = other.reshape(*sizes, rows, columns)
    if side:
        folded = permuted(apart, [*own, *again, rank, rank + 1]).reshape(prod(heads), prod(times) * rows, columns)
        made = torch.bmm(folded, thin).reshape(*heads, *times, rows, thin.shape[2])
    else:
        folded = permuted(apart, [*own, rank, *again, rank + 1]).reshape(prod(heads), rows, prod(times) * columns)
        made = torch.bmm(thin, folded).reshape(*heads, thin.shape[1], *times, columns).movedim(len(own), rank)
    back = [[*own, *again].index(axis) for axis in range(rank)]
    return permuted(made, [*back, rank, rank + 1]).reshape(prod(sizes), *made.shape[-2:])


def permuted(x: Tensor, order: list[int]) -> Tensor:
    """The axes in another order, where it is another."""
    return x if order == sorted(order) else x.permute(order)


def of_attention(copies: CopyMap, node: fx.Node) -> SlowPlace | None:
    """Scaled dot-product attention whose keys and values are copied alike, along their axis of heads alone."""
    args: Any = node.args
    keys, values = (copied_of(copies, operand) for operand in args[1:3])
    if keys is None or values is None or keys.axes[-3] != values.axes[-3]:
        return None
    if any(any_copies(axis) for one in (keys, values) for axis in (*one.axes[:-3], *one.axes[-2:])):
        return None
    heads, mask = keys.axes[-3], args[3] if len(args) > 3 else node.kwargs.get("attn_mask")
    each = isinstance(mask, fx.Node) and value_of(mask).dim() > 2 and value_of(mask).shape[-3] != 1
    turned = heads[0].copies and not all_copies(heads)  # all heads over again: the queries have to be sorted
    fits = not is_dynamic(heads) and len(heads) <= 2 and not (turned and each)
    return place([keys, values], partial(put_attention, node, keys, values, turned) if fits else None)


def put_attention(node: fx.Node, keys: Copied, values: Copied, turned: bool, program: ExportedProgram) -> None:
    """Attention that knows its groups, over keys and values as they are."""
    args: Any = node.args
    thin = [put_function(node, NAME, partial(made_thin, one), one.sources) for one in (keys, values)]
    sizes = [factor.size for factor in keys.axes[-3]]
    query = put_function(node, NAME, partial(regroup, sizes), (args[0],)) if turned else args[0]
    kwargs = {**node.kwargs, "enable_gqa": True}
    made = put_call(node, NAME, node.target, (query, *thin, *args[3:]), kwargs)
    back = partial(regroup, sizes[::-1]) if turned else as_it_is
    put_instead(node, put_function(node, NAME, back, (made,), like=value_of(node)), program)


def made_thin(copied: Copied, *values: Tensor) -> Tensor:
    """The tensor without its copies."""
    return copied.make(dict(zip(copied.sources, values, strict=True)))


def regroup(sizes: Sequence[int], x: Tensor) -> Tensor:
    """Heads as a table of these sizes, its columns first."""
    return x.reshape(*x.shape[:-3], *sizes, *x.shape[-2:]).transpose(-4, -3).reshape(x.shape)


def as_it_is(x: Tensor) -> Tensor:
    return x


def of_einsum(copies: CopyMap, node: fx.Node) -> SlowPlace | None:
    """An einsum with copies along letters of one operand."""
    args: Any = node.args
    equation, operands = args[0], list(args[1])
    for side, operand in enumerate(operands):
        copied = copied_of(copies, operand)
        if copied is None or any(other in copies.found for other in operands if other is not operand):
            continue
        letters = sides_of(equation)[0][side]
        if "." in equation or len(set(letters)) != len(letters):
            return place([copied], None)
        dynamic = any(is_dynamic(axis) and any_copies(axis) for axis in copied.axes)
        return place([copied], None if dynamic else partial(put_einsum, node, side, copied))
    return None


def put_einsum(node: fx.Node, side: int, copied: Copied, program: ExportedProgram) -> None:
    """An einsum in which a letter with copies is several, of which the operand has those that are no copies."""
    args: Any = node.args
    equation, operands = args[0], list(args[1])
    left, right = sides_of(equation)
    free = iter(letter for letter in ascii_letters if letter not in equation)
    parts = {
        letter: [(next(free), factor) for factor in axis]
        for letter, axis in zip(left[side], copied.axes, strict=True)
        if any_copies(axis)
    }

    def spelled(letters: str, *, thin: bool = False) -> str:
        kept = (
            "".join(new for new, factor in parts[one] if not (thin and factor.copies)) if one in parts else one
            for one in letters
        )
        return "".join(kept)

    def apart(letters: str, x: Tensor) -> Tensor:
        """Axes of letters that are several now, one each."""
        sizes = ([factor.size for _, factor in parts[one]] if one in parts else [size]
                 for one, size in zip(letters, x.shape, strict=True))  # fmt: skip
        return x.reshape(list(chain.from_iterable(sizes)))

    def thin(*values: Tensor) -> Tensor:
        x = made_thin(copied, *values)
        sizes = ([factor.size for _, factor in parts[one] if not factor.copies] if one in parts else [size]
                 for one, size in zip(left[side], x.shape, strict=True))  # fmt: skip
        return x.reshape(list(chain.from_iterable(sizes)))

    new = [
        put_function(node, NAME, thin, copied.sources) if place == side
        else put_function(node, NAME, partial(apart, letters), (operand,)) if set(letters) & parts.keys()
        else operand
        for place, (letters, operand) in enumerate(zip(left, operands, strict=True))
    ]  # fmt: skip

    def together(x: Tensor) -> Tensor:
        """Axes of letters that were one, one again."""
        sizes, given = [], iter(x.shape)
        for one in right:
            sizes.append(prod(next(given) for _ in parts.get(one, [one])))
        return x.reshape(sizes)

    inside = ",".join(spelled(letters, thin=place == side) for place, letters in enumerate(left))
    call = put_call(node, NAME, node.target, (f"{inside}->{spelled(right)}", new), {})
    put_instead(node, put_function(node, NAME, together, (call,), like=value_of(node)), program)


FINDERS = {
    "aten.bmm.default": of_product,
    "aten.scaled_dot_product_attention.default": of_attention,
    "aten.einsum.default": of_einsum,
}
