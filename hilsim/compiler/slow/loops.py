"""Loops that the export unrolled: the same lines again and again, a launch for every operator of every round."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial

from torch import fx

from hilsim.compiler.nodes import operator_of, place_of
from hilsim.compiler.operator_costs import is_free
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.pattern import Pattern, SlowPlace
from hilsim.cost.step import si

ROUNDS, LAUNCHES = 8, 200
UNROLLED = Pattern(
    "unrolled_loop",
    "a loop of tiny operators, unrolled when it was exported: every round launches each of them",
    "compute all rounds at once, as a further axis: heads and experts as a batch of one product, steps of a sequence "
    "as a scan or a recurrent layer that stays whole",
    "rounding",
    "pytorch/executorch 8468 (an LSTM of thousands of operators); general technique",
    applies=False,
)


def unrolled_loops(facts: Facts) -> Iterator[SlowPlace]:
    """Operators of one call of a module that stand there in equal numbers, many times each."""
    calls: dict[tuple[str, int], list[fx.Node]] = defaultdict(list)
    for node in facts.nodes:
        if node.op == "call_function" and node not in facts.constants and not is_free(node):
            place = place_of(node)
            calls[place.module, place.call].append(node)
    for nodes in calls.values():
        lines = Counter((operator_of(node), place_of(node).line) for node in nodes)
        rounds = most_common_count(lines)
        looped = tuple(node for node in nodes if lines[operator_of(node), place_of(node).line] >= rounds)
        if rounds >= ROUNDS and len(looped) >= LAUNCHES:
            yield SlowPlace(UNROLLED, looped, partial(one_round, looped, rounds), detail=f"{rounds} rounds")


def one_round(nodes: tuple[fx.Node, ...], rounds: int, clock: PassTime) -> float:
    """The same work with the launches of one round; all of it where launches are the lesser part."""
    takes_s, launch_s = clock.seconds(nodes), si(clock.unit.operator_overhead)
    launches_s = sum(launch_s * clock.times(node) for node in nodes if clock.node_seconds(node) >= launch_s)
    return takes_s - launches_s * (1 - 1 / rounds) if 2 * launches_s > takes_s else takes_s


def most_common_count(lines: Counter[tuple[str, str]]) -> int:
    """How often most operators stand there, by the number of nodes: the rounds of a loop."""
    nodes: Counter[int] = Counter()
    for count in lines.values():
        nodes[count] += count
    return nodes.most_common(1)[0][0] if nodes else 0
