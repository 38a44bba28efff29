"""What of a graph could have been doubted and is fine: grouped attention, copies that a toolchain fuses."""

from __future__ import annotations

from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.language import Product, carried, most_rows, products_in, stored_operands
from hilsim.compiler.nodes import fixed, numel, operands, operator_of, tensors_of
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.slow.repeats import CopyMap
from hilsim.compiler.values import held_in


def settled_doubts(program: ExportedProgram, clock: PassTime) -> tuple[str, ...]:
    """Sentences about a graph as it was exported."""
    constants = clock.constants
    products = list(products_in(program, constants))
    rows = most_rows(found) if (found := [one for one in products if one.weights]) else 1
    attention = [product for product in products if not product.weights]
    copies = CopyMap(program.graph, constants, held_in(program) if attention else {})
    grouped = any(is_grouped(product, rows, constants, copies) for product in attention)
    repeats = [node for node in program.graph.nodes if repeats_numbers(node) and node not in constants]
    settled = []
    if grouped:
        settled.append("attention in groups: keys and values are read as they are, without copies for query heads")
    entry = clock.lowering(repeats[0]) if repeats else None
    if entry is not None and entry.lowering == "view":
        settled.append(f"repeated tensors: {entry.why} ({entry.evidence})")
    return tuple(settled)


def is_grouped(product: Product, rows: int, constants: set[fx.Node], copies: CopyMap) -> bool:
    """Whether an attention's product has fewer heads of keys or values than of queries, and none of them are copies."""
    queries = tensors_of(product.operands[0])[0]
    heads = numel(queries) // max(1, fixed(queries.shape[-1])) // rows
    for stored in stored_operands(product):
        tensor = tensors_of(stored)[0]
        own = numel(tensor) // max(1, fixed(tensor.shape[-1]) * fixed(tensor.shape[-2]))
        if carried(stored, constants, copies) < numel(tensor) or own >= heads:
            return False
    return True


def repeats_numbers(node: fx.Node) -> bool:
    """Whether a node yields numbers of one tensor several times."""
    if node.op != "call_function" or operator_of(node) not in ("aten.expand.default", "aten.repeat.default"):
        return False
    return numel(tensors_of(node)[0]) > sum(map(numel, operands(node)))
