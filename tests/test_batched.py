"""Many sequences a pass answer like one after the other; `python -m tests.test_batched` says how much sooner.

In float64 both orders of summation agree to 1e-10. Rounded to float32, logits are then equal bit for bit, but not by
necessity: where two neighbours of float32 are equally far, the last bits of float64 decide.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hilsim.describe.catalogue import PROJECT
from hilsim.logits.batched import Continuations, Parallel
from hilsim.logits.checkpoint import load_network
from hilsim.logits.decoder import Decoder
from hilsim.logits.network import Network, RopeScaling
from hilsim.logits.tokenizer import load_tokenizer
from tests.test_decoder import BASE, SHAPES, randomised

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


def one_by_one(network: Network, prefix: Sequence[int], fed: Sequence[int]) -> Tensor:
    """Rows after the prefix and after each token fed: the prefix in one pass, then single rows as a policy asks."""
    decoder = Decoder(network, len(prefix) + len(fed))
    rows = decoder.feed(prefix) + [decoder.feed([token])[0] for token in fed]
    return torch.from_numpy(np.stack(rows))


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    differ = int((found.float() != expected.float()).sum())
    assert differ <= 1 + expected.numel() // 1000  # by chance: see the module's words


def assert_continues(network: Network, tokens: list[int], starts: list[int], chosen: Tensor) -> None:
    """`chosen` (depth, starts): whatever is said, every row is that of its own sequence."""
    batched = Continuations(network, tokens, starts, len(chosen))
    assert_same(batched.known, network(torch.tensor([tokens]))[0])
    rows = torch.stack([batched.known[batched.starts - 1], *(batched.step(step) for step in chosen)])
    for place, start in enumerate(starts):
        assert_same(rows[:, place], one_by_one(network, tokens[:start], chosen[:, place].tolist()))


@every_tiny
def test_continuations_answer_as_if_each_were_alone(config: object) -> None:
    network = randomised(config)  # type: ignore[arg-type]
    assert_continues(network, some_tokens(KNOWN).tolist(), STARTS, some_tokens(DEPTH, len(STARTS), seed=4))


@pytest.mark.parametrize("name", ["draft-0.8m", "target"])
def test_shipped_networks_continue_their_own_words(name: str) -> None:
    """Greedily, as a draft does: the tokens agree, and so do the rows that they come from."""
    network, tokens = shipped(name)
    starts = [1, 2, len(tokens) // 2, len(tokens) - 1, len(tokens)]
    batched = Continuations(network, tokens, starts, DEPTH)
    rows = [batched.known[batched.starts - 1]]
    chosen = []
    for _ in range(DEPTH):
        chosen.append(rows[-1].argmax(-1))
        rows.append(batched.step(chosen[-1]))
    for place, start in enumerate(starts):
        said = [int(step[place]) for step in chosen]
        alone = one_by_one(network, tokens[:start], said)
        assert alone[:-1].argmax(-1).tolist() == said
        assert_same(torch.stack(rows)[:, place], alone)


def shipped(name: str) -> tuple[Network, list[int]]:
    """A network in float64, and two turns of words for it."""
    folder = PROJECT / "models" / name
    words = load_tokenizer(folder)
    network = load_network(folder, torch.float64)
    return network, words.first_turn("Turn on the seat heating, please.") + words.next_turn("And the radio?")


@every_tiny
@pytest.mark.parametrize("mask", [False, True], ids=["places", "mask"])
def test_those_that_end_leave_the_others_alone(config: object, mask: bool) -> None:
    network, tokens = randomised(config), some_tokens(KNOWN).tolist()  # type: ignore[arg-type]
    chosen = some_tokens(DEPTH, len(STARTS), seed=5)
    batched = Continuations(network, tokens, STARTS, DEPTH)
    places = list(range(len(STARTS)))
    rows: dict[int, list[Tensor]] = {place: [] for place in places}
    dropped = {2: [3], 5: [0, 5], 8: [4, 6]}  # after so many steps; 3 is the longest, so the prefix shrinks
    for step in range(DEPTH):
        if step in dropped:
            stays = [place not in dropped[step] for place in places]
            batched.keep(stays if mask else [at for at, stay in enumerate(stays) if stay])
            places = [place for place, stay in zip(places, stays, strict=True) if stay]
            assert batched.starts.tolist() == [STARTS[place] for place in places]
        for place, row in zip(places, batched.step(chosen[step, places]), strict=True):
            rows[place].append(row)
    assert [len(row) for row in rows.values()] == [5, 12, 12, 2, 8, 5, 8]
    for place, start in enumerate(STARTS):
        fed = chosen[: len(rows[place]), place].tolist()
        assert_same(torch.stack(rows[place]), one_by_one(network, tokens[:start], fed)[1:])


def test_keeping_reorders_and_may_keep_none() -> None:
    network, tokens = randomised(EVERYTHING), some_tokens(KNOWN).tolist()
    batched = Continuations(network, tokens, STARTS, DEPTH)
    batched.step([7] * len(STARTS))
    batched.keep([4, 1])
    rows = batched.step([8, 9])
    assert_same(rows[0], one_by_one(network, tokens[:11], [7, 8])[-1])
    assert_same(rows[1], one_by_one(network, tokens[:2], [7, 9])[-1])
    batched.keep([])
    assert batched.step([]).shape == (0, 50)


class Uncut(Continuations):
    """Sees the whole of what is known, also what comes after its start."""

    def hidden(self, window: int | None) -> Tensor:
        return torch.zeros_like(super().hidden(window))


class NoWindow(Continuations):
    """Sees everything before it."""

    def hidden(self, window: int | None) -> Tensor:
        return super().hidden(None)


@pytest.mark.parametrize(
    ("wrong", "starts"), [(Uncut, [2, 11, 18]), (NoWindow, [11, 18, 24])], ids=["prefix not cut", "no window"]
)
def test_a_wrong_mask_is_seen(wrong: type[Continuations], starts: list[int]) -> None:
    network, tokens = randomised(EVERYTHING), some_tokens(KNOWN).tolist()
    right = Continuations(network, tokens, starts, 1).step([7] * len(starts))
    other = wrong(network, tokens, starts, 1).step([7] * len(starts))
    assert ((right - other).abs().amax(-1) > 1e-3).all()


def test_what_does_not_fit_is_refused() -> None:
    network, tokens = randomised(BASE), some_tokens(KNOWN).tolist()
    for starts in ([0, 3], [25]):
        with pytest.raises(ValueError, match="not all in 1 to 24"):
            Continuations(network, tokens, starts, 2)
    batched = Continuations(network, tokens, [3, 4], 1)
    with pytest.raises(ValueError, match="1 tokens for 2 continuations"):
        batched.step([1])
    with pytest.raises(ValueError, match="mask of 1 for 2"):
        batched.keep([True])
    batched.step([1, 2])
    with pytest.raises(ValueError, match="1 \\+ 1 steps do not fit into 1"):
        batched.step([1, 2])
    with pytest.raises(ValueError, match="40 \\+ 1 positions do not fit into 40"):
        Continuations(network, [1] * 40, [40], 2).step([1])
    full = Parallel(network, [[1], [1, 2, 3]], 3)
    with pytest.raises(ValueError, match="conversation 1: 3 \\+ 1 positions do not fit into 3"):
        full.step([1, 1])
    with pytest.raises(ValueError, match="do not fit"):
        full.extend(0, [1, 2, 3])
    with pytest.raises(ValueError, match="2 tokens for conversations \\[0, 0\\]"):
        full.step([1, 1], [0, 0])
    assert full.lengths == [1, 3]  # a refused token leaves nothing behind
    assert_same(full.step([5], [0])[0], one_by_one(network, [1], [5])[-1])


@every_tiny
def test_conversations_in_lockstep_answer_as_if_each_were_alone(config: object) -> None:
    """Three of different lengths take steps together and apart; one reads its next turn, one ends."""
    network = randomised(config)  # type: ignore[arg-type]
    told = [some_tokens(length, seed=length).tolist() for length in (1, 9, 16)]
    batched = Parallel(network, told, 38)

    def check(rows: Tensor, which: Sequence[int]) -> None:
        expected = [one_by_one(network, told[place][:-1], told[place][-1:])[-1] for place in which]
        assert_same(rows, torch.stack(expected))

    def say(which: Sequence[int], seed: int) -> None:
        fed = some_tokens(len(which), seed=seed).tolist()
        for place, token in zip(which, fed, strict=True):
            told[place].append(token)
        check(batched.step(fed, which), which)

    assert_same(batched.rows()[0], network(torch.tensor([told[0]]))[0, -1])
    assert_same(batched.rows()[1:], torch.stack([network(torch.tensor([one]))[0, -1] for one in told[1:]]))
    for seed in range(6):
        say([0, 1, 2], seed)
    say([2, 0], 20)
    told[1] += [4, 5, 6]
    check(batched.extend(1, [4, 5, 6])[None], [1])
    check(batched.rows(), [0, 1, 2])
    batched.keep([0, 2])
    del told[1]
    for seed in range(30, 36):
        say([0, 1], seed)
    assert batched.lengths == [len(one) for one in told]
    check(batched.rows(), [0, 1])


def test_the_target_answers_several_conversations_greedily() -> None:
    network, tokens = shipped("target")
    prompts = [tokens[:5], tokens, tokens[: len(tokens) // 2]]
    batched = Parallel(network, prompts, 80)
    rows, said = [batched.rows()], []
    for _ in range(DEPTH):
        said.append(rows[-1].argmax(-1))
        rows.append(batched.step(said[-1]))
    for place, prompt in enumerate(prompts):
        answer = [int(step[place]) for step in said]
        alone = one_by_one(network, prompt, answer)
        assert alone[:-1].argmax(-1).tolist() == answer
        assert_same(torch.stack(rows)[:, place], alone)


def measure(name: str, dtype: torch.dtype, known: int = 400, starts: int = 120) -> str:
    """Rows a second of continuations together and one by one, alternately; the best of five of each."""
    network = load_network(PROJECT / "models" / name, dtype)
    tokens = some_tokens(known, vocabulary=network.config.vocab_size).tolist()
    places = list(range(known - starts + 1, known + 1))
    alone = Decoder(network, known + DEPTH)
    alone.feed(tokens)
    passes, together, sequential = [], [], []
    for _ in range(5):
        began = time.perf_counter()
        batched = Continuations(network, tokens, places, DEPTH)
        passed = time.perf_counter()
        row = batched.known[batched.starts - 1]
        for _ in range(DEPTH):
            row = batched.step(row.argmax(-1))
        done = time.perf_counter()
        alone.rewind(places[0])
        for start in places:
            alone.rewind(start) if start <= alone.length else alone.feed(tokens[alone.length : start])
            single = batched.known[start - 1].numpy()
            for _ in range(DEPTH):
                single = alone.feed([int(single.argmax())])[0]
            alone.rewind(start)
        sequential.append(time.perf_counter() - done)
        passes.append(passed - began)
        together.append(done - passed)
    rows, best, slow = starts * DEPTH, min(together), min(sequential)
    return (
        f"{name} {dtype}: {rows / best:,.0f} rows/s together, {rows / slow:,.0f} one by one: {slow / best:.1f} times; "
        f"with the pass over {known} known tokens {slow / (best + min(passes)):.1f} times"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for network in ("draft-0.8m", "target"):
        for dtype in (torch.float32, torch.float64):
            print(measure(network, dtype))
