"""Draft heads in the loop: the target's text whatever they propose, rows that depend on the conversation alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hilsim.describe.decoding import FullRows, RatioTest, Sampling
from hilsim.describe.drafting import ONE_PASS
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.describe.tree_shape import Branches
from hilsim.errors import CheckpointError, InputError
from hilsim.networks.config import NetworkConfig
from hilsim.networks.draft_head import CLASSES, HeadConfig
from hilsim.networks.network import Network, weights_of
from hilsim.runs.record import require_recordable
from hilsim.sampling.distribution import distribution_of
from hilsim.sampling.logits import Logits
from hilsim.sim.lead import View
from hilsim.sim.run import simulate
from hilsim.sources.live import LiveSource, StandIns, load_stand_ins
from hilsim.text.pairs import CommonVocabulary
from hilsim.training.fitting import initialise
from tests.scenes import shipped
from tests.sources.test_live import answers
from tests.toy import LENGTH, SAMPLES, VOCABULARY, cells, enumerated, p_value, told

KINDS = ("eagle", "eagle3", "mtp", "medusa", "block")
FEW = ("logits.dtype=float64", "networks=[]", "workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=16")
WARM = "sampling={temperature: 0.7, top_k: 40}"
RULES = {
    "greedy": FEW,
    "gumbel": (*FEW, "accept=gumbel", "payload=token_ids", WARM),
    "sample_match": (*FEW, "accept=sample_match", "payload=token_ids", WARM),
}
POLICIES = [f"{{name: sync, draft_tokens: {count}}}" for count in (1, 3, 5)]


def with_head(kind: str) -> Setup:
    """The shipped target in float64, and a shipped head on its unit."""
    positions = ", positions: 5" if kind in ONE_PASS else ""
    return shipped(
        "orin_8295_greedy", *FEW, f"draft={{head_kind: {kind}, stand_in: models/heads/{kind}{positions}}}", "link=null"
    )


@cache
def stand_ins_of(kind: str) -> StandIns:
    """The loaded networks of such a setup."""
    return load_stand_ins(with_head(kind))


def source_of(kind: str, overrides: Sequence[str], made: type[LiveSource] = LiveSource) -> LiveSource:
    scenario = shipped("orin_8295_greedy", *overrides).scenario
    rules = (scenario.sampling, scenario.context_tokens, scenario.seed, scenario.accept, scenario.payload)
    return made(stand_ins_of(kind), *rules)


@cache
def alone(rules: str) -> list[list[int]]:
    source = source_of("eagle", RULES[rules])
    return answers(simulate(shipped("orin_8295_greedy", *RULES[rules]), source, TargetOnly(name="target_only")))


def quick(cases: Sequence[tuple[str, str]], chosen: Callable[[str, str], bool]) -> list[Any]:
    """The cases, those that are not chosen with the slow tests."""
    return [pytest.param(*case, marks=[] if chosen(*case) else pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(
    ("kind", "rules"),
    quick([*product(KINDS, RULES)], lambda kind, rules: rules == "greedy" or kind == "eagle"),
)
def test_the_text_is_the_targets_whatever_the_head_and_the_draft_length(kind: str, rules: str) -> None:
    accepted = 0
    for policy in POLICIES if (kind, rules) == ("eagle", "greedy") else POLICIES[1:2]:
        trace = simulate(shipped("orin_8295_greedy", *RULES[rules], f"policy={policy}"), source_of(kind, RULES[rules]))
        assert answers(trace) == alone(rules)
        accepted += sum(closed.accepted for closed in trace.rounds)
    assert accepted > 0 or rules == "sample_match"  # where both draw by themselves agreement is rare


@pytest.mark.parametrize("kind", KINDS)
def test_trees_of_any_kind_tell_the_targets_text(kind: str) -> None:
    """Three likeliest tokens and two below each: a branch of the tree is a branch for the head as well."""
    source = source_of(kind, FEW)
    prompt = source.prompt(0, 0, [])
    text, alone = View(0, 0, [*prompt.tokens]), View(1, 1, [*prompt.tokens])
    for _ in range(5):
        tree = source.draft_tree(text, Branches((3, 2)))
        assert len(tree.tokens) == 9
        path, verdict = source.verify_tree(text, tree)
        text.tokens += verdict.tokens(path)
    while len(alone.tokens) < len(text.tokens):
        alone.tokens.append(source.next_token(alone)[0])
    assert text.tokens == alone.tokens


class Checked(LiveSource):
    """Compares every row that the head gives with that of a source which was never asked anything else."""

    checked = 0

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        row = super().draft_row(conversation, tokens, verified)
        fresh = LiveSource(self.stand_ins, self.decisions.rules.sampling, self.context, 1)
        np.testing.assert_allclose(row, fresh.draft_row(0, tokens, verified), rtol=0, atol=1e-4)
        self.checked += 1
        return row


ASKED = ["{name: sync, draft_tokens: 4}", "{name: pearl, draft_tokens: 2}"]


@pytest.mark.parametrize(
    ("kind", "policy"),
    quick([*product(KINDS, ASKED)], lambda kind, policy: kind in ("eagle", "block") and policy == ASKED[0]),
)
def test_a_row_depends_on_tokens_and_verified_length_alone(kind: str, policy: str) -> None:
    """Whatever passes came before: rejected branches, and drafts ahead of a verdict."""
    overrides = (*FEW, "workload.max_new_tokens=8")
    source = source_of(kind, overrides, Checked)
    simulate(shipped("orin_8295_greedy", *overrides, f"policy={policy}"), source)
    assert isinstance(source, Checked)
    assert source.checked > 10


def test_a_target_without_hidden_states_here_cannot_have_a_head() -> None:
    with pytest.raises(CheckpointError, match="a draft head, while target run on a board"):
        load_stand_ins(with_head("eagle"), {"target": 2048})


def test_what_hangs_on_verdicts_is_not_recorded() -> None:
    with pytest.raises(InputError, match=r"draft: found a draft head; expected a draft model"):
        require_recordable(with_head("eagle"))


# Networks of a vocabulary so small that every text can be enumerated.

TINY = NetworkConfig(
    vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, layers=2, heads=2, kv_heads=1, head_dim=8,
    max_positions=16,
)  # fmt: skip
CONFIGS = {
    "eagle3": HeadConfig("eagle3", (0, 1), entries=3),
    "block": HeadConfig("block", (0, 1), entries=3, positions=LENGTH),
}


def tiny(kind: str) -> LiveSource:
    """A random target and head, sharp enough to differ; what is trimmed is never proposed."""
    torch.manual_seed(4)
    target = Network(TINY).eval().requires_grad_(False)
    head = CLASSES[CONFIGS[kind].kind](CONFIGS[kind], target).eval().requires_grad_(False)
    for number, network in enumerate((target, head)):
        initialise(network, number)
        for parameter in network.parameters():
            parameter.mul_(20 if parameter.dim() > 1 else 1)
    stand_ins: Any = SimpleNamespace(
        head=head,
        forecasts=None,
        networks={"target": weights_of(target)},
        columns={"target": CommonVocabulary(VOCABULARY)},
        drafts=True,
        tokenizer=SimpleNamespace(end_tokens=frozenset(), decode=str),
    )
    return LiveSource(stand_ins, Sampling(temperature=1.0), 16, 1, RatioTest(), FullRows())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eagle3", "block"])
def test_networks_with_heads_tell_the_targets_distribution(kind: str) -> None:
    source = tiny(kind)
    rows = cache(lambda tokens: source.target_rows(1, list(tokens), 1)[0])

    def after(tokens: Sequence[int]) -> Any:
        return distribution_of(rows(tuple(tokens)), Sampling(temperature=1.0)).dense()

    wanted = enumerated(after)
    source.decisions.ends = lambda token: False
    counts = cells(told(source.decisions, request) for request in range(SAMPLES))
    assert p_value(counts, wanted) > 1e-4
    assert p_value(counts, np.full(len(wanted), 1 / len(wanted))) < 1e-10  # that is no law which anything would pass
