"""Draft heads of a tiny target against the formulas of their papers, and as functions of tokens and verified length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from hilsim.errors import HeadTooShort
from hilsim.networks.config import NetworkConfig
from hilsim.networks.decoder import Decoder
from hilsim.networks.draft_head import CLASSES, BlockHead, DraftHead, HeadConfig, MedusaHead, RunningHead
from hilsim.networks.head_decoder import HeadDecoder
from hilsim.networks.network import KVCache, Network, weights_of
from hilsim.text.pairs import NEVER
from hilsim.training.heads import in_blocks, in_one, run_on
from tests.networks.test_decoder import BASE, randomised

CONFIGS = {
    "eagle": HeadConfig("eagle", (1,)),
    "eagle3": HeadConfig("eagle3", (0, 1), intermediate_size=24, entries=20),
    "mtp": HeadConfig("mtp", (1,)),
    "medusa": HeadConfig("medusa", (1,), layers=0, positions=3),
    "block": HeadConfig("block", (0, 1), layers=2, positions=4),
    "trimmed eagle": HeadConfig("eagle", (1,), entries=20),
    "trimmed block": HeadConfig("block", (1,), entries=20, positions=3),
    "quantised cache": HeadConfig("eagle", (1,), cache="int8"),
}
RUNNING = ("eagle", "eagle3", "mtp")
TOKENS = np.random.default_rng(3).integers(0, BASE.vocab_size, 30).tolist()


def target_of(config: NetworkConfig = BASE) -> Network:
    return randomised(config)


def head_of(config: HeadConfig, target: Network) -> DraftHead:
    """A random head; a trimmed one proposes every other id."""
    head = CLASSES[config.kind](config, target).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for parameter in head.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    if config.entries is not None:
        head.tokens.copy_(torch.arange(config.entries) * 2 + 1)
    return head


def read_by(target: Network, read: Sequence[int], tokens: Sequence[int] = TOKENS) -> Decoder:
    decoder = Decoder(weights_of(target), 40, read)
    decoder.feed(tokens)
    return decoder


def own_entries(head: DraftHead, row: np.ndarray) -> np.ndarray:
    return row[head.tokens.numpy()]


@pytest.mark.parametrize("read", [(1,), (0, 1)])
def test_both_ways_of_decoding_keep_the_same_states(read: tuple[int, ...]) -> None:
    target = target_of()
    in_one_pass, by_rows = read_by(target, read), Decoder(weights_of(target), 40, read)
    for token in TOKENS:
        by_rows.feed([token])
    np.testing.assert_allclose(by_rows.cache.states, in_one_pass.cache.states, rtol=0, atol=1e-9)
    last = torch.from_numpy(in_one_pass.cache.states[0, : len(TOKENS), in_one_pass.cache.read[1]])
    logits = target.head(torch.nn.functional.rms_norm(last, (32,), target.norm, BASE.rms_eps))
    torch.testing.assert_close(logits, target(torch.tensor([TOKENS]))[0], rtol=0, atol=1e-9)


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + BASE.rms_eps).sqrt() * weight


def by_hand(head: RunningHead, states: Tensor, tokens: Sequence[int], verified: int) -> Tensor:
    """The last row of a running head, from passes without any cache: each over all that it has read so far."""
    outputs: list[Tensor] = []
    weight, nothing = head.target.embedding.weight, torch.zeros(1, 32, dtype=torch.float64)
    kind, own = head.config.kind, dict(head.named_parameters())
    fused = states @ own["fuse.weight"].T if kind == "eagle3" else states
    fused = normed(fused, head.target.norm) if kind == "eagle" else fused
    for length in range(verified, len(tokens) + 1):
        before = torch.cat((nothing, fused[: verified - 1], *outputs))
        embedded = weight[torch.tensor(tokens[:length])]
        if kind != "eagle":
            embedded, before = normed(embedded, own["token_norm"]), normed(before, own["state_norm"])
        x = torch.cat((embedded, before), -1) @ head.join.weight.T
        cos, sin = (table[:length] for table in head.target.rotary(length, 40))
        x = head.block(x, cos, sin, None)[-1:]
        outputs.append(normed(x, own["norm"]) if kind == "eagle" else x)
    last = outputs[-1][0]
    if kind == "eagle3":
        return own["head.weight"] @ normed(last, own["norm"])
    last = normed(last, head.target.norm) if kind == "mtp" else last
    return (head.target.head.weight @ last)[head.tokens]


@pytest.mark.parametrize("name", [*RUNNING, "trimmed eagle"])
@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_running_head_reads_the_targets_states_and_then_its_own_outputs(name: str, ahead: int) -> None:
    target, verified = target_of(), 12
    head = head_of(CONFIGS[name], target)
    assert isinstance(head, RunningHead)
    decoder = read_by(target, head.config.read)
    row = HeadDecoder(head, 40).row(TOKENS[: verified + ahead], verified, decoder)
    wanted = by_hand(head, torch.from_numpy(decoder.cache.states[0]), TOKENS[: verified + ahead], verified)
    np.testing.assert_allclose(own_entries(head, row), wanted.numpy(), atol=1e-9)


@pytest.mark.parametrize("ahead", range(3))
def test_medusas_head_j_reads_the_last_state_that_there_is(ahead: int) -> None:
    """x + SiLU(W_j x) before the target's own head (2401.10774, section 2.1.1)."""
    target, verified = target_of(), 12
    head = head_of(CONFIGS["medusa"], target)
    assert isinstance(head, MedusaHead)
    decoder = read_by(target, head.config.read)
    row = HeadDecoder(head, 40).row(TOKENS[: verified + ahead], verified, decoder)
    x = normed(torch.from_numpy(decoder.cache.states[0, verified - 2]), target.norm)
    y = dict(head.named_parameters())[f"blocks.{ahead}.weight"] @ x
    np.testing.assert_allclose(row, (target.head.weight @ (x + y / (1 + (-y).exp()))).numpy(), atol=1e-9)
    other = [*TOKENS[:verified], *[1] * ahead]  # what was drafted meanwhile is not read
    np.testing.assert_array_equal(HeadDecoder(head, 40).row(other, verified, decoder), row)


