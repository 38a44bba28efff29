"""The target drafts for itself: lookahead's window and pool, forecasts of SSD, their passes, and trees by chance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.describe.decoding import Greedy, SampleMatch, Sampling, TokenIds
from hilsim.describe.policy import Lookahead, Ssd
from hilsim.describe.tree_shape import BestNodes
from hilsim.errors import InputError
from hilsim.measure.metrics import speculation
from hilsim.sampling.choices import Rules
from hilsim.sampling.proposals import TokenTree
from hilsim.sim.policies.lookahead import Window
from hilsim.sim.policies.ssd import tree_of, with_forecasts
from hilsim.sim.run import simulate
from hilsim.sources.luck import luck_by
from hilsim.sources.supposed import Supposed
from tests.sampling.test_exact import policy_of
from tests.scenes import MS, both, shipped, synthetic, table_setup
from tests.toy import Quick, Table, ToySource

GREEDY = Rules(Greedy(), TokenIds(), Sampling())


# Lookahead.


def test_the_window_is_the_published_one() -> None:
    """Window 3, 3-grams: the last token is column 0 of level 0, so 3 x 2 rows with it; a level follows its column."""
    window = Window(Lookahead(name="lookahead", window=3, ngram=3, guesses=2), [9, 1, 2, 3, 4])
    assert window.columns == [[1, 2], [2, 3], [3, 4]]  # the conversation's end, one position on for every column
    tree = window.below(7, TokenTree((5, 6), (-1, 0)))
    assert tree.tokens == (5, 6, 2, 3, 2, 3, 4)
    #                       level 0 after the last token: 2, 3; level 1 after it, after 2, and after 3
    assert tree.parents == (-1, 0, -1, 2, -1, 2, 3)
    assert tree.probes == (0, 0, 1, 1, 1)
    assert len(tree.tokens) + 1 <= Lookahead(name="lookahead", window=3, ngram=3, guesses=1).rows == (3 + 1) * 2
    assert window.depth == max(len(tree.path(place)) for place in range(7)) == 3
    assert window.move(8, ((), (), (20,), (21,), (22,))) == [[7, 2, 20], [2, 3, 21], [3, 4, 22]]
    assert window.columns == [[2, 20], [3, 21], [4, 22]]


def test_bigrams_have_a_window_of_one_level() -> None:
    """Its first column is the last token alone, whose successor is the first token that the pass emits."""
    window = Window(Lookahead(name="lookahead", window=3, ngram=2, guesses=1), [9, 4, 5])
    tree = window.below(7, TokenTree((), ()))
    assert (tree.tokens, tree.parents, tree.probes) == ((4, 5), (-1, 0), (1, 1))
    assert window.move(8, ((20,), (21,))) == [[7, 8], [4, 20], [5, 21]]
    assert window.columns == [[8], [20], [21]]
    alone = Window(Lookahead(name="lookahead", window=1, ngram=2, guesses=1), [9])
    assert alone.below(7, TokenTree((), ())).tokens == ()
    assert alone.move(8, ()) == [[7, 8]]


def test_probes_are_read_and_never_accepted() -> None:
    """The window holds the target's own text; without a candidate one token is emitted all the same."""
    decisions = Quick(GREEDY)
    text = [1, *alone_greedy(decisions.rows.target, 1, 3)]
    tree = TokenTree(tuple(text[1:]), (-1, 0, 1), (1, 0, 2))
    path, verdict = decisions.verify_tree(Text([1]), tree)
    assert path.tokens == ()
    order = np.argsort(-decisions.rows.target, axis=1, kind="stable")
    assert verdict.likeliest == ((order[text[1]][0],), (), tuple(order[text[3]][:2]))


class Text:
    """A conversation so far."""

    index = conversation = 0

    def __init__(self, tokens: list[int]):
        self.tokens = tokens


def alone_greedy(target: np.ndarray, start: int, count: int) -> list[int]:
    found = [start]
    for _ in range(count):
        found.append(int(target[found[-1]].argmax()))
    return found[1:]


