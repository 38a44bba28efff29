"""Draft heads: small networks that propose tokens from a target's hidden states, one class a kind.

The row after the tokens x_0 ... x_(n-1), of which the first V are verified, may read the target's hidden states h_i
of the positions i <= V - 2 alone: a verdict ends in a token that the target has chosen and not read. h_i are the
outputs of the layers in `HeadConfig.read`, side by side, before any norm: (rows, len(read) x hidden).

- eagle (Li et al. 2401.15077), eagle3 (Li et al. 2503.01840), mtp (DeepSeek-V3, 2412.19437, section 2.2): one layer
  reads the state before each token (zeros before the first) and the token's embedding; where there is no h_i, its own
  output stands in.
- medusa (Cai et al. 2401.10774): head j proposes the j-th token after V from h_(V-2), in one pass.
- block (DFlash, 2602.06036): the last verified token and mask tokens after it are read in one pass; every layer attends
  to keys and values that it makes of the target's states. Here a row sees no later one of its block, so that the
  proposals do not depend on how many are asked for.

A trimmed head has logits of its `entries` alone, the most frequent tokens (FR-Spec, Zhao et al. 2502.14856).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.describe.drafting import HeadKind
from hilsim.networks.config import NetworkConfig
from hilsim.networks.layout import RowLayout
from hilsim.networks.network import Block, Linear, Network

Cached = tuple[Tensor, Tensor]  # keys and values of one layer, the last rows to be written


@dataclass(frozen=True)
class HeadConfig:
    """The shape of a head beside what it shares with its target: width, attention heads, embedding."""

    kind: HeadKind
    read: tuple[int, ...]  # the target's layers whose outputs it reads
    layers: int = 1
    intermediate_size: int = 0
    entries: int | None = None  # tokens that it proposes; None: the target's whole vocabulary
    cache: str | None = None  # number format of its own keys and values; None: that of the network itself
    positions: int | None = None  # tokens of a pass (medusa, block); None: one pass a token, as many as asked for


class DraftHead(nn.Module):
    """A head over one target, whose embedding, norm and output head it may use; these are no parameters of its own."""

    tokens: Tensor

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__()
        self.config, self.target_of = config, (target,)  # in a tuple: not a part of this module
        intermediate = config.intermediate_size or target.config.intermediate_size
        self.network_config: NetworkConfig = replace(
            target.config, layers=config.layers, intermediate_size=intermediate, windows=None, cache=config.cache
        )
        self.width = (target.config.hidden_size,)
        # The ids that its logits stand for; all of the target's in their order where it is not trimmed.
        self.register_buffer(
            "tokens", torch.arange(config.entries or target.config.vocab_size), persistent=bool(config.entries)
        )

    @property
    def target(self) -> Network:
        return self.target_of[0]

    def normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMS norm, with the target's epsilon."""
        return F.rms_norm(x, self.width, weight, self.network_config.rms_eps)

    def embedded(self, tokens: Tensor) -> Tensor:
        """The target's embeddings (rows, hidden) of tokens (rows,)."""
        return F.embedding(tokens, self.target.embedding.weight)

    def shared_logits(self, x: Tensor) -> Tensor:
        """The target's output head, of this head's entries alone."""
        weight = self.target.head.weight
        return F.linear(x, weight if self.config.entries is None else weight[self.tokens])

    @property
    def parameter_count(self) -> int:
        """Trainable numbers of its own."""
        return sum(parameter.numel() for parameter in self.parameters())


class RunningHead(DraftHead, ABC):
    """What eagle, eagle3 and mtp have in common: one layer that runs on over its own output."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        (hidden,) = self.width
        self.join = Linear(2 * hidden, hidden, bias=False)
        self.block = Block(self.network_config, None)

    @abstractmethod
    def fused(self, states: Tensor) -> Tensor:
        """What it reads of the target's states (rows, len(read) x hidden): (rows, hidden), as its own outputs are."""

    def joined(self, embedded: Tensor, states: Tensor) -> Tensor:
        """Both inputs side by side, (rows, 2 x hidden)."""
        return torch.cat((embedded, states), -1)

    def forward(
        self, states: Tensor, tokens: Tensor, cos: Tensor, sin: Tensor, cached: Cached, layout: RowLayout | None = None
    ) -> Tensor:
        """Its outputs (rows, hidden) after `tokens` (rows,); `states` (rows, hidden) are those before each token."""
        x: Tensor = self.block(self.join(self.joined(self.embedded(tokens), states)), cos, sin, cached, layout)
        return x

    @abstractmethod
    def logits(self, outputs: Tensor) -> Tensor:
        """Logits (rows, entries) after its outputs."""


