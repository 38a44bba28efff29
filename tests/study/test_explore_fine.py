"""The fine grid of the explorer: real configurations, equal to event simulation, and what an interruption leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.measure.measures import MEASURED, measured
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import run_of
from hilsim.screen.many import LinkTimes, link_times
from hilsim.study import workload
from hilsim.study.answer import Answer, first_of_each
from hilsim.study.explorer import Question, prepare, question_of
from hilsim.study.placements import Ready, TimedConfigurations, TimingJob
from hilsim.study.ranking import AT_ONCE, front
from hilsim.study.screen_space import Screen
from hilsim.study.timed_space import INTERRUPTED, time_space

SCENARIO = PROJECT / "scenarios/orin_8295_greedy.yaml"
ONLY = (
    "target.unit=gpu,cpu",
    "target.precision=w4",
    "draft.unit=gpu",
    "draft.precision=w4",
    "target.chip=sa8295p,drive-orin-x",
)
FEW = {"conversations": 2, "drafts": ["draft-68m-llama3:models/draft-0.8m"], "links": ["pcie-gen3-x4", "1000base-t1"]}


@pytest.fixture(scope="module")
def question() -> Question:
    return question_of(SCENARIO, ["networks=[]"], only=ONLY, fine=True, **FEW)


@pytest.fixture(scope="module")
def ready(question: Question) -> Ready:
    return prepare(question)


@pytest.fixture(scope="module")
def answer(question: Question, ready: Ready) -> Answer:
    return time_space(ready, question.rank, 1, 0)


def unlike_events(answer: Answer, ready: Ready, place: int) -> list[str]:
    """The measures of a configuration that the event simulation has otherwise."""
    setup = load_compiled(SCENARIO, ["networks=[]", "workload.count=2", *answer.overrides(place, ready.application)])
    theirs, ours = measured(setup, ledgers(setup), *run_of(setup)), answer.numbers(place)
    return [name for name in MEASURED if (None if np.isnan(ours[name]) else ours[name]) != theirs[name]]


def sample(answer: Answer) -> list[int]:
    """A configuration of every rule, and of policies, links and targets by turns."""
    return [int(place) for place in np.linspace(0, len(answer.found) - 1, 23).astype(int)]


def test_the_fine_grid_is_the_event_simulation(answer: Answer, ready: Ready) -> None:
    chosen = sample(answer)
    axes = answer.found.places[chosen]
    assert len(set(axes[:, 3].tolist())) == len(ready.scenarios) == 6, "every payload"
    assert {ready.policies[policy].name for policy in axes[:, 4] if policy < len(ready.policies)} >= {
        "sync",
        "adaptive",
    }
    for place in chosen:
        assert unlike_events(answer, ready, place) == [], answer.named(place)


def test_a_wrong_payload_is_noticed(question: Question, ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: were a draft a nanosecond longer on the link, events would say otherwise."""

    def longer(rounds, answers, costs, *, at_once: bool) -> LinkTimes:
        return link_times(rounds, answers, costs._replace(up_ns=costs.up_ns + 1), at_once=at_once)

    monkeypatch.setattr(workload, "link_times", longer)
    wrong = question.rank(Screen(ready).of_target(0, 0))
    assert all(unlike_events(wrong, ready, place) for place in sample(wrong)[1::7])


def test_no_configuration_of_the_fine_grid_is_a_copy(answer: Answer, ready: Ready) -> None:
    """Each has settings of its own, and each payload takes bytes of its own where anything crosses a link."""
    chosen = np.random.default_rng(1).choice(len(answer.found), 400, replace=False)
    overrides = {tuple(answer.overrides(int(place), ready.application)) for place in chosen}
    assert len(overrides) == len(chosen)
    places, sent = answer.found.places, answer.found.measures["bytes_up"]
    target, draft, link, _, policy = places[places[:, 2] >= 0][0]
    alike = (places[:, [0, 1, 2, 4]] == (target, draft, link, policy)).all(axis=1)
    assert len(set(sent[alike])) == alike.sum() == 6


def test_the_whole_fine_grid_has_millions() -> None:
    with_all = question_of(SCENARIO, fine=True, yes=True)
    axes = {kind: len(choices) for kind, choices in with_all.space.kinds()}
    assert with_all.space.size > 4_000_000
    assert axes["rules"] == 6
    assert len(with_all.space.policies) > 100


@pytest.mark.parametrize("after", [0, 1])
def test_an_interruption_keeps_what_was_found(
    after: int, question: Question, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = replace(ready, policies=ready.policies[:3])
    right, done = Screen.of, []

    def interrupted(self: Screen, job: TimingJob) -> tuple[TimingJob, TimedConfigurations]:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(job)
        return right(self, job)

    whole = time_space(ready, question.rank, 1, 0).found
    monkeypatch.setattr(Screen, "of", interrupted)
    if not after:
        with pytest.raises(KeyboardInterrupt):
            time_space(ready, question.rank, 1, 0, keep_partial=True)
        return
    found = time_space(ready, question.rank, 1, 0, keep_partial=True).found
    assert found.interrupted
    assert not whole.interrupted
    assert 0 < len(found) < len(whole)
    assert found.left_out[INTERRUPTED] > 0
    assert len(found) + found.left_out.total() == len(whole) + whole.left_out.total()
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        time_space(ready, question.rank, 1, 0)


def test_first_of_each_and_a_long_front() -> None:
    values = np.random.default_rng(2).integers(0, 50, 500)
    expected = sorted(values.tolist().index(value) for value in set(values.tolist()))
    assert first_of_each(values).tolist() == expected
    assert first_of_each(values[:0]).tolist() == []
    costs = np.random.default_rng(3).integers(0, 40, (3 * AT_ONCE, 3)).astype(float)
    ours = {tuple(costs[place]) for place in front(costs)}
    kinds = np.unique(costs, axis=0)
    assert ours == {tuple(row) for row in kinds if not ((kinds <= row).all(axis=1) & (kinds < row).any(axis=1)).any()}
