"""Real networks in the loop: caches, losslessness and content that does not depend on how it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import compare_texts, speculation
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.live import LiveSource, Passes, Reader, StandIns, load_stand_ins
from tests.scenes import shipped

GREEDY = ("logits.dtype=float64", "workload.count=2", "workload.max_turns=3", "workload.max_new_tokens=20")
QUANTISED = (*GREEDY, "target.kv_cache=int4", "draft.kv_cache=int8")
SAMPLED = (*GREEDY, "accept=ratio", "payload=full_rows", "sampling={temperature: 0.7, top_k: 40, top_p: 0.95}")


@cache
def setup_of(*overrides: str) -> Setup:
    return shipped("orin_8295_greedy", *overrides)


@cache
def stand_ins_of(*overrides: str) -> StandIns:
    return load_stand_ins(setup_of(*overrides))


def source_of(overrides: tuple[str, ...], stand_ins: StandIns | None = None) -> LiveSource:
    scenario = setup_of(*overrides).scenario
    return LiveSource(stand_ins or stand_ins_of(*overrides), scenario.sampling, scenario.context_tokens, scenario.seed)


def answers(trace: Trace) -> list[list[int]]:
    """The tokens of every answer."""
    found: dict[int, list[int]] = {request.number: [] for request in trace.requests}
    for closed in trace.rounds:
        found[closed.request] += closed.tokens
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("overrides", [GREEDY, SAMPLED, QUANTISED], ids=["greedy", "ratio", "quantised caches"])
@pytest.mark.parametrize("drafted", [1, 3, 7])
def test_the_text_is_bit_for_bit_the_same_whatever_the_draft_length(overrides: tuple[str, ...], drafted: int) -> None:
    alone = simulate(setup_of(*overrides), source_of(overrides), TargetOnly(name="target_only"))
    setup = setup_of(*overrides, f"policy.draft_tokens={drafted}")
    trace = simulate(setup, source_of(overrides))
    assert answers(trace) == answers(alone)
    found = compare_texts(alone, trace)
    assert found["mismatches"] == found["numerical_ties"] == 0
    assert found["checked_tokens"] == sum(map(len, answers(alone))) > 50


def test_a_quantised_cache_of_the_target_changes_its_text_and_one_of_the_draft_its_drafts() -> None:
    runs = {name: simulate(setup_of(*cache), source_of(cache)) for name, cache in CACHES.items()}
    assert answers(runs["target"]) != answers(runs["none"])
    assert answers(runs["draft"]) == answers(runs["none"])
    accepted = {name: [closed.accepted for closed in trace.rounds] for name, trace in runs.items()}
    assert accepted["draft"] != accepted["none"]


CACHES = {"none": GREEDY, "target": (*GREEDY, "target.kv_cache=int4"), "draft": (*GREEDY, "draft.kv_cache=int4")}


def test_another_seed_tells_another_story_and_the_same_seed_the_same() -> None:
    runs = [simulate(setup_of(*SAMPLED, f"seed={seed}"), source_of((*SAMPLED, f"seed={seed}"))) for seed in (1, 1, 2)]
    assert runs[0].spans == runs[1].spans
    assert runs[0].rounds == runs[1].rounds
    assert answers(runs[0]) != answers(runs[2])


@pytest.mark.parametrize("overrides", [GREEDY, SAMPLED], ids=["greedy", "ratio"])
def test_a_draft_that_is_the_target_is_always_accepted(overrides: tuple[str, ...]) -> None:
    loaded = stand_ins_of(*overrides)
    twins = replace(loaded, networks={"target": loaded.target, "draft": loaded.target})
    trace = simulate(setup_of(*overrides), source_of(overrides, twins))
    found = speculation(trace)
    # At temperature 0.7 the draft samples from its law as float16 spells it, so a rare rejection is possible.
    assert found["draft_acceptance_rate"] == 1.0 if overrides is GREEDY else found["draft_acceptance_rate"] > 0.98


class Hostile(LiveSource):
    """Drafts the one token that the target is sure not to say next."""

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        wrong = (self.next_token(prefix)[0] + 1) % 2048
        return Draft((wrong,) * count)


def test_a_hostile_draft_is_never_accepted_and_changes_nothing() -> None:
    setup = setup_of(*GREEDY)
    hostile = Hostile(stand_ins_of(*GREEDY), setup.scenario.sampling, setup.scenario.context_tokens, 1)
    trace = simulate(setup, hostile)
    alone = simulate(setup, source_of(GREEDY), TargetOnly(name="target_only"))
    assert answers(trace) == answers(alone)
    assert speculation(trace)["num_accepted_tokens"] == 0


class Checked(LiveSource):
    """Compares both caches with a fresh prefill after every verdict."""

    checked = 0

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        verdict = super().verify(prefix, draft)
        for reader in self._readers.values():
            self.compare(reader)
        return verdict

    def compare(self, reader: Reader) -> None:
        ours_passes = reader.compute
        assert isinstance(ours_passes, Passes)
        fresh_passes = Passes(ours_passes.decoder.weights, self.context, self.clock)
        fresh = Reader(fresh_passes, reader.vocabulary)
        fresh.rows(reader.held, 1)
        length = len(reader.held)
        ours_all, theirs_all = ours_passes.decoder.cache, fresh_passes.decoder.cache
        assert ours_all.length == theirs_all.length == length
        for ours, theirs in ((ours_all.keys, theirs_all.keys), (ours_all.values, theirs_all.values)):
            np.testing.assert_allclose(ours[:, :, :, :length], theirs[:, :, :, :length], rtol=0, atol=1e-9)
        self.checked += 1


@pytest.mark.parametrize("overrides", [GREEDY, SAMPLED], ids=["greedy", "ratio"])
def test_caches_equal_a_fresh_prefill_after_every_round(overrides: tuple[str, ...]) -> None:
    setup = setup_of(*overrides, "workload.count=1")
    source = Checked(stand_ins_of(*overrides), setup.scenario.sampling, setup.scenario.context_tokens, 1)
    simulate(setup, source)
    assert source.checked > 15


def test_the_deployed_caches_are_charged_as_the_real_ones_are_fed() -> None:
    """Rows that drafting is charged for: one a token, two after a full acceptance, never none."""
    trace = simulate(setup_of(*GREEDY), source_of(GREEDY))
    by_round = {(closed.request, closed.number): closed for closed in trace.rounds}
    first: dict[tuple[int, int], int] = {}
    for span in trace.spans:
        if span.kind == "draft":
            first.setdefault((span.request, span.round), span.rows)
    for (request, number), rows in first.items():
        before = by_round[request, number - 1]
        full = before.drafted > 0 and before.accepted == before.drafted
        assert rows == (2 if full else 1), (request, number)


class Ending(LiveSource):
    """A draft that always ends the turn after its second token."""

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        end = min(self.stand_ins.tokenizer.end_tokens)
        return Draft((*super().draft(prefix, count, after).tokens[:1], end)[:count])


def test_an_end_of_turn_inside_a_draft_is_the_targets_to_decide() -> None:
    setup = setup_of(*GREEDY)
    source = Ending(stand_ins_of(*GREEDY), setup.scenario.sampling, setup.scenario.context_tokens, 1)
    alone = simulate(setup, source_of(GREEDY), TargetOnly(name="target_only"))
    assert answers(simulate(setup, source)) == answers(alone)


def test_answers_stop_at_the_end_of_turn_once() -> None:
    setup = setup_of("workload.count=3", "workload.max_turns=4")
    trace = simulate(setup, source_of(("workload.count=3", "workload.max_turns=4")))
    ends = stand_ins_of().tokenizer.end_tokens
    for record, tokens in zip(trace.requests, answers(trace), strict=True):
        assert (tokens[-1] in ends) == (record.finish == "end")
        assert not ends & set(tokens[:-1])


def test_a_cache_never_serves_another_conversation() -> None:
    setup = setup_of(*GREEDY, "workload.talkers=2")
    together = simulate(setup, source_of(GREEDY))
    alone = simulate(setup_of(*GREEDY), source_of(GREEDY))
    assert answers(together) == answers(alone)


def test_a_full_context_ends_the_conversation() -> None:
    overrides = ("context_tokens=96", "workload.count=1")
    trace = simulate(setup_of(*overrides), source_of(overrides))
    assert trace.skipped_turns > 0
    assert all(request.finish in ("end", "length", "context") for request in trace.requests)


def test_rows_asked_for_twice_are_not_computed_twice() -> None:
    source = source_of(GREEDY)
    reader = Reader(Passes(stand_ins_of(*GREEDY).target, 64, source.clock), 2048)
    first = reader.rows([1, 3, 50, 60, 70], 2)
    passes = source.clock.passes
    again = reader.rows([1, 3, 50, 60], 1)
    assert source.clock.passes == passes
    np.testing.assert_array_equal(again[0], first[0])
    other = reader.rows([1, 3, 50, 61], 1)
    assert source.clock.passes == passes + 1
    assert not np.array_equal(other[0], first[1])
