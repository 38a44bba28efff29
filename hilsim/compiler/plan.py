"""A compile plan: how one model compiles for one unit under one rule profile, or why not. Records only, no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from hilsim.compiler.findings import Finding, SlowFinding
from hilsim.describe.compiled import NO_EXTRA, NO_WORK, Compiled, Extra, NetworkLoad, Work


@dataclass(frozen=True)
class Option:
    """A rewrite that could be used instead: its cost a pass of the graph, in seconds and bytes, and how exact it is."""

    name: str
    seconds: float
    bytes: int
    exactness: str
    caveat: str


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A rewrite that is used: on how many nodes of which operator in the exported graph, and the alternatives.

    `work`, `seconds` and `held_bytes` count every layer of the deployed model.
    """

    name: str
    title: str
    operator: str
    module: str = ""
    nodes: int
    exactness: str
    caveat: str = ""
    source: str = "general technique"
    work: Work = NO_WORK
    seconds: float = 0.0
    working_bytes: int = 0  # what its widest operator reads and writes
    held_bytes: int = 0  # constants in the graph, and copies of parameters
    others: tuple[Option, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that it takes in memory, working set and constants."""
        return self.working_bytes + self.held_bytes


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """One compiled graph: `rows` positions a pass. `repeats` says how many layers stand for one that was exported.

    `extra` is all that a pass costs beyond the plain decoder, `extra_s` the same in seconds.
    `away` are nodes that run off the unit, `away_operators` their operators, `crossings` how often a pass leaves it.
    `operators` counts those that a pass computes, each once; `fine` is what could have been doubted and is fine.
    `slow` is what takes longer than it must. `pass_s` is one pass as it compiles today, `pass_low_s` to `pass_high_s`
    its range over assumed rates of what is slow, `could_s` one pass with all of `slow` mended; 0 before `timed`.
    """

    name: str
    rows: int
    nodes: int
    repeats: float = 1.0
    findings: tuple[Finding, ...] = ()
    chosen: tuple[Chosen, ...] = ()
    pieces: int = 1
    crossings: int = 0
    away: tuple[str, ...] = ()
    away_operators: tuple[str, ...] = ()
    head: Work = NO_WORK
    extra: Extra = NO_EXTRA
    extra_s: float = 0.0
    away_s: float = 0.0  # of extra_s, the work off the unit
    crossing_s: float = 0.0  # of extra_s, the crossings
    refusals: tuple[str, ...] = ()
    operators: int = 0
    fine: tuple[str, ...] = ()
    slow: tuple[SlowFinding, ...] = ()
    pass_s: float = 0.0
    pass_low_s: float = 0.0
    pass_high_s: float = 0.0
    could_s: float = 0.0

    @property
    def factor(self) -> float:
        """How many times as long a pass takes as it could."""
        return self.pass_s / self.could_s if self.could_s > 0 else 1.0


WORTH = 0.01  # of a pass: what gains less is not slow


def timed(graph: GraphPlan, clock_s: float) -> GraphPlan:
    """A graph's plan with the time of one pass; `clock_s` is the clock's, without what is slow beyond it.

    Findings that gain less than `WORTH` of the pass are no longer slow but fine, their times dropped.
    """
    pass_s = clock_s + sum(found.beyond_s for found in graph.slow)
    slow = tuple(found for found in graph.slow if found.gain_s >= WORTH * pass_s)
    small = tuple(little(found) for found in graph.slow if found not in slow)
    pass_s = clock_s + sum(found.beyond_s for found in slow)
    could_s = max(0.0, pass_s - sum(found.gain_s for found in slow))
    low_s, high_s = could_s + sum(found.low_s for found in slow), could_s + sum(found.high_s for found in slow)
    slow = tuple(with_factor(found, pass_s) for found in slow)
    return replace(
        graph, slow=slow, fine=(*graph.fine, *small), pass_s=pass_s, pass_low_s=low_s, pass_high_s=high_s,
        could_s=could_s,
    )  # fmt: skip


def little(found: SlowFinding) -> str:
    """A pattern that gains too little to be slow, in words."""
    gain_ms = 1000 * found.gain_s
    text = f"{gain_ms:.2f} ms" if gain_ms >= 0.01 else "below 0.01 ms"
    return f"{found.title}: {text}, under {100 * WORTH:g} % of a pass"


def with_factor(found: SlowFinding, pass_s: float) -> SlowFinding:
    """A finding with how many times as long the whole pass takes as it would with this alone mended."""
    rest_s = pass_s - found.gain_s
    if rest_s <= 0:  # where step times were typed in, which may be of another export
        return found
    return replace(
        found, factor=pass_s / rest_s, factor_low=1 + found.low_s / rest_s, factor_high=1 + found.high_s / rest_s
    )


UNCHECKED = "unchecked"  # the profile's name where no rules are known
Outcome = Literal["as it is", "rewritten", "in pieces", "refused"]


@dataclass(frozen=True)
class Plan:
    """All graphs of one model on one unit.

    `subject` says whose: "target llama-3.2-3b", "network intent", or a module's own name. `items` are further bytes in
    memory, `load` a network's own size.
    """

    subject: str
    role: str
    unit: str
    precision: str
    activations: str
    profile: str
    title: str
    elsewhere: str
    graphs: tuple[GraphPlan, ...]
    items: tuple[tuple[str, int], ...] = ()
    load: NetworkLoad | None = None
    notes: tuple[str, ...] = ()
    rows: int = 1  # of the graph that a network's load is of

    @property
    def outcome(self) -> Outcome:
        if self.refusals:
            return "refused"
        if any(graph.crossings for graph in self.graphs):
            return "in pieces"
        return "rewritten" if any(graph.chosen for graph in self.graphs) else "as it is"

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why it does not compile, each reason once."""
        return tuple(dict.fromkeys(reason for graph in self.graphs for reason in graph.refusals))

    def more_seconds(self, graph: GraphPlan) -> float:
        """Seconds that compiling adds to a pass: beyond the plain decoder, or a network by rewrites."""
        return graph.extra_s + (0.0 if self.load is None else sum(use.seconds for use in graph.chosen))

    @property
    def rewrite_bytes(self) -> int:
        """Bytes that rewrites take in memory."""
        return sum(nbytes for what, nbytes in self.items if "rewrites" in what or "second copy" in what)

    def compiled(self) -> Compiled:
        """The plan in numbers, for the clock and the ledger."""
        extras = tuple((graph.rows, graph.extra) for graph in self.graphs if graph.extra != NO_EXTRA)
        # A graph without extras between others that have them still is a point of the curve.
        if extras and len(extras) < len(self.graphs):
            extras = tuple((graph.rows, graph.extra) for graph in self.graphs)
        return Compiled(self.profile, extras, self.items, self.load, self.rows)

    def as_json(self) -> dict[str, Any]:
        """The plan as plain data, with its outcome and refusals."""
        data = asdict(self)
        return {"outcome": self.outcome, "refusals": list(self.refusals), **data}

    def dumps(self) -> str:
        """The plan as JSON text, which `loads` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def loads(text: str) -> Plan:
        """The plan of JSON text by `dumps`. Raises `ValueError` for any other."""
        return reader().validate_json(text)


@cache
def reader() -> TypeAdapter[Plan]:
    """The validator that reads plans."""
    return TypeAdapter(Plan)
