"""Islands: operators that a compiler refuses and no rewrite fixes, gathered into the fewest pieces off the unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from hilsim.compiler.nodes import constants_of, operator_of, place_of
from hilsim.compiler.operator_costs import work_of
from hilsim.describe.compiled import Work


@dataclass(frozen=True)
class Islands:
    """`pieces` of the exported graph stay on the unit, runs of `nodes` leave it.

    `crossings` and `away`, the ways there and back and the work there, count every layer of the deployed model.
    """

    pieces: int
    crossings: int
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    away: Work


class NamedNodes(OperatorSupportBase):
    """Nodes by name."""

    def __init__(self, names: set[str]):
        self.names = names

    def is_node_supported(self, submodules: Mapping[str, nn.Module], node: fx.Node) -> bool:
        return node.name in self.names


def islands_of(program: ExportedProgram, refused: set[str], layers: str = "", repeats: int = 1) -> Islands:
    """The islands that the `refused` nodes make; those in modules that begin with `layers` count `repeats` times."""
    constants = constants_of(program)
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and node not in constants]
    away = [node for node in nodes if node.name in refused]
    if not away:
        return Islands(1, 0, (), (), Work())

    def parts(names: set[str]) -> list[list[fx.Node]]:
        partitioner = CapabilityBasedPartitioner(
            program.graph_module, NamedNodes(names), allows_single_node_partition=True
        )
        return [list(part.nodes) for part in partitioner.propose_partitions()]

    def times(node: fx.Node) -> int:
        return repeats if layers and place_of(node).module.startswith(layers) else 1

    here = {node.name for node in nodes if node.name not in refused}
    work = Work()
    for node in away:
        work = work + work_of(node, constants) * times(node)
    return Islands(
        len(parts(here)),
        sum(max(map(times, part)) for part in parts(refused)),
        tuple(node.name for node in away),
        tuple(dict.fromkeys(map(operator_of, away))),
        work,
    )
