"""Many sequences a pass answer like one after the other, and distributions of many rows are those of each.

In float64 both orders of summation agree to 1e-10. Rounded to float32, logits are then equal bit for bit, but not by
necessity: where two neighbours of float32 are equally far, the last bits of float64 decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hilsim.describe.decoding import (
    FullRows,
    GumbelMatch,
    OneHot,
    Payload,
    RatioTest,
    SampleMatch,
    Sampling,
    Scalar,
    TokenIds,
    TopKRows,
)
from hilsim.networks.arrays import Array
from hilsim.networks.batched import Continuations, Parallel
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import Network, load_network, weights_of
from hilsim.networks.packed import Packed, packed
from hilsim.networks.rope import RopeScaling
from hilsim.places import CODE as PROJECT
from hilsim.sampling.choices import Choices, RowPosition, Rules
from hilsim.sampling.distribution import distribution_of, entropy, lead
from hilsim.sampling.payload import draft_distribution, target_distribution
from hilsim.text.tokenizer import load_tokenizer
from tests.networks.test_decoder import BASE, SHAPES, randomised

EVERYTHING = replace(
    BASE,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    qk_norm=True,
    tied=True,
    heads=6,
    windows=(5, None),
    rope_scaling=RopeScaling("yarn", 4.0, 10),
)
TINY = {**SHAPES, "everything": EVERYTHING, "windows in both layers": replace(EVERYTHING, windows=(3, 14))}
every_tiny = pytest.mark.parametrize("config", TINY.values(), ids=TINY.keys())
KNOWN, DEPTH = 24, 12
STARTS = [1, 2, 3, 24, 11, 11, 18]  # in any order, the ends, and one place twice


def some_tokens(*shape: int, vocabulary: int = 50, seed: int = 3) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def one_by_one(network: Network, prefix: Sequence[int], fed: Sequence[int]) -> Array:
    """Rows after the prefix and after each token fed: the prefix in one pass, then single rows as a policy asks."""
    decoder = Decoder(weights_of(network), len(prefix) + len(fed))
    rows = decoder.feed(prefix) + [decoder.feed([token])[0] for token in fed]
    return np.stack(rows)


def assert_same(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    differ = int((found.astype(np.float32) != expected.astype(np.float32)).sum())
    assert differ <= 1 + expected.size // 1000  # by chance: see the module's words


def told(network: Network, *sequences: Sequence[int]) -> Parallel:
    """Conversations that have read their sequences."""
    parallel = Parallel(whole(network), len(sequences), max(map(len, sequences)))
    parallel.feed(range(len(sequences)), sequences)
    return parallel


def whole(network: Network) -> Packed:
    """A network for all its positions."""
    return packed(weights_of(network), network.config.max_positions)


def continuations(network: Network, tokens: Sequence[int], starts: Sequence[int], depth: int) -> Continuations:
    """Of one sequence."""
    return Continuations(whole(network), [told(network, tokens).known(0)], [starts], depth)


@every_tiny
def test_continuations_answer_as_if_each_were_alone(config: object) -> None:
    """Of two sequences, and of a third that none continues; whatever is said, every row is that of its own sequence."""
    network = randomised(config)  # type: ignore[arg-type]
    sequences = [some_tokens(length, seed=length).tolist() for length in (KNOWN, 5, 9)]
    starts = [STARTS, [], [9, 1, 9]]
    chosen = some_tokens(DEPTH, len(STARTS) + 3, seed=4)
    heard = told(network, *sequences)
    batched = Continuations(whole(network), [heard.known(place) for place in range(3)], starts, DEPTH)
    rows = np.stack([batched.step(step) for step in chosen.numpy()])
    places = [(tokens, start) for tokens, own in zip(sequences, starts, strict=True) for start in own]
    for place, (tokens, start) in enumerate(places):
        assert_same(rows[:, place], one_by_one(network, tokens[:start], chosen[:, place].tolist())[1:])


@pytest.mark.parametrize("name", ["draft-0.8m", "target"])
def test_shipped_networks_continue_their_own_text(name: str) -> None:
    """Greedily, as a draft does: the tokens agree, and so do the rows that they come from."""
    network, tokens = shipped(name)
    starts = [1, 2, len(tokens) // 2, len(tokens) - 1, len(tokens)]
    batched = continuations(network, tokens, starts, DEPTH)
    rows = [network(torch.tensor([tokens]))[0][[start - 1 for start in starts]].numpy()]
    chosen = []
    for _ in range(DEPTH):
        chosen.append(rows[-1].argmax(-1))
        rows.append(batched.step(chosen[-1]))
    for place, start in enumerate(starts):
        said = [int(step[place]) for step in chosen]
        alone = one_by_one(network, tokens[:start], said)
        assert alone[:-1].argmax(-1).tolist() == said
        assert_same(np.stack(rows)[:, place], alone)


def shipped(name: str) -> tuple[Network, list[int]]:
    """A network in float64, and two turns of words for it."""
    folder = PROJECT / "models" / name
    words = load_tokenizer(folder)
    network = load_network(folder, "float64")
    talk = words.open()
    first = talk.ask("Turn on the seat heating, please.", []).tokens
    return network, first + talk.ask("And the radio?", first).tokens


@every_tiny
def test_those_that_end_leave_the_others_alone(config: object) -> None:
    network, tokens = randomised(config), some_tokens(KNOWN).tolist()  # type: ignore[arg-type]
    chosen = some_tokens(DEPTH, len(STARTS), seed=5)
    batched = continuations(network, tokens, STARTS, DEPTH)
    places = list(range(len(STARTS)))
    rows: dict[int, list[Array]] = {place: [] for place in places}
    dropped = {2: [3], 5: [0, 5], 8: [4, 6]}  # after so many steps; 3 is the longest, so the prefix shrinks
    for step in range(DEPTH):
        if step in dropped:
            stay = [at for at, place in enumerate(places) if place not in dropped[step]]
            batched.keep(stay)
            places = [places[at] for at in stay]
            assert batched.starts.tolist() == [STARTS[place] for place in places]
        for place, row in zip(places, batched.step(chosen[step, places].numpy()), strict=True):
            rows[place].append(row)
    assert [len(row) for row in rows.values()] == [5, 12, 12, 2, 8, 5, 8]
    for place, start in enumerate(STARTS):
        fed = chosen[: len(rows[place]), place].tolist()
        assert_same(np.stack(rows[place]), one_by_one(network, tokens[:start], fed)[1:])


def test_keeping_may_keep_none_but_not_change_the_order() -> None:
    network, tokens = randomised(EVERYTHING), some_tokens(KNOWN).tolist()
    batched = continuations(network, tokens, STARTS, DEPTH)
    batched.step([7] * len(STARTS))
    with pytest.raises(ValueError, match="not in ascending order"):
        batched.keep([4, 1])
    batched.keep([])
    assert batched.step([]).shape == (0, 50)


class Uncut(Continuations):
    """Sees the whole of what is known, also what comes after its start."""

    def hidden(self, window: int | None, rows: slice) -> tuple[Array, Array | None]:
        return np.zeros_like(super().hidden(window, rows)[0]), None


class NoWindow(Continuations):
    """Sees everything before it."""

    def hidden(self, window: int | None, rows: slice) -> tuple[Array, Array | None]:
        return super().hidden(None, rows)


@pytest.mark.parametrize(
    ("wrong", "starts"), [(Uncut, [2, 11, 18]), (NoWindow, [11, 18, 24])], ids=["prefix not cut", "no window"]
)
def test_a_wrong_mask_is_seen(wrong: type[Continuations], starts: list[int]) -> None:
    network, tokens = randomised(EVERYTHING), some_tokens(KNOWN).tolist()
    known = told(network, tokens).known(0)
    right, other = (
        kind(whole(network), [known], [starts], 1).step([7] * len(starts)) for kind in (Continuations, wrong)
    )
    assert (np.abs(right - other).max(-1) > 1e-3).all()


def test_what_does_not_fit_is_refused() -> None:
    network, tokens = randomised(BASE), some_tokens(KNOWN).tolist()
    for starts in ([0, 3], [25]):
        with pytest.raises(ValueError, match="not all in 1 to 24"):
            continuations(network, tokens, starts, 2)
    batched = continuations(network, tokens, [3, 4], 1)
    with pytest.raises(ValueError, match="1 tokens for 2 continuations"):
        batched.step([1])
    batched.step([1, 2])
    with pytest.raises(ValueError, match="1 \\+ 1 steps do not fit into 1"):
        batched.step([1, 2])
    with pytest.raises(ValueError, match="40 \\+ 1 positions do not fit into 40"):
        continuations(network, [1] * 40, [40], 2).step([1])
    full = told(network, [1], [1, 2, 3])
    with pytest.raises(ValueError, match="conversation 1: 3 \\+ 1 positions do not fit into 3"):
        full.feed([0, 1], [[1], [1]])
    with pytest.raises(ValueError, match="conversation 0: 1 \\+ 3 positions do not fit into 3"):
        full.feed([0], [[1, 2, 3]])
    for which, pieces in (([0, 0], [[1], [1]]), ([0], [[1], [2]]), ([0], [[]])):
        with pytest.raises(ValueError, match="tokens for conversations"):
            full.feed(which, pieces)
    assert full.lengths == [1, 3]  # a refused token leaves nothing behind
    assert_same(full.feed([0], [[5]])[0], one_by_one(network, [1], [5])[-1])


@every_tiny
def test_conversations_in_lockstep_answer_as_if_each_were_alone(config: object) -> None:
    """Four of different lengths read tokens and prompts, together and apart, most of them and few."""
    network = randomised(config)  # type: ignore[arg-type]
    batched = Parallel(whole(network), 4, 38)
    said: list[list[int]] = [[], [], [], []]
    reads = [
        {0: 1, 1: 9, 2: 16, 3: 2}, {0: 1, 1: 1, 2: 1, 3: 1}, {2: 1, 0: 1, 3: 1}, {3: 1}, {1: 5, 3: 1, 0: 1, 2: 1},
        {1: 1, 3: 1}, {0: 14}, {0: 1, 1: 1, 2: 1, 3: 1},
    ]  # fmt: skip
    for seed, lengths in enumerate(reads):
        pieces = {place: some_tokens(length, seed=10 * seed + place).tolist() for place, length in lengths.items()}
        for place, piece in pieces.items():
            said[place] += piece
        alone = [one_by_one(network, said[place][:-1], said[place][-1:])[-1] for place in pieces if said[place][:-1]]
        rows = batched.feed(list(pieces), list(pieces.values()))
        assert_same(rows[[bool(said[place][:-1]) for place in pieces]], np.stack(alone))
    assert batched.lengths == [len(one) for one in said]
    alone = one_by_one(network, said[2], [7, 8, 9])[1:]
    assert_same(batched.feed([1, 2], [[4], [7, 8, 9]], [[0], [1, 2]])[1:], alone[1:])
    assert_same(
        batched.feed([2, 0], [[7, 8, 9], [4]], [[2], []]), one_by_one(network, [*said[2], 7, 8, 9], [7, 8, 9])[-1:]
    )


@every_tiny
def test_what_conversations_have_in_common_is_read_once(config: object) -> None:
    network, common = randomised(config), some_tokens(9).tolist()  # type: ignore[arg-type]
    sequences = [[*common, *some_tokens(5, seed=seed).tolist()] for seed in (7, 8)]
    sequences += [[], common]  # one that is not asked, and one that is no longer than what all share
    batched = Parallel(whole(network), 4, 20)
    batched.begin(sequences)
    assert batched.lengths == [8, 8, 0, 8]
    rows = batched.feed([0, 1, 3], [sequences[place][8:] for place in (0, 1, 3)])
    for row, place in zip(rows, (0, 1, 3), strict=True):
        assert_same(row, one_by_one(network, sequences[place][:-1], sequences[place][-1:])[-1])
    batched.begin(sequences)  # what has been read stays
    assert batched.lengths == [14, 14, 0, 9]


def test_packed_products_are_the_products() -> None:
    """NumPy's differ from PyTorch's in the last bits of float32; one row or many."""
    network = randomised(EVERYTHING).float()
    for rows in (1, 4, 33, 150):
        tokens = some_tokens(rows, 1).tolist()
        heard = Parallel(whole(network), rows, 8)
        found = heard.feed(range(rows), tokens)
        np.testing.assert_allclose(found, network(torch.tensor(tokens))[:, 0].numpy(), rtol=0, atol=1e-5)


ROWS = np.random.default_rng(5).normal(0, 3, (60, 400)).astype(np.float32)
ROWS[3] = 0  # every token alike
ROWS[4, 7:90] = ROWS[4].max()  # many of the k-th
ROWS[5, 8] = 400  # all mass on one token; the others' is under what float16 holds
SAMPLINGS = (
    Sampling(temperature=1.0), Sampling(temperature=0.7, top_k=40, top_p=0.95), Sampling(temperature=0.3, top_p=0.5),
    Sampling(temperature=2.0, top_k=1000), Sampling(temperature=1.3, top_k=1), Sampling(temperature=1.0, top_k=2),
)  # fmt: skip
PAYLOADS: tuple[Payload, ...] = (
    TokenIds(), OneHot(), FullRows(), FullRows(format="fp32"), FullRows(format="counts8"), TopKRows(k=8),
    TopKRows(k=300, format="counts8"), Scalar(), Scalar(format="fp32"),
)  # fmt: skip
every_sampling = pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)


@every_sampling
def test_distributions_of_many_rows_are_those_of_each(sampling: Sampling) -> None:
    """To the bit, entropies and leads as well: policies compare them."""
    many, each = distribution_of(ROWS, sampling), [distribution_of(row, sampling) for row in ROWS]
    assert np.array_equal(many.dense(), [one.dense() for one in each])
    assert np.array_equal(entropy(many.probabilities), [entropy(one.probabilities) for one in each])
    assert np.array_equal(lead(ROWS), [lead(row) for row in ROWS])


def test_a_lead_is_over_the_second_of_all_scores() -> None:
    """Also where two are the largest, where scores are minus infinity, and of a score alone; nothing is changed."""
    rows = np.concatenate((ROWS, ROWS[:1]))
    rows[0, [3, 9]] = rows[0].max() + 1
    rows[1, 1:] = -np.inf
    before, ranked = rows.copy(), np.sort(rows, axis=-1)
    expected = ranked[:, -1] - ranked[:, -2]
    assert np.array_equal(lead(rows), expected)
    assert np.array_equal(rows, before)
    assert expected[:2].tolist() == [0, np.inf]
    assert not np.array_equal(lead(rows), ranked[:, -1] - ranked[:, -3])
    assert lead(rows[:, :1]).tolist() == [np.inf] * len(rows)


@every_sampling
def test_distributions_are_the_textbook_s(sampling: Sampling) -> None:
    """To the bit, over whole rows: what is cut has a probability of zero in every sum."""
    for row in ROWS:
        scaled = row.astype(np.float64)
        scaled = (scaled - scaled.max()) / sampling.temperature
        if sampling.top_k is not None and sampling.top_k < len(scaled):
            scaled = np.where(scaled < np.sort(scaled)[-sampling.top_k], -np.inf, scaled)
        expected = np.exp(scaled) / np.exp(scaled).sum()
        if sampling.top_p is not None:
            order = np.argsort(-expected, kind="stable")
            expected[order[expected[order].cumsum() - expected[order] >= sampling.top_p]] = 0.0
            expected /= expected.sum()
        found = distribution_of(row, sampling)
        assert np.array_equal(found.dense(), expected)
        shares = expected[expected > 0]
        assert entropy(found.probabilities) == -(shares * np.log(shares)).sum()
        for uniform in (0.0, 0.2, 0.5, 0.99):
            place, margin = found.draw(uniform)
            token = int(found.tokens[place])
            ends = expected.cumsum()[token] - uniform * expected.cumsum()[-1]
            assert 0 < ends <= expected[token] * (1 + 1e-9)
            assert 0 <= margin <= expected[token]


@every_sampling
@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_distributions_on_the_wire_are_those_of_each(sampling: Sampling, payload: Payload) -> None:
    many, each = distribution_of(ROWS, sampling), [distribution_of(row, sampling) for row in ROWS]
    for place in ("target", "draft"):
        sent = draft_distribution(many, payload, place)
        assert np.array_equal(
            sent.drawn.dense(), [draft_distribution(one, payload, place).drawn.dense() for one in each]
        )
        known = target_distribution(many, payload, place)
        assert np.array_equal(known.dense(), [target_distribution(one, payload, place).dense() for one in each])


@every_sampling
def test_tokens_are_drawn_as_from_each(sampling: Sampling) -> None:
    many, each = distribution_of(ROWS, sampling), [distribution_of(row, sampling) for row in ROWS]
    for uniform in (0.0, 0.2, 0.5, 0.99, 1 - 2.0**-53):
        places, margins = many.draw(np.full(len(ROWS), uniform))
        found = list(zip(many.at(places)[0], margins, strict=True))
        drawn = [(one, *one.draw(uniform)) for one in each]
        assert found == [(one.at(place)[0], margin) for one, place, margin in drawn]


RULES = (
    Rules(RatioTest(), FullRows(), Sampling()), Rules(RatioTest(), TopKRows(k=8), Sampling()),
    Rules(RatioTest(), Scalar(), Sampling()), Rules(RatioTest(), OneHot(), Sampling()),
    Rules(GumbelMatch(), TokenIds(), Sampling()),
    Rules(SampleMatch(), TokenIds(), Sampling()),
)  # fmt: skip


@every_sampling
@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.accept.rule}-{rules.payload.scheme}")
def test_tokens_of_many_rows_are_those_of_each(sampling: Sampling, rules: Rules) -> None:
    """Drafted and emitted, with margins, confidences and entropies, to the bit; the draft may know fewer tokens."""
    choices = Choices(replace(rules, sampling=sampling), 3)
    places = [RowPosition(at, [0] * (100 + at)) for at in range(30)]
    for target, draft in ((ROWS[:30], ROWS[30:]), (ROWS[30:], np.ascontiguousarray(ROWS[:30, :350]))):
        each = [choices.emitted(p, q, place) for p, q, place in zip(target, draft, places, strict=True)]
        assert list(zip(*choices.emitted(target, draft, places), strict=True)) == each
        proposed = [choices.proposed(row, place) for row, place in zip(draft, places, strict=True)]
        assert list(zip(*choices.proposed(draft, places), strict=True)) == proposed
