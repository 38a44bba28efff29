"""Error bars of one answer: its timing replayed with other figures, other requests and other pairs' acceptance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hilsim.describe.published_acceptance import PublishedAcceptance
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import deliveries, headline_numbers
from hilsim.measure.resampled import Requests, requests_of
from hilsim.progress import progressing
from hilsim.runs.run import Sources, run_both
from hilsim.sim.run import simulate
from hilsim.sources.supposed import Supposed
from hilsim.study.acceptance import conditional_acceptance, published_pairs
from hilsim.study.uncertainty import FitChance, Uncertainty, chance_of_fitting, uncertainty


def error_bars(setup: Setup, sources: Sources, draws: int) -> tuple[Uncertainty, FitChance]:
    """All intervals, and how often it fits; what the models emit is cached, not computed again."""

    def replay(drawn: Setup) -> dict[str, float]:
        outcome = run_both(drawn, sources)
        return headline_numbers(outcome.baseline, outcome.speculative, drawn.chips, drawn.link)

    with progressing(draws, "replays with other figures") as count:
        found = uncertainty(
            setup,
            replay,
            draws,
            setup.scenario.seed,
            count.reached,
            partial(samples_of, sources),
            published_pairs(setup),
        )
    return found, chance_of_fitting(setup, setup.scenario.seed)


def samples_of(sources: Sources, setup: Setup) -> Callable[[PublishedAcceptance | None], Requests | None]:
    """Replays of one setup over the same run of the target alone, with the run's own acceptance or a pair's."""
    outcome = run_both(setup, sources)
    rounds = deliveries(outcome.baseline)
    texts = {number: [token for one in found for token in one.tokens] for number, found in rounds.items()}

    def under(pair: PublishedAcceptance | None) -> Requests | None:
        ours = outcome.speculative
        if pair is not None:
            seed, chances = setup.scenario.seed, conditional_acceptance(pair)
            ours = simulate(setup, Supposed(sources.fresh("baseline"), texts, chances, seed))
        return requests_of(outcome.baseline, ours, setup.chips, setup.link)

    return under
