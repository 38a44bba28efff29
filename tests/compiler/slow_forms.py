"""Ways to write the same products of attention: heads repeated by every operator that can, and forms without."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS, KV, WIDTH = 4, 2, 8
Form = Callable[["Product", Tensor, Tensor], Tensor]


class Product(nn.Module):
    """A function of queries (batch, HEADS, rows, WIDTH) and keys (batch, KV, positions, WIDTH)."""

    def __init__(self, function: Form):
        super().__init__()
        self.function = function
        self.register_buffer("in_turn", torch.tensor([0, 0, 1, 1]))
        self.register_buffer("over_again", torch.tensor([0, 1, 0, 1]))
        self.register_buffer("selects", torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return self.function(self, q, k)


def inputs(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Small whole numbers, whose products and sums are exact in float32."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((batch, HEADS, 3, WIDTH), (batch, KV, 5, WIDTH))
    q, k = (torch.randint(-4, 5, shape, generator=generator).float() for shape in shapes)
    return q, k


def repeat_kv(k: Tensor) -> Tensor:
    """As transformers writes it."""
    batch, heads, length, width = k.shape
    return k[:, :, None].expand(batch, heads, HEADS // KV, length, width).reshape(batch, HEADS, length, width)


def rotated(x: Tensor) -> Tensor:
    return x * 2 + torch.cat((-x[..., 4:], x[..., :4]), -1) * 3


def scores(repeat: Callable[[Product, Tensor], Tensor]) -> Form:
    return lambda self, q, k: q @ repeat(self, k).transpose(2, 3)


REPEATED: dict[str, Form] = {
    "repeat_kv": scores(lambda self, k: repeat_kv(k)),
    "keys first": lambda self, q, k: repeat_kv(k) @ q.transpose(2, 3),
    "broadcast_to": scores(lambda self, k: torch.broadcast_to(k[:, :, None], (len(k), 2, 2, 5, 8)).flatten(1, 2)),
    "repeat_interleave": scores(lambda self, k: k.repeat_interleave(2, 1)),
    "by a tensor of counts": scores(lambda self, k: k.repeat_interleave(torch.tensor([2, 2]), 1, output_size=4)),
    "unsqueeze, repeat, view": scores(lambda self, k: k.unsqueeze(2).repeat(1, 1, 2, 1, 1).view(len(k), 4, -1, 8)),
    "tile": scores(lambda self, k: k.repeat(1, 2, 1, 1)),
    "cat with itself": scores(lambda self, k: torch.cat((k, k), 1)),
    "index": scores(lambda self, k: k[:, self.in_turn]),
    "index_select, over again": scores(lambda self, k: k.index_select(1, self.over_again)),
    "stacked heads": scores(lambda self, k: torch.stack([k[:, head // 2] for head in range(4)], 1)),
    "stacked twice": scores(lambda self, k: torch.stack((k, k), 2).flatten(1, 2)),
    "each head expanded": scores(lambda self, k: torch.cat([h.expand(-1, 2, -1, -1) for h in k.split(1, 1)], 1)),
    "multiplied by ones": scores(lambda self, k: (k[:, :, None] * torch.ones(1, 1, 2, 1, 1)).flatten(1, 2)),
    "einsum with ones": scores(lambda self, k: torch.einsum("bhld,n->bhnld", k, torch.ones(2)).flatten(1, 2)),
    "einsum with ones, over again": scores(
        lambda self, k: torch.einsum("n,bhld->bnhld", torch.ones(2), k).flatten(1, 2)
    ),
    "a matrix that selects": scores(lambda self, k: torch.einsum("bhld,gh->bgld", k, self.selects)),
    "a matrix that selects, heads last": scores(
        lambda self, k: torch.einsum("hg,bhld->bldg", self.selects.t(), k).permute(0, 3, 1, 2)
    ),
    "repeated before rotation": scores(lambda self, k: rotated(k.repeat_interleave(2, 1))),
    "cache and new rows repeated": scores(lambda self, k: torch.cat((repeat_kv(k), repeat_kv(k * 2)), 2)),
    "stretched by hand before a bmm": lambda self, q, k: torch.bmm(
        q.flatten(0, 1), k[:, :, None].expand(-1, -1, 2, -1, -1).flatten(0, 2).transpose(1, 2)
    ),
    "stretched by hand before a product of five axes": lambda self, q, k: (
        q.view(len(q), 2, 2, 3, 8) @ k[:, :, None].expand(-1, -1, 2, -1, -1).transpose(-1, -2)
    ),
    "one batch for all, repeated": lambda self, q, k: q @ repeat_kv(k[:1]).transpose(2, 3),
    "einsum": lambda self, q, k: torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(2, 1)),
    "einsum, rows before heads": lambda self, q, k: torch.einsum(
        "bhqd,bkhd->bqhk", q, k.transpose(1, 2).repeat_interleave(2, 2)
    ),
    "einsum, over again": lambda self, q, k: torch.einsum("bhqd,bhkd->bhqk", q, k.repeat(1, 2, 1, 1)),
    "one key head": lambda self, q, k: q @ k[:, :1].expand(-1, 4, -1, -1).transpose(2, 3),
}  # fmt: skip
ATTENTIONS: dict[str, Form] = {
    "eager": lambda self, q, k: torch.softmax(q @ repeat_kv(k).transpose(2, 3), -1) @ repeat_kv(k * 2),
    "sdpa": lambda self, q, k: F.scaled_dot_product_attention(q, repeat_kv(k), repeat_kv(k * 2)),
    "sdpa, over again": lambda self, q, k: F.scaled_dot_product_attention(
        q, k.repeat(1, 2, 1, 1), k.repeat(1, 2, 1, 1)
    ),
    "sdpa with a mask": lambda self, q, k: F.scaled_dot_product_attention(
        q, repeat_kv(k), repeat_kv(k), attn_mask=torch.ones(3, k.shape[2]).tril().bool()
    ),
}
GROUPED: dict[str, Form] = {
    "enable_gqa": lambda self, q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
    "groups as rows": lambda self, q, k: q.reshape(len(q), 2, 6, 8) @ k.transpose(2, 3),
    "einsum of groups": lambda self, q, k: torch.einsum("bhgqd,bhkd->bhgqk", q.reshape(len(q), 2, 2, 3, 8), k),
    "broadcast product": lambda self, q, k: q.view(len(q), 2, 2, 3, 8) @ k[:, :, None].transpose(-1, -2),
    "broadcast product, keys first": lambda self, q, k: k[:, :, None] @ q.view(len(q), 2, 2, 3, 8).transpose(-1, -2),
    "one key head for all": lambda self, q, k: q @ k[:, :1].transpose(2, 3),
    "a matrix that mixes": scores(lambda self, k: torch.einsum("bhld,gh->bgld", k, self.selects + 0.5)),
    "a matrix that weights": scores(lambda self, k: torch.einsum("bhld,gh->bgld", k, self.selects * 2)),
    "einsum with other numbers than ones": scores(
        lambda self, k: torch.einsum("bhld,n->bhnld", k, torch.tensor([1.0, 2.0])).flatten(1, 2)
    ),
    "as many key heads": lambda self, q, k: (
        q[:, :2] @ k[:, :, None].expand(-1, 2, 1, -1, 8).reshape(k.shape).transpose(2, 3)
    ),
    "a mask expanded": lambda self, q, k: torch.softmax(
        q[:, :2] @ k.transpose(2, 3) + torch.zeros(3, k.shape[2]).expand(len(q), 2, -1, -1), -1
    ),
}
