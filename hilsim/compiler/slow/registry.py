"""All recognisers of slow patterns: what they find in a graph, and the graph with all of it mended that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.pass_time import PassTime, SlowPattern
from hilsim.compiler.program import copied
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.caches import CAT, PERMUTED, caches_by_cat, caches_permuted
from hilsim.compiler.slow.casts import ISLAND, wide_islands
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.heads import BATCH, REPEATED, repeated_heads
from hilsim.compiler.slow.layouts import PAIR, exchanged_and_back
from hilsim.compiler.slow.loops import UNROLLED, unrolled_loops
from hilsim.compiler.slow.pattern import Pattern, SlowPlace
from hilsim.compiler.slow.positions import AGAIN, MASK, masks_in_graph, worked_out_again
from hilsim.compiler.slow.vocabulary import ARGMAX, EVERY_ROW, SOFTMAX, heads_of_every_row, vocabulary_softmax

Recogniser = Callable[[Facts], Iterator[SlowPlace]]
RECOGNISERS: tuple[Recogniser, ...] = (
    repeated_heads,
    exchanged_and_back,
    caches_permuted,
    caches_by_cat,
    worked_out_again,
    masks_in_graph,
    vocabulary_softmax,
    heads_of_every_row,
    wide_islands,
    unrolled_loops,
)
PATTERNS = (REPEATED, BATCH, PAIR, PERMUTED, CAT, AGAIN, MASK, EVERY_ROW, SOFTMAX, ARGMAX, ISLAND, UNROLLED)


def slow_places(program: ExportedProgram) -> list[SlowPlace]:
    """Every place of a graph that has a slow pattern."""
    facts = Facts(program)
    return [place for recognise in RECOGNISERS for place in recognise(facts)]


def slow_patterns(program: ExportedProgram, clock: PassTime) -> Iterator[SlowPattern]:
    """The slow patterns of a graph as it was exported, before any rewrite: one entry a pattern."""
    found: dict[Pattern, list[SlowPlace]] = {}
    taken: set[fx.Node] = set()  # a node is in one entry, the first that has it, so that gains add up
    for place in slow_places(program):
        if own := tuple(node for node in place.nodes if node not in taken):
            found.setdefault(place.pattern, []).append(replace(place, nodes=own))
        taken.update(place.nodes)
    for pattern, places in found.items():
        yield of_places(pattern, places, clock)


def of_places(pattern: Pattern, places: list[SlowPlace], clock: PassTime) -> SlowPattern:
    """All places of one pattern as one entry; a node that several of them have counts once."""
    nodes = tuple(dict.fromkeys(node for place in places for node in place.nodes))
    details = dict.fromkeys(place.detail for place in places if place.detail)
    put = all(place.put is not None for place in places)
    return SlowPattern(
        name=pattern.name,
        title=f"{pattern.title} ({', '.join(details)})" if details else pattern.title,
        nodes=nodes,
        remedy=pattern.remedy,
        kept_s=sum(place.kept(clock) for place in places),
        rewrite=pattern.name if put else "",
        exactness=pattern.exactness,
        source=pattern.source,
    )


def mend(program: ExportedProgram, may: Callable[[str], bool] = lambda name: True) -> dict[str, int]:
    """Put every better form that may be into a program, in place; how many places of each pattern there were."""
    done: dict[str, int] = {}
    hopeless: set[str] = set()

    def open_place() -> SlowPlace | None:
        places = (place for place in slow_places(program) if place.put is not None and may(place.pattern.name))
        return next((place for place in places if place.nodes[-1].name not in hopeless), None)

    while (place := open_place()) is not None:
        assert place.put is not None
        try:
            place.put(program)
            done[place.pattern.name] = done.get(place.pattern.name, 0) + 1
        except ValueError:
            hopeless.add(place.nodes[-1].name)
    return done


def mended(program: ExportedProgram, site: CompileSite) -> tuple[ExportedProgram, str]:
    """A program with every better form that may be used there, and what was done; the program itself where nothing is.

    A form that the compiler refuses where it took the slow one is none.
    """
    tried = copied(program)
    done = mend(tried, site.may_use)
    faults = [sum(found.severity == "error" for found in site.book.findings(one, "")) for one in (tried, program)]
    if not done or faults[0] > faults[1]:
        return program, ""
    return tried, "mended: " + ", ".join(f"{name} at {count} place{'s' * (count > 1)}" for name, count in done.items())
