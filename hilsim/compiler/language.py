"""Language models among exported graphs: what one pass of theirs reads and computes, for the clock of `cost.step`.

A graph is a language model's where attention reads a cache that comes in, or where it looks tokens up and ends in rows
of as many logits. Products with constants are its layers and its head, products of two activations its attention.
What lies between them is in the clock's fixed costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from hilsim.compiler.nodes import constants_of, fixed, numel, operator_of, tensors_of
from hilsim.compiler.operator_costs import PRODUCTS, operations_of
from hilsim.compiler.slow.repeats import CopyMap
from hilsim.compiler.values import held_in
from hilsim.cost.counts import matmul_operations
from hilsim.cost.step import PassCounts, graphs_of, in_tiles
from hilsim.describe.chip import Precision, Unit

ATTENTION = "aten.scaled_dot_product_attention.default"
# What keys and values go through on their way from the cache to the product: other views, copies, a scale.
CARRIERS = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "permute.default", "expand.default", "clone.default", "unsqueeze.default", "squeeze.dims",
        "squeeze.dim", "_to_copy.default", "mul.Tensor", "mul.Scalar", "div.Tensor", "slice.Tensor", "select.int",
        "repeat.default", "index_select.default", "index.Tensor", "transpose.int", "alias.default", "gather.default",
    )
)  # fmt: skip
# What puts new keys and values to those of the cache.
JOINS = frozenset(
    f"aten.{name}"
    for name in (
        "cat.default", "index_put.default", "index_copy.default", "slice_scatter.default", "select_scatter.default",
        "scatter.src", "where.self", "add.Tensor",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """One product: of `weights` numbers that are constant, none of which an attention's has; rows and columns made."""

    node: fx.Node
    operands: tuple[fx.Node, ...]
    weights: int
    rows: int
    columns: int


