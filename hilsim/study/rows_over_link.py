"""What the distributions that cross a link cost: their bytes, the link's share of a round, and the rate it needs.

A link *matters* where the speed-up is more than `MATTERS` below that over a link whose messages take no time. The rate
from which on it does not is looked for by replays over the scenario's own link, whose time a message stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hilsim.describe.acceptance import least
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import speedup
from hilsim.measure.parts import Parts, added, requests_in_parts
from hilsim.runs.run import RunPair, Sources
from hilsim.sim.messages import Messages
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.sweeps import with_link, with_rate

MATTERS = 0.05
SLOWEST, FASTEST = 1e3, 1e15  # B/s, of a serial line and of no link at all
HALVINGS = 13  # leave a rate known to 0.4 %


@dataclass(frozen=True)
class RowsOverLink:
    """Bytes of one run; shares are of the time that its messages were under way, and of its rounds after the first.

    `speedup_without_link` is over a link whose messages take no time. `least_bytes_s` is None where no rate is enough,
    because messages take too long whatever their bytes; both are None where boards were measured, not simulated.
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
        crossed / sum(closed.drafted > 0 for closed in trace.rounds),
        sum(span.nbytes for span in messages),
        crossed / setup.link.rate.si * 1e9 / under_way,
        later.transfer / later.total if later.total else 0.0,
    )
    if sources is None:
        return found
    without = replayed_speedup(with_link(setup, FASTEST, 0.0), outcome, sources)

    def over(share: float) -> float:
        return replayed_speedup(with_rate(setup, rate_of(share)), outcome, sources)

    share = least(over, (1 - MATTERS) * without, HALVINGS)
    rate = None if share is None else rate_of(share)
    return replace(found, speedup_without_link=without, least_bytes_s=rate)


def rounds_after_the_first(trace: Trace) -> Parts:
    """What all rounds but the one that makes an answer's first token were spent on."""
    return added(parts for _, rounds in requests_in_parts(trace) for closed, parts in rounds if closed.number)


def rate_of(share: float) -> float:
    """A rate in B/s, so far along the way from the slowest to the fastest by ratio."""
    return SLOWEST * float((FASTEST / SLOWEST) ** share)


def replayed_speedup(setup: Setup, outcome: RunPair, sources: Sources) -> float:
    """The speed-up of a changed set-up with the same tokens; the target alone is run again where it uses the link."""
    alone = outcome.baseline
    if alone.directions:
        alone = simulate(setup, sources.fresh("baseline"), TargetOnly(name="target_only"))
    return speedup(alone, simulate(setup, sources.fresh("policy")))
