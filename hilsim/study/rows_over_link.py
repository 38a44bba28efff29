"""What the distributions that cross a link cost: their bytes, the link's share of a round, and the rate it needs.

A link *matters* where the speed-up is more than `MATTERS` below that over a link whose messages take no time. The rate
from which on it does not is looked for by replays over the scenario's own link, whose time a message stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import speedup
from hilsim.measure.parts import Parts, added, requests_in_parts
from hilsim.runs.run import RunPair, Sources
from hilsim.sim.messages import Messages
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.reaching import reaching
from hilsim.study.what_ifs import with_link, with_rate
from hilsim.units import NS_PER_S

MATTERS = 0.05
SLOWEST, FASTEST = 1e3, 1e15  # B/s, of a serial line and of no link at all
CLOSE = 1e-4  # of the time without a link


@dataclass(frozen=True)
class RowsOverLink:
    """Bytes of one run; shares are of the time that its messages were under way, and of its rounds after the first.

    `speedup_without_link` is over a link whose messages take no time. `least_bytes_s` is None where no rate is enough
    (messages take too long whatever their bytes) or any is; both are None where boards were measured, not simulated.
    """

    link: str
    bytes: int
    bytes_per_round: float
    link_bytes: int
    share_of_link_time: float
    share_of_rounds: float
    speedup_without_link: float | None = None
    least_bytes_s: float | None = None
    matters: float = MATTERS


def rows_over_link(setup: Setup, outcome: RunPair, sources: Sources | None) -> RowsOverLink | None:
    """Of a run over a link; None where no distributions crossed one. Without `sources` nothing is replayed."""
    trace = outcome.speculative
    if trace is None or setup.link is None:
        return None
    messages = [span for span in trace.spans if span.track in trace.directions]
    sizes = Messages(setup.scenario, setup.target.model.vocabulary.entries)
    crossed = sum(sizes.distributions(span.kind, span.nbytes) for span in messages)
    if not crossed:
        return None
    under_way = sum(span.done_ns - span.start_ns for span in messages)
    later = rounds_after_the_first(trace)
    found = RowsOverLink(
        setup.link.name,
        crossed,
        crossed / max(1, sum(closed.drafted > 0 for closed in trace.rounds)),
        sum(span.nbytes for span in messages),
        crossed / setup.link.rate.si * NS_PER_S / under_way if under_way else 0.0,
        later.transfer / later.total if later.total else 0.0,
    )
    if sources is None:
        return found
    without = replayed_speedup(with_link(setup, FASTEST, 0.0), outcome, sources)

    @cache
    def slowed(seconds_a_byte: float) -> float:
        """How many times as long as without a link the answers take over one of this rate."""
        return without / replayed_speedup(with_rate(setup, 1 / seconds_a_byte), outcome, sources)

    slowest = least_rate(slowed, 1 / (1 - MATTERS), setup.link.rate.si)
    return replace(found, speedup_without_link=without, least_bytes_s=slowest)


def least_rate(slowed: Callable[[float], float], level: float, first: float) -> float | None:
    """The rate in B/s at which `slowed`, of the seconds that a byte takes, reaches a level, looked for from one on.

    None where it is above the level at every rate, or below it however slow the link is.
    """
    low, high = 1 / FASTEST, 1 / first
    if slowed(low) >= level:
        return None
    while slowed(high) < level:
        if high > 1 / SLOWEST:
            return None
        low, high = high, 8 * high
    return 1 / reaching(slowed, level, low, high, CLOSE)


def rounds_after_the_first(trace: Trace) -> Parts:
    """What all rounds but the one that makes an answer's first token were spent on."""
    return added(parts for _, rounds in requests_in_parts(trace) for closed, parts in rounds if closed.number)


def replayed_speedup(setup: Setup, outcome: RunPair, sources: Sources) -> float:
    """The speed-up of a changed set-up with the same tokens; the target alone is run again where it uses the link."""
    alone = outcome.baseline
    if alone.directions:
        alone = simulate(setup, sources.fresh("baseline"), TargetOnly(name="target_only"))
    return speedup(alone, simulate(setup, sources.fresh("policy")))
