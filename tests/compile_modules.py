"""Modules that the tests name as `tests.compile_modules:FACTORY`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

Made = tuple[nn.Module, tuple[Any, ...]]


class Causal(nn.Module):
    """Any length; a position sees itself and what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(50, 16), nn.Linear(16, 16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        mask = torch.full((x.shape[1], x.shape[1]), -1e4).triu(1)
        answer: Tensor = self.out(torch.softmax(x @ x.transpose(1, 2) + mask, -1) @ x)
        return answer


class Mean(nn.Module):
    """Any length; padding would count."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Siamese(nn.Module):
    """12 parameters, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(5, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (torch.tanh(self.encoder(a)) * torch.tanh(self.encoder(b))).sum(-1)


class Draws(nn.Module):
    """A product, a multinomial that no compiler has, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Embedding(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        drawn: Tensor = self.last(torch.multinomial(torch.softmax(self.first(x), -1), 1))
        return drawn


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # depends on the data
            return x
        return -x


def causal() -> tuple[nn.Module, tuple[Any, ...], Any]:
    return Causal(), (torch.arange(20).reshape(1, 20),), ({1: Dim("length", min=2, max=64)},)


def mean() -> tuple[nn.Module, tuple[Any, ...], Any]:
    return Mean(), (torch.randn(1, 20, 4),), ({1: Dim("length", min=2, max=64)},)


def siamese() -> Made:
    return Siamese(), (torch.randn(1, 5), torch.randn(1, 5))


def draws() -> Made:
    return Draws(), (torch.randn(3, 8),)


def branches() -> Made:
    return Branches(), (torch.randn(2, 3),)


def raises() -> Made:
    raise OSError("no weights here")


def rubbish() -> str:
    return "a module, honestly"


class TwoCuts(nn.Module):
    """Two cuts by a mask: one may become an additive mask, as a softmax hides what differs; the other may not."""

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.softmax(torch.where(mask, x, torch.full_like(x, -torch.inf)), -1)
        return hidden + torch.softmax(torch.where(mask, y, torch.zeros_like(y)), -1)


class TwoSums(nn.Module):
    """One equation over the same shapes, the operands in another order."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("ij,jk,kl->il", a, b, b) + torch.einsum("ij,jk,kl->il", a, b, a)


class Tied(nn.Module):
    """40 parameters under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        answer: Tensor = self.head(self.table(ids))
        return answer


def two_cuts() -> Made:
    return TwoCuts(), (torch.randn(4, 6), torch.randn(4, 6), torch.rand(4, 6) < 0.5)


def two_sums() -> Made:
    return TwoSums(), (torch.randn(3, 3), torch.randn(3, 3))


def tied() -> Made:
    return Tied(), (torch.arange(3),)
