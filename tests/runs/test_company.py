"""Studies, transcripts and searches of scenarios with company: exact by events, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.runs import replay
from hilsim.runs.evaluate import Refused, evaluate, load_variant
from hilsim.runs.record import recorded
from hilsim.runs.replay import replayed
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sources.columns import COLUMNS
from hilsim.study.explorer import question_of
from tests.scenes import shipped

GREEDY = PROJECT / "scenarios/orin_8295_greedy.yaml"
ASKING = (
    "passengers=[{name: Ann, arrivals: {kind: pauses, pause_s: 1}}, {name: Bob, arrivals: {kind: pauses, pause_s: 2}}]"
)
CUT = "speech={barge_in: {share: 0.5}}"


def test_the_numbers_of_a_study_are_those_of_the_run_by_events() -> None:
    """Nothing is screened; the numbers are those of one run, and others than without company."""
    sizes = "workload={requests: 6, prompt_tokens: 20, output_tokens: 30}"
    given = ("logits={source: synthetic, acceptance: 0.7}", "networks=[]", sizes)
    company, alone = (load_variant(GREEDY, [*given, *more]) for more in ((ASKING,), ()))
    assert not isinstance(company, Refused)
    found, by_events, without = evaluate(company), evaluate(company, sources=Sources(company)), evaluate(alone)
    assert not isinstance(found, Refused)
    assert not isinstance(without, Refused)
    assert found == by_events
    latency = "request_latency_ms.mean"
    assert found[latency] is not None
    assert without[latency] is not None
    assert found[latency] > without[latency]


def test_a_scenario_with_company_records_the_tokens_that_it_has_without(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=6", "networks=[]")
    alone, company = shipped("orin_8295_greedy", *short), shipped("orin_8295_greedy", *short, ASKING)
    one, other = recorded(alone, 4), recorded(company, 4)
    for name in COLUMNS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    # So a study replays them; but not where what is asked next depends on how much was heard.
    monkeypatch.setattr(replay, "transcript_for", lambda setup: Path("recorded.npz"))
    assert replayed(company).scenario.logits.source == "transcript"
    assert replayed(shipped("orin_8295_greedy", *short, ASKING, CUT)).scenario.logits.source == "live"


def test_a_run_with_company_has_the_tokens_that_it_has_without() -> None:
    short = ("workload.count=2", "workload.max_turns=1", "workload.max_new_tokens=8", "networks=[]")
    found = []
    for more in ((), (ASKING,)):
        setup = shipped("orin_8295_greedy", *short, *more)
        trace = simulate(setup, Sources(setup).fresh())
        found.append(sorted((record.conversation, record.answer) for record in trace.requests))
    assert found[0] == found[1]


def test_explore_refuses_company_and_says_what() -> None:
    with pytest.raises(InputError, match="found passengers; expected none of them for `explore`"):
        question_of(GREEDY, [ASKING])
