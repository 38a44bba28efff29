"""What a deployed decoder's graph ends in: the logits, the best token, the k best, or a token sampled from them.

Sampling inside the graph saves sending a row of logits to the host; whether a compiler takes it is another matter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hilsim.describe.head import Head


class ArgMax(nn.Module):
    """The likeliest token of each row."""

    def forward(self, logits: Tensor) -> Tensor:
        """`logits` (rows, vocabulary) to token ids (rows,)."""
        return logits.argmax(-1)


class TopK(nn.Module):
    """The k likeliest tokens of each row, likeliest first."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """`logits` (rows, vocabulary) to their values and token ids, both (rows, k)."""
        values, ids = torch.topk(logits, self.k, -1)
        return values, ids


class TopKSampling(nn.Module):
    """One token of each row, drawn from the k likeliest by a uniform number that comes in from outside."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor, uniform: Tensor, sharpness: Tensor) -> Tensor:
        """`logits` (rows, vocabulary), `uniform` (rows, 1) in [0, 1), `sharpness` (1,) the inverse temperature.

        Token ids (rows,): the first of the k, likeliest first, at which the cumulated probability exceeds `uniform`.
        A large `sharpness` leaves the likeliest alone, which is greedy decoding.
        """
        values, ids = torch.topk(logits, self.k, -1)
        scaled = (values - values[:, :1]) * sharpness
        cumulated = torch.cumsum(torch.softmax(scaled, -1), -1)
        place = (cumulated[:, :-1] <= uniform).to(torch.int64).sum(-1, keepdim=True)
        return ids.gather(-1, place).squeeze(-1)


def head_of(head: Head) -> nn.Module | None:
    """The module of a described head; None where the graph ends in logits."""
    if head.name == "argmax":
        return ArgMax()
    if head.name == "top_k":
        return TopK(head.k)
    if head.name == "top_k_sampling":
        return TopKSampling(head.k)
    return None