class EagleHead(RunningHead):
    """Foretells the target's last state, normed, and leaves the logits to the target's own output head."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        self.norm = nn.Parameter(torch.ones(self.width))

    def fused(self, states: Tensor) -> Tensor:
        return self.normed(states, self.target.norm)

    def forward(
        self, states: Tensor, tokens: Tensor, cos: Tensor, sin: Tensor, cached: Cached, layout: RowLayout | None = None
    ) -> Tensor:
        return self.normed(super().forward(states, tokens, cos, sin, cached, layout), self.norm)

    def logits(self, outputs: Tensor) -> Tensor:
        return self.shared_logits(outputs)


class MtpHead(RunningHead):
    """Foretells the target's last state before its norm, of normed inputs; norm and output head are the target's."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        self.token_norm = nn.Parameter(torch.ones(self.width))
        self.state_norm = nn.Parameter(torch.ones(self.width))

    def fused(self, states: Tensor) -> Tensor:
        return states

    def joined(self, embedded: Tensor, states: Tensor) -> Tensor:
        return super().joined(self.normed(embedded, self.token_norm), self.normed(states, self.state_norm))

    def logits(self, outputs: Tensor) -> Tensor:
        return self.shared_logits(self.normed(outputs, self.target.norm))


class Eagle3Head(MtpHead):
    """Reads three layers of the target, fused, and has a norm and an output head of its own."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        (hidden,) = self.width
        self.fuse = Linear(len(config.read) * hidden, hidden, bias=False)
        self.norm = nn.Parameter(torch.ones(hidden))
        self.head = Linear(hidden, len(self.tokens), bias=False)

    def fused(self, states: Tensor) -> Tensor:
        fused: Tensor = self.fuse(states)
        return fused

    def logits(self, outputs: Tensor) -> Tensor:
        rows: Tensor = self.head(self.normed(outputs, self.norm))
        return rows


class MedusaHead(DraftHead):
    """`positions` residual blocks over one state, each before the target's own output head."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        (hidden,) = self.width
        self.blocks = nn.ModuleList(Linear(hidden, hidden, bias=False) for _ in range(config.positions or 1))

    def forward(self, states: Tensor) -> Tensor:
        """Logits (rows, positions, entries) of the tokens after the one that each state (rows, hidden) leads to."""
        x = self.normed(states, self.target.norm)
        return self.shared_logits(torch.stack([x + F.silu(block(x)) for block in self.blocks], -2))


class BlockHead(DraftHead):
    """A block of tokens in one pass: `layers` layers whose context is made of the target's states, fused."""

    def __init__(self, config: HeadConfig, target: Network):
        super().__init__(config, target)
        (hidden,) = self.width
        self.fuse = Linear(len(config.read) * hidden, hidden, bias=False)
        self.state_norm = nn.Parameter(torch.ones(hidden))
        self.mask = nn.Parameter(torch.zeros(1, hidden))  # the embedding of a token that is not known yet
        self.blocks = nn.ModuleList(Block(self.network_config, None) for _ in range(config.layers))
        self.norm = nn.Parameter(torch.ones(hidden))

    @property
    def layers(self) -> list[Block]:
        """Its layers, from the first."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def context(self, states: Tensor, cos: Tensor, sin: Tensor) -> Iterator[Cached]:
        """Keys and values of each layer, (batch, kv_heads, rows, head_dim), of the target's states."""
        features = self.normed(self.fuse(states), self.state_norm)
        for block in self.layers:
            _, keys, values = block.attention.project(self.normed(features, block.attention_norm), cos, sin)
            yield keys, values

    def forward(
        self,
        tokens: Tensor,
        size: int,
        cos: Tensor,
        sin: Tensor,
        cached: Sequence[Cached],
        layout: RowLayout | None = None,
    ) -> Tensor:
        """Logits (blocks x size, entries) of blocks that begin with `tokens` (blocks,), one after the other."""
        unknown = self.mask.expand(len(tokens), size - 1, -1)
        x = torch.cat((self.embedded(tokens)[:, None], unknown), 1).flatten(0, 1)
        for block, held in zip(self.layers, cached, strict=True):
            x = block(x, cos, sin, held, layout)
        return self.shared_logits(self.normed(x, self.norm))


CLASSES: dict[HeadKind, type[DraftHead]] = {
    "eagle": EagleHead,
    "eagle3": Eagle3Head,
    "mtp": MtpHead,
    "medusa": MedusaHead,
    "block": BlockHead,
}