def reference(
    follow: Callable[[int], int], tokens: list[int], window: int, ngram: int, guesses: int, to: int
) -> list[int]:
    """Tokens of each round of lookahead decoding, as in its authors' program: levels of past tokens, n-grams."""
    end = tokens[-(window + ngram - 2) :]
    past = [[end[(j + level) % len(end)] for j in range(level == 0, window)] for level in range(ngram - 1)]
    pool: dict[int, list[tuple[int, ...]]] = {}
    rounds, tokens = [], list(tokens)
    while len(tokens) < to:
        own = [follow(tokens[-1])]
        while len(own) < ngram:
            own.append(follow(own[-1]))
        agreed = [[a == b for a, b in zip(g, own, strict=False)] + [False] for g in pool.get(tokens[-1], [])]
        room = to - len(tokens)
        accepted = min(max((one.index(False) for one in agreed), default=0), room - 1)
        new = [follow(token) for token in past[-1]]
        for j in range(window):
            known = pool.setdefault(tokens[-1] if j == 0 else past[0][j - 1], [])
            gram = (*(level[j] for level in past[1:]), new[j])
            known[:] = [*(one for one in known if one != gram), gram][-guesses:]
        past = [past[1][1:], *past[2:], new]
        if room == 1:  # the last token is a plain step, which reads no window
            accepted = 0
        tokens += own[: accepted + 1]
        rounds.append(accepted + 1)
    return rounds


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), window=st.integers(1, 6), ngram=st.integers(3, 5), guesses=st.integers(1, 4))
def test_lookahead_accepts_what_the_authors_program_accepts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, window: int, ngram: int, guesses: int
) -> None:
    target = np.random.default_rng(seed).normal(size=(12, 12))
    setup = table_setup(tmp_path_factory.mktemp("lookahead"), "workload.output_tokens=60")
    policy = policy_of(f"{{name: lookahead, window: {window}, ngram: {ngram}, guesses: {guesses}}}")
    trace = simulate(setup, ToySource(Quick(GREEDY, Table(target, target))), policy)

    def follow(token: int) -> int:
        return int(target[token].argmax())

    # The toy's prompt is the token 1; the first token of the answer comes with the prompt.
    assert [r.emitted for r in trace.rounds[1:]] == reference(follow, [1, follow(1)], window, ngram, guesses, 61)


# SSD.


def test_ssd_reads_thirty_rows() -> None:
    """Branches 3, 2: the last token, 3 and 6 nodes, each with 2 forecast tokens: 10 x 3 rows."""
    policy = Ssd(name="ssd")
    assert (policy.shape.nodes, policy.rows) == (9, 30)
    tree = tree_of([(4, 5, 6), (7, 8)])
    assert tree.tokens == (4, 5, 6, 7, 8, 7, 8, 7, 8)
    assert tree.parents == (-1, -1, -1, 0, 0, 1, 1, 2, 2)
    whole = with_forecasts(tree, policy)
    assert len(whole.tokens) + 1 == policy.rows
    assert whole.tokens[9:13] == (-1, -2, -1, -2)
    assert whole.parents[9:13] == (-1, 9, 0, 11)
    assert whole.probes[:4] == (3, 2, 3, 2)
    assert Ssd(name="ssd", forecast_tokens=4).rows == 50


class Clairvoyant(Table):
    """Rows of a fixed text: forecast tokens know it as well (`right`), or take the wrong token every time."""

    def __init__(self, right: bool):
        super().__init__()
        self.right = right

    def target_rows(self, conversation: int, tokens: list[int], count: int) -> list[np.ndarray]:
        return [sure(position) for position in range(len(tokens) - count + 1, len(tokens) + 1)]

    def tree_rows(self, conversation: int, tokens: list[int], tree: TokenTree) -> list[np.ndarray]:
        places = [len(tokens), *(len(tokens) + len(tree.path(place)) for place in range(len(tree.tokens)))]
        wrong = [0, *(int(token < 0 and not self.right) for token in tree.tokens)]
        return [sure(place + 2 * off) for place, off in zip(places, wrong, strict=True)]


def sure(position: int) -> np.ndarray:
    """A row whose likeliest token goes round with the position, two of the four far behind the others."""
    row = np.full(4, -9.0, np.float32)
    row[position % 4], row[(position + 1) % 4] = 3.0, 1.0
    return row


def test_the_rows_of_forecasts_are_the_next_tree(tmp_path: Path) -> None:
    """Right forecasts: 1 token from the first pass, then 3 a pass; forecasts that are off by two never stand."""
    setup = table_setup(tmp_path, "workload.output_tokens=20", *WIDE)
    for right, emitted in ((True, [1, 1, *[3] * 6]), (False, [1] * 20)):
        trace = simulate(
            setup, ToySource(Quick(GREEDY, Clairvoyant(right))), policy_of("{name: ssd, branches: [2, 2]}")
        )
        assert [r.emitted for r in trace.rounds] == emitted
        assert [r.drafted for r in trace.rounds[:4]] == [0, 0, 6, 6]


