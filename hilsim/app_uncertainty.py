"""Error bars of one answer: its timing replayed with other figures, other requests and other pairs' acceptance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import Progress

from hilsim.app_runs import Sources, run_both
from hilsim.describe.load import Setup
from hilsim.describe.published_acceptance import PublishedAcceptance
from hilsim.logits.supposed import Supposed
from hilsim.show.metrics import deliveries, headline_numbers
from hilsim.show.resampled import Requests, requests_of
from hilsim.show.uncertainty import as_json, fit_as_json
from hilsim.sim.run import simulate
from hilsim.study.acceptance import conditional_acceptance, published_pairs
from hilsim.study.uncertainty import chance_of_fitting, uncertainty


def error_bars(setup: Setup, sources: Sources, draws: int) -> dict[str, Any]:
    """All intervals as the document has them; what the models emit is remembered, not computed again."""

    def replay(drawn: Setup) -> dict[str, float]:
        outcome = run_both(drawn, sources)
        return headline_numbers(outcome.baseline, outcome.speculative, drawn.chips, drawn.link)

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying with other figures")
        found = uncertainty(
            setup,
            replay,
            draws,
            setup.scenario.seed,
            lambda done, of: bar.update(task, completed=done, total=of),
            partial(samples_of, sources),
            published_pairs(setup),
        )
    return as_json(found) | {"fit": fit_as_json(chance_of_fitting(setup, setup.scenario.seed))}


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
