"""What recognisers ask of a graph, worked out once: what is known beforehand, what positions decide, the caches."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from hilsim.compiler.language import caches_of, products_in, reads_cache, stored_operands, vocabularies
from hilsim.compiler.nodes import constants_of, fixed, is_random, operator_of, value_of
from hilsim.compiler.slow.factors import ALIASES, PERMUTATIONS, RESHAPES
from hilsim.compiler.slow.repeats import CopyMap
from hilsim.compiler.values import held_in

PARTS = frozenset(("aten.select.int", "aten.slice.Tensor"))


class Facts:
    """One exported graph and what is known of its nodes."""

    def __init__(self, program: ExportedProgram):
        self.program = program
        self.nodes: list[fx.Node] = list(program.graph.nodes)
        self.constants = constants_of(program)

    @cached_property
    def held(self) -> dict[str, Tensor]:
        """Values of parameters and constants by placeholder, those that are there."""
        return held_in(self.program)

    @cached_property
    def copies(self) -> CopyMap:
        return CopyMap(self.program.graph, self.constants, self.held)

    @cached_property
    def inputs(self) -> set[fx.Node]:
        """What comes in from outside, state that a pass changes among it."""
        signature = self.program.graph_signature
        changed = set(signature.buffers_to_mutate.values())
        names = {spec.arg.name for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT}
        names |= {name for name, buffer in signature.inputs_to_buffers.items() if buffer in changed}
        return {node for node in self.nodes if node.op == "placeholder" and node.name in names}

    @cached_property
    def caches(self) -> set[fx.Node]:
        """Inputs whose numbers an attention reads as keys or values."""
        products = (product for product in products_in(self.program, self.constants) if not product.weights)
        stored = {operand for product in products for operand in stored_operands(product)}
        return {
            cache
            for cache in caches_of(self.program)
            if any(reads_cache(operand, {cache}, self.constants) for operand in stored)
        }

    @cached_property
    def positional(self) -> set[fx.Node]:
        """Computed nodes that hang on inputs of integers and booleans alone: positions, masks, what is made of them."""
        found = {node for node in self.inputs if isinstance(value := value_of(node), Tensor) and is_whole(value)}
        given = set(found)
        for node in self.nodes:
            if node.op != "call_function" or node in self.constants or is_random(node):
                continue
            sources = node.all_input_nodes
            if all(source in found or source in self.constants for source in sources) and not self.looks_up(node):
                found.add(node)
        return found - given

    def looks_up(self, node: fx.Node) -> bool:
        """Whether a node reads a table of tokens: no position but the network's own input."""
        if operator_of(node) != "aten.embedding.default":
            return False
        return any(source.op == "placeholder" and self.is_parameter(source) for source in node.all_input_nodes[:1])

    def is_parameter(self, node: fx.Node) -> bool:
        return node.name in self.program.graph_signature.inputs_to_parameters

    @cached_property
    def tokens(self) -> int:
        """Entries of the largest table that something is looked up in; 0 where there is none."""
        return max(vocabularies(self.program), default=0)

    @cached_property
    def results(self) -> set[fx.Node]:
        """The nodes that come out."""
        return set(self.nodes[-1].all_input_nodes)


def is_whole(value: Tensor) -> bool:
    """Whether a tensor is of integers or booleans."""
    return not value.dtype.is_floating_point and not value.dtype.is_complex


def seen_through(node: fx.Node) -> fx.Node:
    """The node whose numbers this one shows, in another shape or order, or some of them."""
    while node.op == "call_function" and operator_of(node) in ALIASES | RESHAPES | PERMUTATIONS | PARTS:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        node = source
    return node


def last_length(node: fx.Node) -> int:
    """The length of a node's last axis; 0 of what has none."""
    value = value_of(node)
    return fixed(value.shape[-1]) if isinstance(value, torch.Tensor) and value.dim() else 0
