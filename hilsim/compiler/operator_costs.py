"""What nodes of a graph cost: launches, numbers moved, operations. Shapes only; a unit's figures make seconds of it."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod, sqrt

from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from hilsim.compiler.nodes import fixed, numel, operands, operator_of, parameters_of, sources_of, tensors_of
from hilsim.describe.compiled import Work
from hilsim.describe.profile import spellings

# Another view of the same numbers: compilers fold these into what reads them.
VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "expand.default", "unsqueeze.default", "squeeze.dims", "squeeze.dim", "select.int",
        "slice.Tensor", "split_with_sizes.default",
    )
)  # fmt: skip
LOOKUPS = ("aten.embedding.default", "aten.index_select.default")  # read rows of a table, not all of it
PRODUCTS = {
    "aten.mm.default": (0, 1),
    "aten.bmm.default": (0, 1),
    "aten.addmm.default": (1, 2),
    "aten.baddbmm.default": (1, 2),
    "aten.linear.default": (0, 1),
    "aten.convolution.default": (0, 1),
    "aten.einsum.default": (0, 1),
    "aten.scaled_dot_product_attention.default": (0, 1),
}
RECURRENT = ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")


def is_free(node: fx.Node) -> bool:
    """Whether a node computes nothing: inputs, views, other names of the same numbers."""
    operator = operator_of(node)
    spelling = spellings().get(operator)
    return node.op != "call_function" or operator in VIEWS or (spelling is not None and not spelling.reads)


def work_of(node: fx.Node, constants: set[fx.Node]) -> Work:
    """One node's work; nothing where it is folded when the graph is built."""
    if node in constants or is_free(node):
        return Work()
    numbers = sum(map(numel, operands(node))) + sum(map(numel, tensors_of(node)))
    if operator_of(node) in LOOKUPS:
        numbers = 2 * sum(map(numel, tensors_of(node)))  # rows of the table that are read, not all of it
    return Work(1, numbers, operations_of(node))


def operations_of(node: fx.Node) -> int:
    """Multiplications and additions; of an elementwise operator one a number."""
    made = sum(map(numel, tensors_of(node)))
    operator, taken = operator_of(node), [tensor for source in sources_of(node) for tensor in tensors_of(source)]
    if operator in RECURRENT:  # every matrix once a step and sequence
        weights = [tensor for source in tree_leaves(node.args[2]) for tensor in tensors_of(source)]
        steps = numel(taken[0]) // max(1, fixed(taken[0].shape[-1]))
        return 2 * steps * sum(numel(tensor) for tensor in weights if tensor.dim() == 2)
    if operator not in PRODUCTS or len(taken) < 2:
        return max(made, max(map(numel, taken), default=0))
    first = taken[min(PRODUCTS[operator][0], len(taken) - 1)]
    if operator == "aten.scaled_dot_product_attention.default":
        return 4 * numel(first) * fixed(taken[1].shape[-2])
    if operator == "aten.convolution.default":
        return 2 * made * numel(taken[1]) // max(1, int(taken[1].shape[0]))
    if operator == "aten.einsum.default":
        return 2 * summands(str(node.args[0]), taken, made)
    return 2 * made * fixed(first.shape[-1])


def summands(equation: str, taken: list[Tensor], made: int) -> int:
    """Products that an einsum sums up: one for every setting of its letters."""
    sides = equation.replace(" ", "").partition("->")[0].split(",")
    if "." in equation or len(sides) != len(taken):
        # Without batches: the summed-up dimensions are what both operands have and the result lacks.
        return made * max(1, round(sqrt(numel(taken[0]) * numel(taken[1]) / max(1, made))))
    pairs = zip(sides, taken, strict=True)
    sizes = {letter: fixed(size) for side, of in pairs for letter, size in zip(side, of.shape, strict=True)}
    return prod(sizes.values())


def work_of_all(nodes: Iterable[fx.Node], constants: set[fx.Node]) -> Work:
    """The work of several nodes."""
    total = Work()
    for node in nodes:
        total = total + work_of(node, constants)
    return total


def products_of(nodes: Iterable[fx.Node], constants: set[fx.Node]) -> int:
    """Operations of matrix products, convolutions and recurrent layers alone."""
    counted = {*PRODUCTS, *RECURRENT}
    return sum(operations_of(node) for node in nodes if node not in constants and operator_of(node) in counted)


def working_set(nodes: Iterable[fx.Node], constants: set[fx.Node]) -> int:
    """Numbers that one of these nodes reads and writes at most, constants left out: what must lie in memory for it."""
    most = (
        sum(map(numel, inputs_of(node, constants))) + sum(map(numel, tensors_of(node)))
        for node in nodes
        if node not in constants and not is_free(node)
    )
    return max(most, default=0)


def inputs_of(node: fx.Node, constants: set[fx.Node]) -> list[Tensor]:
    """The tensors that a node takes and that are computed."""
    return [tensor for source in node.all_input_nodes if source not in constants for tensor in tensors_of(source)]


def parameter_sizes(program: ExportedProgram) -> list[int]:
    """Numbers in each parameter and buffer that is used; a tied one counts once, as the other name has no users."""
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    return [numel(tensor) for name, tensor in parameters_of(program).items() if name in used]


def weights_read(nodes: Iterable[fx.Node], constants: set[fx.Node]) -> int:
    """Numbers that a pass reads of parameters and constants: at every use, as no chip here keeps a network on board."""
    read = 0
    for node in nodes:
        if node in constants or is_free(node) or operator_of(node) in LOOKUPS:
            continue
        read += sum(
            numel(tensor) for source in sources_of(node) if source in constants for tensor in tensors_of(source)
        )
    return read


def constant_numbers(nodes: Iterable[fx.Node], constants: set[fx.Node]) -> int:
    """Numbers that are folded into the graph by these nodes and read by others: tables, triangles, masks."""
    read = [node for node in nodes if node in constants and any(user not in constants for user in node.users)]
    return sum(numel(tensor) for node in read for tensor in tensors_of(node))
