"""How draft heads learn: losses against the target's distributions, over their own output as in a round of drafting.

All heads learn side by side from one pass of the target: forward KL at every drafted position, each weighing `DECAY` of
the one before it, as a token is of use only where those before it are accepted (EAGLE-3's training-time test; DFlash).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hilsim.describe.drafting import HeadKind
from hilsim.networks.draft_head import CLASSES, BlockHead, DraftHead, HeadConfig, MedusaHead, RunningHead
from hilsim.networks.layout import RowLayout
from hilsim.networks.network import KVCache, Network
from hilsim.progress import Notify
from hilsim.training.corpus import Tokens
from hilsim.training.fitting import Schedule, fit, initialise

Proposed = Iterator[tuple[Tensor, Tensor]]  # logits (batch, some, entries), and after which positions they are

DECAY = 0.8
DEPTH = 4  # tokens that a running head is trained to draft from one state of the target
SPARSE = 4  # of so many positions drafting begins after one
LAST, FUSED = (5,), (1, 3, 5)  # of the stand-in target's six layers
# About one layer of the target's width each; trimmed to half of the vocabulary where the original is trimmed.
FOLDER = "heads"
HEADS: dict[HeadKind, HeadConfig] = {
    "eagle": HeadConfig("eagle", LAST, intermediate_size=384),
    "eagle3": HeadConfig("eagle3", FUSED, intermediate_size=384, entries=1024),
    "mtp": HeadConfig("mtp", LAST, intermediate_size=384),
    "medusa": HeadConfig("medusa", LAST, layers=0, positions=5),
    "block": HeadConfig("block", FUSED, layers=2, intermediate_size=384, positions=8),
}


def trained_heads(
    target: Network,
    text: list[Tokens],
    valid: list[Tokens],
    schedule: Schedule,
    bfloat16: bool,
    seed: int,
    work: Path,
    notify: Notify,
) -> list[DraftHead]:
    """Heads of all kinds for a target, trained side by side on the same text."""
    heads = [head_for(config, target, text, seed + index) for index, config in enumerate(HEADS.values())]
    for head in heads:
        notify(f"{head.config.kind} head: {head.parameter_count:,} parameters")
    draws, checks = (torch.Generator().manual_seed(seed + number) for number in range(2))

    def losses(batch: Tensor) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return head_losses(heads, target, batch[:, :-1], draws)

    @torch.no_grad()
    def validate() -> list[float]:
        most = target.config.max_positions
        found = [head_losses(heads, target, torch.from_numpy(tokens[:most])[None], checks) for tokens in valid]
        means: list[float] = torch.tensor(found).mean(0).tolist()
        return means

    fit(FOLDER, heads, losses, text, schedule, seed=seed, work=work, validate=validate)
    return heads


def head_for(config: HeadConfig, target: Network, text: list[Tokens], seed: int) -> DraftHead:
    """An untrained head; a trimmed one proposes the tokens that are most frequent in `text` (FR-Spec)."""
    head = CLASSES[config.kind](config, target)
    initialise(head, seed)
    if config.entries is not None:
        counts = np.bincount(np.concatenate(text), minlength=target.config.vocab_size)
        head.tokens.copy_(torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[: config.entries])))
    return head


def head_losses(heads: Sequence[DraftHead], target: Network, tokens: Tensor, draws: torch.Generator) -> list[Tensor]:
    """One loss a head on rows of text, `tokens` (batch, rows)."""
    batch, rows = tokens.shape
    cache = KVCache(target.config, rows, batch, read=sorted({layer for head in heads for layer in head.config.read}))
    with torch.no_grad():
        logits = target(tokens, cache).float()
        everything = logits.log_softmax(-1)
    losses = []
    for head in heads:
        states = torch.cat([cache.states[..., cache.read[layer]] for layer in head.config.read], -1)
        wanted = everything if head.config.entries is None else logits[..., head.tokens].log_softmax(-1)
        losses.append(loss_of(drafted(head, states, tokens, draws), wanted))
    return losses


def loss_of(proposed: Proposed, wanted: Tensor) -> Tensor:
    """The weighted mean of what was drafted first, second, ... against `wanted` (batch, rows, entries)."""
    losses = [divergence(own, wanted[:, at]) for own, at in proposed]
    weights = [DECAY**step for step in range(len(losses))]
    return torch.stack([loss * weight for loss, weight in zip(losses, weights, strict=True)]).sum() / sum(weights)


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Forward KL, nats a token, from the target's log-probabilities, both (..., tokens, entries).

    At temperature 1 it bounds total variation (Pinsker), and 1 - TV is the acceptance rate.
    """
    own = logits.float().flatten(0, -2).log_softmax(-1)
    return F.kl_div(own, wanted.flatten(0, -2), reduction="batchmean", log_target=True)


