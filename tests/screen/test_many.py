"""Many runs added up against the loops that time one run: every link, payload, place and policy, to the nanosecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.describe.decoding import FullRows, RatioTest, Sampling, Scalar, TokenIds, TopKRows
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Adaptive, Pearl, Policy, Sync
from hilsim.describe.scenario import Lengths, Synthetic
from hilsim.describe.setup import Setup
from hilsim.measure.screened import many_of
from hilsim.screen import many
from hilsim.screen.costs import StepCosts, Tables, costs_of
from hilsim.screen.many import LinkTimes, ManyRuns, draft_times, joined, link_times, stacked, summable, target_times
from hilsim.screen.screening import refusal_of_policy, screened, taped
from hilsim.screen.tape import Rounds, rounds_of
from hilsim.screen.tokens import Answers, synthetic_answers
from tests.scenes import between_passes

ROOT = Path(__file__).resolve().parents[2]
POLICIES: tuple[Policy, ...] = (
    Sync(name="sync", draft_tokens=1),
    Sync(name="sync", draft_tokens=6),
    Adaptive(name="adaptive", rule="schedule", draft_tokens=3, most=12),
    Pearl(name="pearl", draft_tokens=1),
    Pearl(name="pearl", draft_tokens=4),
)
PAYLOADS = (
    (TokenIds(), "target", Sampling()),
    (FullRows(), "target", Sampling(temperature=0.7)),
    (Scalar(), "target", Sampling(temperature=0.7)),
    (Scalar(down="support"), "target", Sampling(temperature=0.7, top_k=40)),
    (TopKRows(k=64), "draft", Sampling(temperature=0.7, top_k=40)),
)
WIRES = ((0.0, 0.0, 1e15), (25.0, 1.0, 1.1e8), (400.0, 6000.0, 1e6), (60000.0, 0.0, 1e6))  # us, us, bytes/s
TALKS = (
    Lengths(requests=3, prompt_tokens=20, output_tokens=40, clause_tokens=7, pause_ms=1.0),
    Lengths(requests=2, prompt_tokens=9, output_tokens=1, clause_tokens=1, pause_ms=0.0),
    Lengths(requests=2, prompt_tokens=50, output_tokens=25, clause_tokens=1, pause_ms=500.0),
)
PLACES = ("orin_8295_greedy", "swapped", "one_chip", "paper_table")


def base(name: str) -> Setup:
    given = ["logits={source: synthetic, acceptance: 0.6}"] if name != "paper_table" else []
    given += ["workload={requests: 1, prompt_tokens: 9, output_tokens: 9}", "networks=[]"] if given else []
    return load_setup(ROOT / f"scenarios/{name}.yaml", given)


SETUPS = {name: base(name) for name in PLACES}


def scene(name: str, talk: Lengths, payload: int, wire: int, *, elsewhere: bool) -> Setup:
    setup = SETUPS[name]
    scheme, verify_at, sampling = PAYLOADS[payload]
    accept = RatioTest() if sampling.temperature else setup.scenario.accept
    acceptance = Synthetic(source="synthetic", acceptance=0.6)
    scenario = setup.scenario.model_copy(
        update={"logits": acceptance, "workload": talk, "payload": scheme, "verify_at": verify_at,
                "sampling": sampling, "accept": accept, "seed": 1}
    )  # fmt: skip
    assert setup.link is not None
    assert setup.draft is not None
    figures = zip(("message_overhead", "propagation", "rate"), WIRES[wire], ("us", "us", "B/s"), strict=True)
    changed = {
        key: getattr(setup.link, key).model_copy(update={"value": value, "unit": unit, "range": None})
        for key, value, unit in figures
    }
    application = setup.draft.chip.name if elsewhere else setup.target.chip.name
    link = setup.link.model_copy(update={**changed, "jitter": None})
    return replace(setup, scenario=scenario, link=link, application=application)


def together(setups: list[Setup], policy: Policy, answers: Answers, tables: Tables) -> ManyRuns | None:
    """One policy in setups that differ in payload and link: rounds from the first alone; None where nothing adds up."""
    rounds = rounds_of(*taped(setups[0], policy, answers, tables))
    costs = [costs_of(one, policy, answers, tables, lags=24, target_rows=64, draft_rows=64) for one in setups]
    if not all(map(summable, costs)):
        return None
    at_once = policy.name == "pearl"
    links = stacked([link_times(rounds, answers, one, at_once=at_once) for one in costs])
    return joined(
        rounds, target_times(rounds, costs[0]), draft_times(rounds, costs[0]), links, costs[0], at_once=at_once
    )


def by_loops(setups: list[Setup], policy: Policy, answers: Answers, tables: Tables) -> ManyRuns:
    return many_of(np.stack([screened(one, policy, answers, tables).requests for one in setups]))


def unequal(ours: ManyRuns, theirs: ManyRuns) -> list[str]:
    """Where they differ; the totals of instants mean nothing."""
    wrong = [name for name in ("first", "clause", "finished") if (getattr(ours, name) != getattr(theirs, name)).any()]
    fields = [field for field in range(4, ours.totals.shape[1]) if (ours.totals != theirs.totals)[:, field].any()]
    return wrong + [f"field {field}" for field in fields]


def test_many_runs_added_up_are_those_of_the_loops() -> None:
    added_up = refused = 0
    for name in PLACES:
        for elsewhere in (False, True):
            for talk in TALKS:
                first = scene(name, talk, 0, 0, elsewhere=elsewhere)
                answers, tables = synthetic_answers(first), Tables()
                for payload in range(len(PAYLOADS)):
                    for wires in ((0, 1, 2), (3,)):
                        setups = [scene(name, talk, payload, wire, elsewhere=elsewhere) for wire in wires]
                        for policy in POLICIES:
                            if refusal_of_policy(setups[0], policy):
                                continue
                            ours = together(setups, policy, answers, tables)
                            refused += ours is None
                            if ours is not None:
                                theirs = by_loops(setups, policy, answers, tables)
                                assert not unequal(ours, theirs), (name, elsewhere, talk, payload, policy)
                                added_up += 1
    assert added_up > 400
    assert refused > 0, "a slow link on which the draft waits for the last result"


def test_a_wrong_term_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a verdict that were a nanosecond longer than the loops have it would be seen in every policy."""
    setups = [scene("orin_8295_greedy", TALKS[0], 0, wire, elsewhere=False) for wire in range(3)]
    right, answers, tables = many.link_times, synthetic_answers(setups[0]), Tables()
    for policy in POLICIES:
        ours, theirs = together(setups, policy, answers, tables), by_loops(setups, policy, answers, tables)
        assert ours is not None
        assert unequal(ours, theirs) == []
        with monkeypatch.context() as changed:

            def longer(rounds: Rounds, answers: Answers, costs: StepCosts, *, at_once: bool) -> LinkTimes:
                return right(rounds, answers, costs._replace(down_ns=costs.down_ns + 1), at_once=at_once)

            changed.setitem(globals(), "link_times", longer)
            wrong = together(setups, policy, answers, tables)
            assert wrong is not None
            assert "field 7" in unequal(wrong, theirs)


def test_what_takes_time_between_passes_does_not_add_up() -> None:
    setup = between_passes(scene("orin_8295_greedy", TALKS[0], 0, 1, elsewhere=False), 86, 17, 100)
    assert together([setup], POLICIES[0], synthetic_answers(setup), Tables()) is None
