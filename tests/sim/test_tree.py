"""Token trees: one masked pass equals a pass a path, the text is the target's, and what no graph can run is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.describe.decoding import GumbelMatch, SampleMatch, Sampling, TokenIds
from hilsim.describe.policy import TargetOnly, Tree
from hilsim.describe.tree_shape import Branches
from hilsim.errors import InputError
from hilsim.measure.metrics import compare_texts, speculation
from hilsim.measure.parts import requests_in_parts
from hilsim.networks.config import NetworkConfig
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import weights_of
from hilsim.runs.run import Sources
from hilsim.sampling.choices import Rules
from hilsim.sampling.proposals import TokenTree
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.networks.test_decoder import SHAPES, randomised
from tests.scenes import MS, shipped
from tests.toy import Quick, Text, alone

TOKENS, NODES, PARENTS = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8], [-1, -1, 0, 0, 1, 2, 5]
# Any unit that takes any width: the shipped scenario with the target on a developer's Orin.
ORIN = ("target.chip=agx-orin-64gb", "target.unit=gpu", "draft.chip=sa8295p", "draft.unit=gpu")
SHORT = ("workload.count=1", "workload.max_turns=3", "workload.max_new_tokens=20", "logits.dtype=float64")


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("already", [0, 3])
def test_a_masked_pass_equals_a_pass_for_every_path(config: NetworkConfig, already: int) -> None:
    network, tree = randomised(config), TokenTree(tuple(NODES), tuple(PARENTS))
    masked = Decoder(weights_of(network), 10)  # holds the chain, and makes room for the tree
    masked.feed(TOKENS[:already], 1) if already else None
    rows = masked.feed_tree(TOKENS[already:], NODES, PARENTS)
    assert masked.length == len(TOKENS)
    for place, row in enumerate(rows, start=-1):
        path = [NODES[node] for node in tree.path(place)]
        np.testing.assert_allclose(row, Decoder(weights_of(network), 20).feed([*TOKENS, *path])[0], atol=1e-9)
    # What comes after is as if there had been no tree.
    np.testing.assert_allclose(masked.feed([7])[0], Decoder(weights_of(network), 20).feed([*TOKENS, 7])[0], atol=1e-9)


@pytest.mark.parametrize("rule", [GumbelMatch(), SampleMatch()], ids=["gumbel", "sample_match"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    request=st.integers(0, 1000),
    shape=st.lists(st.tuples(st.integers(-1, 20), st.integers(0, 3)), max_size=12),
)
def test_the_walk_tells_the_targets_own_text_whatever_the_tree(
    rule: GumbelMatch | SampleMatch, request: int, shape: list[tuple[int, int]]
) -> None:
    decisions = Quick(Rules(rule, TokenIds(), Sampling(temperature=1.0)))
    parents = tuple(min(parent, place - 1) for place, (parent, _) in enumerate(shape))
    tree = TokenTree(tuple(token for _, token in shape), parents)
    expected = alone(decisions, request, length=len(shape) + 1)
    path, verdict = decisions.verify_tree(Text(request, [1]), tree)
    assert list(verdict.tokens(path)) == expected[: len(path.tokens) + 1]
    assert len(verdict.margins) == len(path.tokens) + 1


def test_a_wider_tree_never_holds_less() -> None:
    """The first children are the same, so the path that stands can only grow."""
    decisions = Quick(Rules(GumbelMatch(), TokenIds(), Sampling(temperature=1.0)))
    for request in range(200):
        text = Text(request, [1])
        lengths = [
            len(decisions.verify_tree(text, decisions.draft_tree(text, Branches(branches)))[0].tokens)
            for branches in ((1, 1), (2, 1), (2, 2), (4, 4))
        ]
        assert all(a <= b for a, b in pairwise(lengths))
        assert lengths[-1] == 2  # four children are the whole vocabulary


RULES = {
    "greedy": (),
    "gumbel": ("accept=gumbel", "sampling={temperature: 0.8, top_k: 40}"),
    "sample_match": ("accept=sample_match", "sampling={temperature: 0.7, top_p: 0.9, repetition_penalty: 1.2}"),
}
LIVE = (
    ("{name: tree, branches: [3, 2, 1]}", 3 + 6 + 6, 3),
    ("{name: tree, nodes: 12, top: 4, depth: 3}", 12, 3),
    ("{name: lookahead, window: 6, ngram: 4, guesses: 6}", 6 * 3, 3),
    ("{name: ssd, branches: [3, 2], forecasts: models/ssd}", 9, 2),
)


# Of the policies beside the first, the rule with the most to go wrong runs with every change.
QUICK = [(rule, kind) for rule in RULES for kind in LIVE if rule == "sample_match" or kind == LIVE[0]]
SLOW = [(rule, kind) for rule in RULES for kind in LIVE if (rule, kind) not in QUICK]


@pytest.mark.parametrize(("rule", "kind"), [*QUICK, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)])
def test_a_tree_tells_what_the_target_alone_tells(rule: str, kind: tuple[str, int, int]) -> None:
    policy, most, depth = kind
    setup = shipped("orin_8295_greedy", f"policy={policy}", *ORIN, *SHORT, *RULES[rule])
    sources = Sources(setup)
    plain = simulate(setup, sources.fresh(), TargetOnly(name="target_only"))
    ours = simulate(setup, sources.fresh())
    found = compare_texts(plain, ours)
    assert found["mismatches"] == found["numerical_ties"] == 0
    assert found["checked_tokens"] == sum(request.output_tokens for request in plain.requests)
    counts = speculation(ours)
    assert 0 < max(closed.drafted for closed in ours.rounds) <= most
    assert len(counts["num_accepted_tokens_per_pos"]) == depth
    assert counts["num_accepted_tokens"] > 0
    for record, rounds in requests_in_parts(ours):
        assert sum(parts.total for _, parts in rounds) == record.finished_ns - record.arrived_ns


def timed(policy: str) -> Trace:
    """Round numbers: a target step of 50 ms, 60 up to 8 rows; 5 ms a draft pass, 7 up to 8 rows."""
    setup = shipped(
        "orin_8295_greedy", f"policy={policy}", *ORIN, *SHORT, "link=ideal",
        'target.timer={prefill: {"512": 100}, decode: 50, verify: {"8": 60, "64": 90}, source: round numbers}',
        'draft.timer={prefill: {"512": 20}, decode: 5, verify: {"8": 7}, source: round numbers}',
    )  # fmt: skip
    return simulate(setup, Sources(setup).fresh())


def test_a_tree_without_forks_is_a_chain() -> None:
    chain, tree = timed("{name: sync, draft_tokens: 3}"), timed("{name: tree, branches: [1, 1, 1]}")
    assert [(r.tokens, r.accepted, r.drafted) for r in chain.rounds] == [
        (r.tokens, r.accepted, r.drafted) for r in tree.rounds
    ]
    # The tree's graph has its three nodes even where the end leaves room for fewer; both run eight rows here.
    assert [r.delivered_ns for r in chain.rounds] == [r.delivered_ns for r in tree.rounds]


def test_a_tree_costs_a_pass_a_level_and_one_verify() -> None:
    """Branches 3, 2: the draft reads the root (5 ms), then 3 nodes (7 ms); the target 9 nodes and a row or two (90)."""
    trace = timed("{name: tree, branches: [3, 2]}")
    for closed in trace.rounds:
        if closed.depth == 2:
            mine = [s for s in trace.spans if (s.request, s.round) == (closed.request, closed.number)]
            steps = [(s.kind, s.rows, (s.end_ns - s.start_ns) // MS) for s in mine if s.kind in ("draft", "verify")]
            first = steps[0][1]
            assert steps[:2] == [("draft", first, 5 if first == 1 else 7), ("draft", 3, 7)]
            assert steps[2][0] == "verify"
            assert steps[2][1:] == (9 + closed.position - mine[-2].cached, 90)


@pytest.mark.parametrize("policy", [policy for policy, _, _ in LIVE])
def test_a_tree_reaches_the_end_of_the_context(policy: str) -> None:
    setup = shipped("orin_8295_greedy", f"policy={policy}", *ORIN, "workload.count=1",
                    "workload.max_new_tokens=400", "context_tokens=60")  # fmt: skip
    trace = simulate(setup, Sources(setup).fresh())
    assert any(request.finish == "context" for request in trace.requests)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["policy={name: tree, branches: [3, 2]}"], "whose graphs take no tree mask"),
        ([*ORIN, "policy={name: tree, branches: [3, 2]}", "accept=ratio", "payload=full_rows",
          "sampling.temperature=1"], "tests one draft a position"),
        ([*ORIN, "policy={name: tree, branches: [3, 2]}", "accept=gumbel", "payload=full_rows",
          "sampling.temperature=1"], "policy tree with payload full_rows"),
        ([*ORIN, "policy={name: tree, branches: [16, 16, 16]}"], "at most 256"),
        ([*ORIN, "policy={name: tree, branches: []}"], "branches"),
        (["policy={name: tree, branches: [8, 2, 2]}", "target.chip=snapdragon-8-gen-3", "target.widths=[1, 32]"],
         "57 rows in one pass"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_the_run(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        shipped("orin_8295_greedy", *overrides)


def test_a_unit_that_takes_a_mask_runs_a_tree() -> None:
    setup = shipped("orin_8295_greedy", "policy={name: tree, branches: [3, 2]}", "target.chip=snapdragon-8-gen-3",
                    "target.widths=[1, 16, 128]")  # fmt: skip
    assert isinstance(setup.scenario.policy, Tree)