def products_in(program: ExportedProgram, constants: set[fx.Node]) -> Iterator[Product]:
    """Every product that a pass computes."""
    for node in program.graph.nodes:
        operator = operator_of(node) if node.op == "call_function" and node not in constants else ""
        if operator not in PRODUCTS or operator == "aten.convolution.default":
            continue
        given = node.args[1] if operator == "aten.einsum.default" else node.args
        places = PRODUCTS[operator] if operator != ATTENTION else (0, 1, 2)
        operands = tuple(one for place in places if isinstance(one := given[place], fx.Node))
        made = tensors_of(node)
        if len(operands) < 2 or not made or not all(tensors_of(one) for one in operands):
            continue
        weights = sum(numel(tensors_of(one)[0]) for one in operands if one in constants)
        columns = fixed(made[0].shape[-1])
        yield Product(node, operands, weights, numel(made[0]) // max(1, columns), columns)


def carried(node: fx.Node, constants: set[fx.Node], copies: CopyMap) -> int:
    """Numbers of keys or values before anything repeats them."""
    least = own_numbers(node, copies)
    while node.op == "call_function" and operator_of(node) in CARRIERS:
        sources = [one for one in node.all_input_nodes if one not in constants and tensors_of(one)]
        if not sources:
            break
        node = max(sources, key=lambda one: numel(tensors_of(one)[0]))
        least = min(least, own_numbers(node, copies))
    return least


def own_numbers(node: fx.Node, copies: CopyMap) -> int:
    """Numbers of a node that are no copies of others of it."""
    copied = copies.found.get(node)
    return numel(tensors_of(node)[0]) // (1 if copied is None else copied.times)


def caches_of(program: ExportedProgram) -> set[fx.Node]:
    """Inputs that may hold a cache: numbers in three dimensions and more, and state that a pass changes."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    changed = set(program.graph_signature.buffers_to_mutate.values())
    state = {name for name, buffer in program.graph_signature.inputs_to_buffers.items() if buffer in changed}
    return {
        node
        for node in program.graph.nodes
        if node.op == "placeholder"
        and node.name in inputs | state
        and any(tensor.dim() >= 3 and tensor.dtype.is_floating_point for tensor in tensors_of(node))
    }


def reads_cache(node: fx.Node, caches: set[fx.Node], constants: set[fx.Node]) -> bool:
    """Whether keys or values come out of a cache, through views, copies, and what joins new ones to them."""
    seen, open_ = {node}, [node]
    while open_:
        one = open_.pop()
        if one in caches:
            return True
        if one.op == "call_function" and operator_of(one) in CARRIERS | JOINS:
            fresh = [source for source in one.all_input_nodes if source not in seen and source not in constants]
            seen.update(fresh)
            open_ += fresh
    return False


def vocabularies(program: ExportedProgram) -> set[int]:
    """Entries of the tables that tokens are looked up in: by an input of integers, directly or as views."""
    found = set()
    for node in program.graph.nodes:
        if node.op == "call_function" and operator_of(node) == "aten.embedding.default":
            table = node.args[0]
            if isinstance(table, fx.Node) and tensors_of(table):
                found.add(fixed(tensors_of(table)[0].shape[0]))
    return found


def language_counts(program: ExportedProgram, unit: Unit, precision: Precision) -> PassCounts | None:
    """What a pass of a language model reads and computes; None of any other network."""
    constants = constants_of(program)
    found = list(products_in(program, constants))
    attention = [one for one in found if not one.weights]
    weighted = [one for one in found if one.weights]
    if not attention or not weighted:
        return None
    stored = [one for product in attention for one in stored_operands(product)]
    entries = vocabularies(program)
    heads = [one for one in weighted if one.columns in entries]
    caches = caches_of(program)
    if not heads and not any(reads_cache(one, caches, constants) for one in stored):
        return None
    body = [one for one in weighted if one not in heads]
    rows = most_rows(body or heads)
    head_rows = sum(one.rows for one in heads)
    head, all_body = sum(one.weights for one in heads), sum(one.weights for one in body)
    positions = max((positions_of(one) for one in attention), default=1)
    seen = 1.0 if unit.widths is not None else max(0.0, 1 - (rows - 1) / 2 / max(1, positions))
    copies = CopyMap(program.graph, constants, held_in(program))
    kv_numbers = sum(carried(one, constants, copies) for one in stored)
    return PassCounts(
        rows=rows,
        all_rows=rows,
        layers=attention_layers(found, lambda node: 1.0),
        graphs=graphs_of(all_body, head, unit, precision),
        body=all_body,
        head=head,
        adapter=0,
        by_rows=[(float(all_body), float(rows))],
        body_operations=sum(matmul_operations(one.weights, in_tiles(one.rows, unit)) for one in body),
        head_operations=sum(matmul_operations(one.weights, in_tiles(one.rows, unit)) for one in heads),
        kv_bytes=kv_numbers * precision.kv_bits.si / 8,
        attention_operations=sum(operations_of(one.node) for one in attention) * seen * in_tiles(rows, unit) / rows,
        recurrence_operations=0,
        logits_rows=head_rows,
        entries=max(entries, default=0) if heads else 0,
        prompt=unit.widths is not None or rows > 1,
    )


def attention_layers(products: list[Product], times: Callable[[fx.Node], float]) -> int:
    """Layers that attend: two products each, or one that is an attention as a whole; `times` a node is counted."""
    attention = [one.node for one in products if not one.weights]
    return round(sum(times(node) * (1 if operator_of(node) == ATTENTION else 0.5) for node in attention))


def stored_operands(product: Product) -> tuple[fx.Node, ...]:
    """Keys and values of a whole attention; of a product of two activations the second one."""
    return product.operands[1:3] if operator_of(product.node) == ATTENTION else product.operands[1:2]


def most_rows(products: list[Product]) -> int:
    """The rows that most weights multiply."""
    weights: Counter[int] = Counter()
    for one in products:
        weights[one.rows] += one.weights
    return max(1, weights.most_common(1)[0][0])


def positions_of(product: Product) -> int:
    """How many positions an attention's rows see at most: the columns of its scores."""
    if operator_of(product.node) == ATTENTION:
        return fixed(tensors_of(product.operands[1])[0].shape[-2])
    return product.columns