WIDE = ('target.timer={prefill: {"64": 100}, decode: 50, verify: {"16": 60, "32": 90}, source: round numbers}',)


@pytest.mark.parametrize(
    ("policy", "rows", "took"),
    [
        ("{name: ssd, branches: [3, 2]}", 30, 90),
        ("{name: lookahead, window: 2, ngram: 5, guesses: 2}", 16, 60),
        ("{name: lookahead, window: 3, ngram: 5, guesses: 5}", 32, 90),
    ],
)
@pytest.mark.parametrize("chance", [True, False])
def test_a_round_is_one_pass_of_fixed_width(tmp_path: Path, policy: str, rows: int, took: int, chance: bool) -> None:
    """100 ms for the prompt, then a verify of so many rows whatever the tree holds; a last token alone takes 50."""
    setup = table_setup(tmp_path, f"policy={policy}", "draft=null", "link=null", "workload.output_tokens=30", *WIDE)
    trace = simulate(setup, synthetic(setup) if chance else ToySource(Quick(GREEDY, Clairvoyant(True))))
    steps = [(span.kind, span.rows) for span in trace.spans]
    assert set(steps[1:]) <= {("verify", rows), ("decode", 1)}
    rounds = trace.rounds[1:]
    alone = [r for r in rounds if r.depth == 0]
    assert len(alone) <= 1
    assert trace.requests[0].finished_ns == (100 + took * (len(rounds) - len(alone)) + 50 * len(alone)) * MS


@pytest.mark.parametrize(
    ("policy", "depth"),
    [("{name: tree, branches: [3, 2, 1]}", 3), ("{name: tree, nodes: 20, top: 4, depth: 3}", 3),
     ("{name: lookahead, window: 4, ngram: 4, guesses: 4}", 3), ("{name: ssd, branches: [2, 2]}", 2)],
)  # fmt: skip
def test_a_tree_by_chance_is_accepted_level_by_level(tmp_path: Path, policy: str, depth: int) -> None:
    """1 + a + ab + abc tokens a pass; 5,000 passes have a standard error of at most 2 / sqrt(5,000) = 0.028."""
    chances = (0.8, 0.5, 0.9)
    setup = table_setup(tmp_path, f"policy={policy}", f"logits.acceptance={{conditional: {list(chances)}}}",
                        "workload.output_tokens=1400", "workload.requests=10", *WIDE, WIDE_DRAFT)  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    whole = [r for r in trace.rounds if r.depth == depth]
    assert len(whole) > 5_000
    expected = 1 + float(np.cumprod(chances[:depth]).sum())
    assert sum(r.emitted for r in whole) / len(whole) == pytest.approx(expected, abs=4 * 0.028)
    found = speculation(trace)["conditional_acceptance"]
    assert found == pytest.approx(chances[:depth], abs=0.04)


def test_assumed_acceptance_keeps_the_target_s_text_under_trees(tmp_path: Path) -> None:
    """Drafts that always stand: a whole path a round of the text that is given, whatever the tree's shape."""
    text = [3, 1, 2, 0, 2, 3, 1, 1, 0, 2, 3]
    setup = table_setup(tmp_path, *WIDE, WIDE_DRAFT)
    for policy, depth in (
        ("{name: tree, branches: [2, 2]}", 2),
        ("{name: lookahead, window: 2, ngram: 4, guesses: 2}", 3),
    ):
        source = Supposed(ToySource(Quick(GREEDY)), {0: text}, luck_by(1.0, seed=1))
        trace = simulate(setup, source, policy_of(policy))
        assert [token for closed in trace.rounds for token in closed.tokens] == text
        assert all(closed.accepted == depth for closed in trace.rounds if closed.depth == depth)


WIDE_DRAFT = 'draft.timer={prefill: {"64": 20}, decode: 5, verify: {"8": 5}, source: round numbers}'


def test_a_tree_by_chance_has_all_nodes_of_its_shape(tmp_path: Path) -> None:
    for policy, nodes in (("{name: tree, branches: [3, 2]}", 9), ("{name: tree, nodes: 7, top: 4, depth: 3}", 7)):
        setup = table_setup(tmp_path, f"policy={policy}", *WIDE, WIDE_DRAFT)
        alone, ours = both(setup)
        assert {r.drafted for r in ours.rounds if r.depth > 1} == {nodes}
        assert alone.requests[0].output_tokens == ours.requests[0].output_tokens


