"""Islands: what a compiler refuses and no rewrite mends, gathered into the fewest pieces that run elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from hilsim.compiler.nodes import constants_of, operator_of
from hilsim.compiler.prices import work_of_all
from hilsim.describe.compiled import Work


@dataclass(frozen=True)
class Islands:
    """`pieces` of the graph stay on the unit, `crossings` runs of `nodes` leave it; `away` is their work."""

    pieces: int
    crossings: int
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    away: Work


class Named(OperatorSupportBase):
    """Nodes by name, those folded at build time always among them."""

    def __init__(self, names: set[str]):
        self.names = names

    def is_node_supported(self, submodules: Mapping[str, nn.Module], node: fx.Node) -> bool:
        return node.name in self.names


def islands_of(program: ExportedProgram, refused: set[str]) -> Islands:
    """The islands that the `refused` nodes make."""
    constants = constants_of(program)
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and node not in constants]
    away = [node for node in nodes if node.name in refused]
    if not away:
        return Islands(1, 0, (), (), Work())

    def parts(names: set[str]) -> int:
        partitioner = CapabilityBasedPartitioner(program.graph_module, Named(names), allows_single_node_partition=True)
        return len(partitioner.propose_partitions())

    here = {node.name for node in nodes if node.name not in refused}
    return Islands(
        parts(here),
        parts(refused),
        tuple(node.name for node in away),
        tuple(dict.fromkeys(map(operator_of, away))),
        work_of_all(away, constants),
    )
