"""Set-ups from papers: what the closed forms make of a scenario's own table, to hold against its run and the print."""

from __future__ import annotations

from dataclasses import dataclass

from hilsim.cost.payload import draft_bytes, draft_decides, verdict_bytes
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import TabulatedTimer
from hilsim.describe.policy import Pearl, Pipelined, Sync
from hilsim.describe.published import Published
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.sim.trace import Trace
from hilsim.study.closed_forms import pearl_speedup, pipelined_speedup, sync_speedup
from hilsim.units import ms, ns


@dataclass(frozen=True)
class Speed:
    """Decoding speed: over the target alone, and milliseconds a token."""

    speedup: float
    per_token_ms: float


@dataclass(frozen=True)
class PaperResult:
    """One set-up: what is published of it, what its closed form gives if there is one, and what the run gave."""

    name: str
    published: Published
    closed: Speed | None
    simulated: Speed

    @property
    def in_ms(self) -> bool:
        """Compared in milliseconds a token where those are published: a speed-up mixes in how the baseline was run."""
        return self.published.per_token_ms is not None

    @property
    def printed(self) -> float | None:
        """The measured figure that the comparison is with, if any."""
        return self.published.per_token_ms or self.published.speedup

    def of(self, speed: Speed) -> float:
        """A speed in the unit of the comparison."""
        return speed.per_token_ms if self.in_ms else speed.speedup

    @property
    def from_closed_form(self) -> float | None:
        """Simulated over closed form, less one; None where there is no closed form."""
        return None if self.closed is None else self.of(self.simulated) / self.of(self.closed) - 1

    @property
    def from_published(self) -> float | None:
        """Simulated over published, less one; None where nothing measured is published."""
        return None if self.printed is None else self.of(self.simulated) / self.printed - 1


def case_of(setup: Setup, baseline: Trace, speculative: Trace) -> PaperResult:
    """A set-up after its two runs."""
    return PaperResult(setup.scenario.name, published_of(setup), closed_form(setup), simulated(baseline, speculative))


def simulated(baseline: Trace, speculative: Trace) -> Speed:
    """Decoding speed of the runs, first token delivered to last: reading the prompt is in no closed form."""
    alone, per_token = decoding_ns(baseline), decoding_ns(speculative)
    return Speed(alone / per_token, ms(per_token))


def decoding_ns(trace: Trace) -> float:
    """Nanoseconds a token after the first, over all requests."""
    first = {closed.request: closed for closed in trace.rounds if closed.number == 0}
    taken = sum(request.finished_ns - first[request.number].delivered_ns for request in trace.requests)
    return taken / sum(request.output_tokens - first[request.number].emitted for request in trace.requests)


def published_of(setup: Setup) -> Published:
    """What the scenario says is printed of its speculation; one that says nothing has no place among papers."""
    if setup.scenario.published is None:
        raise ScenarioError([Fault(setup.file, "published", "nothing", "what the paper printed, with its source")])
    if setup.scenario.policy.name == "target_only":
        raise ScenarioError([Fault(setup.file, "policy", "target_only", "a policy that speculates")])
    return setup.scenario.published


def closed_form(setup: Setup) -> Speed | None:
    """The decoding speed on paper; None where there is none, as for drafting that never stops.

    There is one for table times with one acceptance and the target's token as the last.
    """
    scenario, policy = setup.scenario, setup.scenario.policy
    given = setup.acceptance
    acceptance = given if given is None or isinstance(given, float) else given.chances
    if not isinstance(acceptance, float) or draft_decides(scenario.payload, scenario.verify_at, 1, 0):
        return None
    if scenario.target.timer is None or scenario.draft is None or scenario.draft.timer is None:
        return None
    if scenario.target.timer.decode == 0:  # the unit of all closed forms
        return None
    if not isinstance(policy, Sync | Pearl | Pipelined) or policy.fallback is not None:
        return None
    target, draft, drafted = (
        TabulatedTimer(scenario.target.timer),
        TabulatedTimer(scenario.draft.timer),
        policy.draft_tokens,
    )
    single, one = target.decode_ns, draft.decode_ns / target.decode_ns
    # Without a bonus token the last drafted one needs no row of its own.
    rows = drafted + isinstance(policy, Sync)
    verify = target.duration_ns(Step(Phase.VERIFY, rows, 1)) / single
    away = round_trip_ns(setup, drafted) / single
    if isinstance(policy, Sync):
        catch_up = draft.duration_ns(Step(Phase.DRAFT, 2, 1)) / single - one
        speedup = sync_speedup(acceptance, drafted, one, away, verify, catch_up)
    elif isinstance(policy, Pearl):
        speedup = pearl_speedup(acceptance, drafted, one, away, verify)
    elif policy.pre_verify or policy.blocks_in_flight > 1:
        return None
    else:
        speedup = pipelined_speedup(acceptance, drafted, one, away, verify)
    return Speed(speedup, ms(single / speedup))


def round_trip_ns(setup: Setup, drafted: int) -> int:
    """A block of drafts up and its verdict down, without jitter and with the wire free."""
    link = setup.link
    if link is None:
        return 0
    up = draft_bytes(setup.scenario.payload, drafted, setup.target.model.vocabulary.entries)
    fixed = ns(link.message_overhead.si) + ns(link.propagation.si)
    return sum(fixed + ns(nbytes / link.rate.si) for nbytes in (up, verdict_bytes()))