def test_a_block_attends_to_the_targets_states_and_to_what_is_before_it_in_the_block() -> None:
    """One layer, by hand: softmax over keys of the states before the block, and of the block's own rows up to each."""
    target, verified, size = target_of(), 6, 3
    head = head_of(HeadConfig("block", (1,), positions=size), target)
    assert isinstance(head, BlockHead)
    decoder = read_by(target, (1,))
    (block,) = head.layers
    attention, half = block.attention, BASE.head_dim // 2
    cos, sin = (table[:, 0] for table in target.rotary(20, 40))

    def turned(x: Tensor, place: int) -> Tensor:
        return x * cos[place] + torch.cat((x[..., half:], x[..., :half]), -1) * sin[place]

    def projected(x: Tensor, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries by head, keys and values by key head."""
        rows = (attention.qkv.weight @ normed(x, block.attention_norm)).view(-1, BASE.head_dim)
        return turned(rows[:4], place), turned(rows[4:6], place), rows[6:]

    states = torch.from_numpy(decoder.cache.states[0, : verified - 1])
    features = normed(states @ head.fuse.weight.T, head.state_norm)
    held = [projected(row, place)[1:] for place, row in enumerate(features)]
    inputs = [target.embedding.weight[TOKENS[verified - 1]], *[head.mask[0]] * (size - 1)]
    for ahead, x in enumerate(inputs):
        q, *own = projected(x, verified - 1 + ahead)
        held.append((own[0], own[1]))
        mixed = []
        for number, query in enumerate(q):
            keys, values = (torch.stack([one[side][number // 2] for one in held]) for side in (0, 1))
            mixed.append((keys @ query / BASE.head_dim**0.5).softmax(0) @ values)
        x = block.feed_forward(x + attention.output.weight @ torch.cat(mixed))
        wanted = target.head.weight @ normed(x, head.norm)
        row = HeadDecoder(head, 40).row(TOKENS[: verified + ahead], verified, decoder)
        np.testing.assert_allclose(row, wanted.numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ["block", "trimmed block"])
def test_a_blocks_row_does_not_depend_on_later_rows(name: str) -> None:
    target, config = target_of(), CONFIGS[name]
    whole = head_of(config, target)
    decoder = read_by(target, config.read)
    short = CLASSES["block"](HeadConfig(**{**vars(config), "positions": 2}), target).double()
    short.load_state_dict(whole.state_dict())
    for ahead in range(2):
        rows = [HeadDecoder(one, 40).row(TOKENS[: 9 + ahead], 9, decoder) for one in (whole, short)]
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_head_proposes_depends_on_tokens_and_verified_length_alone(name: str) -> None:
    """Asked in any order, over caches that hold other branches, it says what a head without a past says."""
    target = target_of()
    head = head_of(CONFIGS[name], target)
    draws = np.random.default_rng(5)
    asked, decoder = HeadDecoder(head, 40), Decoder(weights_of(target), 40, head.config.read)
    conversation = list(TOKENS)
    for _ in range(60):
        branch = draws.integers(1, len(conversation))
        conversation[branch:] = draws.integers(0, BASE.vocab_size, len(conversation) - branch).tolist()
        verified = int(draws.integers(1, 20))
        tokens = conversation[: verified + int(draws.integers(0, 3))]
        decoder.rewind(0)
        if verified > 1:
            decoder.feed(tokens[: verified - 1])
        row = asked.row(tokens, verified, decoder)
        fresh = HeadDecoder(head, 40).row(tokens, verified, decoder)
        np.testing.assert_allclose(row, fresh, atol=1e-9)
    # The control: another length of what is verified is another row.
    other = asked.row(
        tokens, verified + 1 if verified < len(tokens) else verified - 1, read_by(target, head.config.read, tokens)
    )
    assert not np.allclose(other, row, atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_heads_learn_from_the_rows_that_they_are_asked_for_later(name: str) -> None:
    """The rows of training, many starts at once, are those of decoding."""
    target = target_of()
    head = head_of(CONFIGS[name], target)
    decoder, last = read_by(target, head.config.read), torch.tensor([3, 11, 17])
    states, tokens = torch.from_numpy(decoder.cache.states[:, : len(TOKENS)]), torch.tensor([TOKENS])
    if isinstance(head, RunningHead):
        proposed = run_on(head, states, tokens, last)
    elif isinstance(head, MedusaHead):
        proposed = in_one(head, states, last)
    else:
        assert isinstance(head, BlockHead)
        proposed = in_blocks(head, states, tokens, last)
    asked = HeadDecoder(head, 40)
    for ahead, (rows, at) in enumerate(proposed):
        for one in last.tolist():
            row = asked.row(TOKENS[: one + ahead + 1], one + 1, decoder)
            np.testing.assert_allclose(own_entries(head, row), rows[0, at.tolist().index(one + ahead)], atol=1e-9)


def test_what_a_trimmed_head_lacks_has_no_mass() -> None:
    target = target_of()
    head = head_of(CONFIGS["eagle3"], target)
    row = HeadDecoder(head, 40).row(TOKENS[:9], 9, read_by(target, head.config.read))
    kept = head.tokens.tolist()
    assert (np.delete(row, kept) == NEVER).all()
    assert (row[kept] > NEVER).all()
    assert len(row) == BASE.vocab_size


@pytest.mark.parametrize("name", CONFIGS)
def test_the_verdict_finds_the_very_rows_that_were_drafted_from(name: str) -> None:
    """What is made of a row is known by the array, so it is not made again."""
    target = target_of()
    head = head_of(CONFIGS[name], target)
    decoder, asked = read_by(target, head.config.read), HeadDecoder(head, 40)
    rows = [asked.row(TOKENS[: 9 + ahead], 9, decoder) for ahead in range(3)]
    assert all(asked.row(TOKENS[: 9 + ahead], 9, decoder) is row for ahead, row in enumerate(rows))
    assert asked.row(TOKENS[:9], 8, decoder) is not rows[0]


@pytest.mark.parametrize("name", ["medusa", "block"])
def test_a_head_of_few_positions_says_so(name: str) -> None:
    target = target_of()
    head = head_of(CONFIGS[name], target)
    most = head.config.positions or 0
    with pytest.raises(HeadTooShort, match=f"a {name} head of {most} positions, asked for token {most + 1}"):
        HeadDecoder(head, 40).row(TOKENS[: 9 + most], 9, read_by(target, head.config.read))


def test_a_block_ends_with_the_context() -> None:
    target = target_of()
    head = head_of(CONFIGS["block"], target)
    decoder = read_by(target, head.config.read)
    rows = [HeadDecoder(head, room).row(TOKENS[:9], 9, decoder) for room in (10, 40)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-12)


def test_a_cache_without_readers_keeps_no_states() -> None:
    assert KVCache(BASE, 8).states.numel() == 0
