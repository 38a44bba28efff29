"""Training of draft heads: what they are held to, and that a few steps of it already help."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilsim.networks.draft_head import HeadKind
from hilsim.networks.network import Network
from hilsim.training.fitting import Schedule
from hilsim.training.heads import DECAY, HEADS, divergence, head_for, head_losses, loss_of, trained_heads
from tests.networks.test_decoder import BASE, randomised

ROWS = 24


def target_of_six_layers() -> Network:
    return randomised(replace(BASE, layers=6)).float()


def texts(count: int, length: int) -> list[np.ndarray]:
    draws = np.random.default_rng(1)
    return [draws.integers(0, BASE.vocab_size, length) for _ in range(count)]


def test_the_divergence_is_kullbacks_and_leiblers() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    wanted = torch.tensor(np.log(p))[None, None].float()
    found = divergence(torch.tensor(np.log(q))[None, None].float() + 3, wanted).item()  # logits, up to a constant
    assert found == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert divergence(wanted, wanted).item() == pytest.approx(0, abs=1e-6)


def test_later_tokens_weigh_less() -> None:
    """Two drafted tokens: KL 0 and KL log 2 give log 2 x DECAY / (1 + DECAY)."""
    wanted = torch.tensor([[[0.0, -1e9], [0.0, -1e9]]])
    right, even = torch.tensor([[[0.0, -1e9]]]), torch.zeros(1, 1, 2)
    found = loss_of(iter([(right, torch.tensor([0])), (even, torch.tensor([1]))]), wanted)
    assert found.item() == pytest.approx(math.log(2) * DECAY / (1 + DECAY))


def test_a_trimmed_head_proposes_what_is_most_frequent() -> None:
    text = [np.array([7] * 5 + [3] * 4 + [9] * 3 + [1] * 2 + [40])]
    head = head_for(replace(HEADS["eagle3"], entries=3), target_of_six_layers(), text, 1)
    assert head.tokens.tolist() == [3, 7, 9]


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_held_to_the_target_alone(kind: HeadKind) -> None:
    """Its gradients reach every parameter of its own; the target has none."""
    target, tokens = target_of_six_layers(), torch.from_numpy(np.stack(texts(2, ROWS)))
    config = replace(HEADS[kind], entries=HEADS[kind].entries and 20)
    head = head_for(config, target, texts(1, 200), 1)
    (loss,) = head_losses([head], target, tokens, torch.Generator().manual_seed(1))
    assert loss.item() > 0
    own = dict(head.named_parameters())
    for name, gradient in zip(own, torch.autograd.grad(loss, [*own.values()]), strict=True):
        assert gradient.abs().max() > 0, name
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_a_few_steps_bring_every_head_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "eagle3", replace(HEADS["eagle3"], entries=20))
    target, text = target_of_six_layers(), texts(40, ROWS + 1)
    untrained = [head_for(config, target, text, 1 + index) for index, config in enumerate(HEADS.values())]
    schedule = Schedule(epochs=3, row_tokens=ROWS, batch_rows=4, peak_rate=3e-3, warmup_steps=5)
    heads = trained_heads(target, text, text[:2], schedule, False, 1, tmp_path, lambda words: None)
    tokens = torch.from_numpy(np.stack([row[:ROWS] for row in text[:8]]))
    with torch.no_grad():
        before, after = (
            head_losses(some, target, tokens, torch.Generator().manual_seed(2)) for some in (untrained, heads)
        )
    for kind, was, now in zip(HEADS, before, after, strict=True):
        assert now < was, kind
