"""All recognisers of slow patterns: what they find in a graph, and the graph with all of it mended that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import constants_of
from hilsim.compiler.pass_time import PassTime, SlowPattern
from hilsim.compiler.slow.heads import repeated_heads
from hilsim.compiler.slow.pattern import Pattern, SlowPlace
from hilsim.compiler.slow.repeats import CopyMap
from hilsim.compiler.values import held_in


class Facts:
    """What recognisers ask of a graph, worked out once."""

    def __init__(self, program: ExportedProgram):
        self.program = program
        self.nodes: list[fx.Node] = list(program.graph.nodes)
        self.constants = constants_of(program)

    @cached_property
    def held(self) -> dict[str, Tensor]:
        return held_in(self.program)

    @cached_property
    def copies(self) -> CopyMap:
        return CopyMap(self.program.graph, self.constants, self.held)


Recogniser = Callable[[Facts], Iterator[SlowPlace]]
RECOGNISERS: tuple[Recogniser, ...] = (lambda facts: repeated_heads(facts.copies, facts.nodes),)


def slow_places(program: ExportedProgram) -> list[SlowPlace]:
    """Every place of a graph that has a slow pattern."""
    facts = Facts(program)
    return [place for recognise in RECOGNISERS for place in recognise(facts)]


def slow_patterns(program: ExportedProgram, clock: PassTime) -> Iterator[SlowPattern]:
    """The slow patterns of a graph as it was exported, before any rewrite: one entry a pattern."""
    found: dict[Pattern, list[SlowPlace]] = {}
    for place in slow_places(program):
        found.setdefault(place.pattern, []).append(place)
    for pattern, places in found.items():
        yield of_places(pattern, places, clock)


def of_places(pattern: Pattern, places: list[SlowPlace], clock: PassTime) -> SlowPattern:
    """All places of one pattern as one entry; a node that several of them have counts once."""
    remains = {node: place.remains for place in reversed(places) for node in place.nodes}
    nodes = tuple(dict.fromkeys(node for place in places for node in place.nodes))
    details = dict.fromkeys(place.detail for place in places if place.detail)
    put = all(place.put is not None for place in places)
    return SlowPattern(
        name=pattern.name,
        title=f"{pattern.title} ({', '.join(details)})" if details else pattern.title,
        nodes=nodes,
        remedy=pattern.remedy,
        kept_s=sum(clock.node_seconds(node) * remains[node] for node in nodes),
        rewrite=pattern.name if put else "",
        exactness=pattern.exactness,
        source=pattern.source,
    )


def mend(program: ExportedProgram) -> dict[str, int]:
    """Put every better form that can be into a program, in place; how many places of each pattern there were."""
    done: dict[str, int] = {}
    hopeless: set[str] = set()
    while place := next((p for p in slow_places(program) if p.put and p.nodes[0].name not in hopeless), None):
        assert place.put is not None
        try:
            place.put(program)
            done[place.pattern.name] = done.get(place.pattern.name, 0) + 1
        except ValueError:
            hopeless.add(place.nodes[0].name)
    return done
