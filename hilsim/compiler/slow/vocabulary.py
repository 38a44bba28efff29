"""Work over the whole vocabulary that a pass need not do: logits of rows that nothing reads, and their softmax."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import numel, operator_of, sources_of, value_of
from hilsim.compiler.pass_time import WEIGHTED, PassTime
from hilsim.compiler.slow.causal import is_causal
from hilsim.compiler.slow.facts import Facts, last_length, seen_through
from hilsim.compiler.slow.heads import put_instead
from hilsim.compiler.slow.pattern import Pattern, SlowPlace, put_call

aten = torch.ops.aten
# A graph with a cache of no more rows may verify a draft or a tree of drafts, which takes the logits of every row.
VERIFIED_ROWS, FEW_ROWS = 128, 16
EVERY_ROW = Pattern(
    "head_of_every_row",
    "logits of every row of a prompt, of which the last row's alone choose the next token",
    "select the last row before the output head: hidden[:, -1:]; in transformers logits_to_keep=1",
    "bits",
    "huggingface/transformers: logits_to_keep of the forward of every causal model",
    applies=False,
)
SOFTMAX = Pattern(
    "softmax_of_vocabulary",
    "a softmax or a sort of the whole vocabulary in the graph",
    "return the logits, or their top-k: the best tokens are the same; normalise and sort on the host",
    "values",
    "softmax is monotonic; vendors' samplers run on the host (Qualcomm Genie dialog samplers)",
    applies=False,
)
ARGMAX = Pattern(
    "softmax_before_argmax",
    "a softmax of the whole vocabulary of which the largest is all that is read",
    "take the argmax of the logits: softmax keeps their order",
    "values",
    "softmax is monotonic",
)
PRODUCTS = ("aten.linear.default", "aten.mm.default", "aten.addmm.default")
NORMALISERS = ("aten._softmax.default", "aten._log_softmax.default")
SORTS = ("aten.sort.default", "aten.sort.stable", "aten.argsort.default")


def heads_of_every_row(facts: Facts) -> Iterator[SlowPlace]:
    """Output heads over the rows of a prompt whose logits come out, as they are or chosen from.

    Where no row sees later ones: what reads to both sides fills in tokens of any row, and wants logits of each.
    """
    for node in facts.nodes:
        if not is_head(node, facts) or not is_causal(facts):
            continue
        rows = numel(value_of(node)) // last_length(node)
        behind = [other for other in after(node) if numel_of(other) >= rows]
        if rows > (VERIFIED_ROWS if facts.caches else FEW_ROWS) and not any(
            operator_of(other) in WEIGHTED for other in behind
        ):
            yield SlowPlace(EVERY_ROW, (node, *behind), partial(last_row, node, behind, rows), detail=f"{rows} rows")


def last_row(node: fx.Node, behind: list[fx.Node], rows: int, clock: PassTime) -> float:
    """What the head takes of one row, weights and all, and what is made of its logits."""
    args: Any = node.args
    place = 1 if operator_of(node) == "aten.addmm.default" else 0
    given = value_of(args[place])
    row = put_call(node, EVERY_ROW.name, aten.slice.Tensor, (args[place], given.dim() - 2, -1), {})
    one = put_call(node, EVERY_ROW.name, node.target, (*args[:place], row, *args[place + 1 :]), dict(node.kwargs))
    seconds = clock.node_seconds(one)
    for made in (one, row):
        node.graph.erase_node(made)
    return seconds + clock.seconds(behind) / rows


def is_head(node: fx.Node, facts: Facts) -> bool:
    """Whether a node is a product with a table of constants that has a column for every token."""
    if operator_of(node) not in PRODUCTS or node in facts.constants or not last_length(node) == facts.tokens > 0:
        return False
    return any(source in facts.constants and numel(value_of(source)) > last_length(node) for source in sources_of(node))


def numel_of(node: fx.Node) -> int:
    value = value_of(node)
    return numel(value) if isinstance(value, Tensor) else 0


def after(node: fx.Node) -> list[fx.Node]:
    """What is made of a node, in order."""
    found, open_ = {}, list(node.users)
    while open_:
        one = open_.pop(0)
        if one.op == "call_function" and one not in found:
            found[one] = True
            open_ += list(one.users)
    return list(found)


def vocabulary_softmax(facts: Facts) -> Iterator[SlowPlace]:
    """Softmax and sorts along the axis of tokens."""
    for node in facts.nodes:
        if node.op != "call_function" or node in facts.constants or operator_of(node) not in (*NORMALISERS, *SORTS):
            continue
        args: Any = node.args
        source = args[0]
        if not last_length(source) == facts.tokens > 0 or not of_head(source, facts):
            continue
        axis = args[1] if operator_of(node) in NORMALISERS else -1
        if axis not in (-1, value_of(source).dim() - 1):
            continue
        if operator_of(node) in NORMALISERS and node.users and all(is_argmax(user) for user in node.users):
            yield SlowPlace(ARGMAX, (node,), put=partial(put_logits, node, source))
        else:
            yield SlowPlace(SOFTMAX, (node,))


def of_head(node: fx.Node, facts: Facts) -> bool:
    """Whether numbers are logits: of an output head, scaled or cast perhaps."""
    for _ in range(8):
        node = seen_through(node)
        if is_head(node, facts):
            return True
        sources = [source for source in node.all_input_nodes if source not in facts.constants]
        if len(sources) != 1:
            return False
        node = sources[0]
    return False


def is_argmax(node: fx.Node) -> bool:
    """Whether a node is the place of the largest number of each row."""
    args: Any = node.args
    return operator_of(node) == "aten.argmax.default" and len(args) > 1 and args[1] in (-1, value_of(args[0]).dim() - 1)


def put_logits(node: fx.Node, source: fx.Node, program: ExportedProgram) -> None:
    put_instead(node, source, program)