def drafted(head: DraftHead, states: Tensor, tokens: Tensor, draws: torch.Generator) -> Proposed:
    """What a head proposes first, second, ... where random positions of rows of text are the last verified."""
    size = head.config.positions or DEPTH
    free = torch.randperm(tokens.shape[1] - size - 1, generator=draws) + 1
    last = free[: max(1, len(free) // SPARSE)].sort().values
    if isinstance(head, RunningHead):
        return run_on(head, states, tokens, last)
    if isinstance(head, MedusaHead):
        return in_one(head, states, last)
    assert isinstance(head, BlockHead)
    return in_blocks(head, states, tokens, last[:: max(1, size // DEPTH)])


def run_on(head: RunningHead, states: Tensor, tokens: Tensor, last: Tensor) -> Proposed:
    """One pass over the states of the target, then step by step over its own output; a step sees those of its start."""
    batch, rows = tokens.shape
    cos, sin = head.target.rotary(rows, rows)
    config = head.network_config
    before = F.pad(head.fused(states.flatten(0, 1)).view(batch, rows, -1), (0, 0, 1, 0))[:, :-1]
    keys = values = before.new_zeros(batch, config.kv_heads, 0, config.head_dim)
    at, known = torch.arange(rows), torch.arange(0)
    visible = at[None, :] <= at[:, None]
    for step in range(DEPTH):
        keys, values = (F.pad(held, (0, 0, 0, len(at))) for held in (keys, values))
        known = torch.cat((known, at))
        layout = RowLayout(at.numpy(), known.numpy(), visible.numpy())
        own = head(before.flatten(0, 1), tokens[:, at].flatten(), cos[at], sin[at], (keys, values), layout)
        yield head.logits(own).view(batch, len(at), -1), at
        own = own.view(batch, len(at), -1)
        before = own[:, last] if step == 0 else own
        earlier = visible[last] if step == 0 else visible
        at, visible = last + step + 1, torch.cat((earlier, torch.eye(len(last), dtype=torch.bool)), 1)


def in_one(head: MedusaHead, states: Tensor, last: Tensor) -> Proposed:
    """All heads over the state before each last token."""
    own = head(states[:, last - 1].flatten(0, 1)).unflatten(0, (len(states), len(last)))
    for ahead in range(own.shape[2]):
        yield own[:, :, ahead], last + ahead


def in_blocks(head: BlockHead, states: Tensor, tokens: Tensor, last: Tensor) -> Proposed:
    """Blocks that begin at each last token and see the states before it, and themselves."""
    rows, size = tokens.shape[1], head.config.positions or 1
    at = (last[:, None] + torch.arange(size)).flatten()
    cos, sin = head.target.rotary(rows, rows)
    own = torch.arange(len(at))
    context = torch.arange(rows)[None, :] < last.repeat_interleave(size)[:, None]
    same = (own[None, :] // size == own[:, None] // size) & (own[None, :] <= own[:, None])
    keys = torch.cat((torch.arange(rows), at))
    layout = RowLayout(at.numpy(), keys.numpy(), torch.cat((context, same), 1).numpy())
    cached = [
        (F.pad(keys, (0, 0, 0, len(at))), F.pad(values, (0, 0, 0, len(at))))
        for keys, values in head.context(states.flatten(0, 1), cos[:rows], sin[:rows])
    ]
    logits = head(tokens[:, last].flatten(), size, cos[at], sin[at], cached, layout)
    logits = logits.unflatten(0, (len(tokens), len(last), size))
    for ahead in range(size):
        yield logits[:, :, ahead], last + ahead