# Trees of the likeliest nodes.


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["greedy", "sample_match"]))
def test_the_likeliest_nodes_are_those_of_a_full_enumeration(seed: int, nodes: int, depth: int, rule: str) -> None:
    """As many followed on at each level as nodes are wanted: every ancestor of a chosen node is chosen before it."""
    draft = np.random.default_rng(seed).normal(scale=2, size=(4, 4))
    decisions = Quick(GREEDY if rule == "greedy" else Rules(SampleMatch(), TokenIds(), WARM), Table(draft, draft))
    tree = decisions.draft_tree(Text([1]), BestNodes(nodes, nodes, depth))
    found = {tuple(tree.tokens[place] for place in tree.path(node)) for node in range(len(tree.tokens))}
    chances = {
        path: chance_of(draft, path) for length in range(1, depth + 1) for path in product(range(4), repeat=length)
    }
    assert found == set(sorted(chances, key=lambda path: -chances[path])[: len(found)])
    assert len(found) == min(nodes, sum(nodes**level for level in range(1, depth + 1)))
    assert all(parent < place for place, parent in enumerate(tree.parents))


WARM = Sampling(temperature=1.0)


def chance_of(draft: np.ndarray, path: tuple[int, ...]) -> float:
    """The product of the draft's probabilities along a path below the token 1."""
    chance = 1.0
    for before, token in pairwise((1, *path)):
        law = np.exp(draft[before].astype(np.float32).astype(np.float64))
        chance *= law[token] / law.sum()
    return chance


def test_a_tree_of_likeliest_nodes_costs_top_rows_a_level(tmp_path: Path) -> None:
    """The draft reads the last token, then 8 rows of each of 4 levels; 31 nodes and the last token are 32 rows."""
    policy = "{name: tree, nodes: 31, top: 8, depth: 5}"
    setup = table_setup(tmp_path, f"policy={policy}", "workload.output_tokens=40", *WIDE, WIDE_DRAFT)
    trace = simulate(setup, synthetic(setup))
    (closed, *_) = [r for r in trace.rounds if r.depth == 5]
    mine = [s for s in trace.spans if s.round == closed.number]
    assert [(s.kind, s.rows) for s in mine] == [
        ("draft", mine[0].rows), *[("draft", 8)] * 4, ("drafts", 0), ("verify", 32), ("verdict", 0)
    ]  # fmt: skip
    assert closed.end_ns - closed.start_ns == (5 * 5 + 3 + 90 + 3) * MS


# What cannot run.

NPU = ("draft=null", "link=null")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((*NPU, "policy={name: lookahead, window: 4, ngram: 5, guesses: 4}"), "lookahead, with target on sa8295p.npu,"),
        ((*NPU, "policy={name: lookahead, window: 8, ngram: 5, guesses: 8}", "target.chip=snapdragon-8-elite",
          "target.widths=[1, 32, 128]"), None),
        ((*NPU, "policy={name: lookahead, window: 8, ngram: 6, guesses: 8}", "target.chip=snapdragon-8-elite",
          "target.widths=[1, 32]"), "lookahead, 80 rows in one pass, and graphs of widths 1 32"),
        ((*NPU, "policy={name: ssd}", "target.chip=snapdragon-8-elite"), "policy ssd without forecasts"),
        ((*NPU, "policy={name: ssd, branches: [3, 2], forecast_tokens: 1}"), "a forecast token for each level"),
        ((*NPU, "policy={name: lookahead, window: 60, ngram: 9, guesses: 60}"), "make 960 rows"),
        ((*NPU, "policy={name: lookahead, window: 4, ngram: 5, guesses: 4}", "accept=ratio", "payload=full_rows",
          "sampling.temperature=1", "target.chip=snapdragon-8-elite"), "policy lookahead with the ratio rule"),
        (("policy={name: tree, branches: [3], nodes: 4}",), "branches and nodes"),
        (("policy={name: tree}",), "neither branches nor nodes"),
        (("policy={name: tree, branches: [3], top: 4}",), "top or depth with branches"),
        (("policy={name: tree, nodes: 40, top: 2, depth: 3}",), "of a tree that grows 10"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_the_run(overrides: tuple[str, ...], words: str | None) -> None:
    if words is None:
        assert shipped("orin_8295_greedy", *overrides).scenario.policy.name == "lookahead"
        return
    with pytest.raises(InputError, match=words):
        shipped("orin_8295_greedy", *overrides)
