"""Small modules, each with one thing that a compiler may refuse; the text after `# at` names a line for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


class Picker(nn.Module):
    """Its finding has a module path: `head.picker`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Module()
        self.head.picker = Best()

    def forward(self, x: Tensor) -> Any:
        return self.head.picker(x * 2)


class Best(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.topk(x, 3)  # at best three


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))  # at encoder


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.encoder(x) * self.encoder(y)


class NestedSiamese(nn.Module):
    """`tower.encoder` three times."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Module()
        self.tower.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        return self.tower.encoder(x) + self.tower.encoder(x * 2) + self.tower.encoder(x * 3)


class TwoNames(nn.Module):
    """One encoder under two names, each called once."""

    def __init__(self) -> None:
        super().__init__()
        self.said = Encoder()
        self.known = self.said

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.said(x) * self.known(y)


class TwoEncoders(nn.Module):
    """Two encoders alike, but each with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.said, self.known = Encoder(), Encoder()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.said(x) * self.known(y)


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 4)
        self.head = nn.Linear(4, 32, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embedding(ids))  # at tied


class TiedInside(nn.Module):
    """A table that one function looks up and multiplies by."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(32, 4))

    def forward(self, ids: Tensor) -> Tensor:
        return F.linear(F.embedding(ids, self.table), self.table)


class Turned(nn.Module):
    """Queries and keys turned by one table of constants."""

    cosines: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cosines", torch.ones(4))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return q * self.cosines + k * self.cosines


class Frozen(nn.Module):
    """A weight that is no parameter, as a frozen one may be, at work twice."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(4, 4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.linear(x, self.weight) * F.linear(y, self.weight)


class Unrolled(nn.Module):
    """An LSTM, which an export spells out step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # at unrolled


class SelfAttention(nn.Module):
    """One parameter that is split into three weights."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x, x, x, need_weights=False)[0]


class Memory(nn.Module):
    """Attention over keys, or keys and values, that are parameters."""

    def __init__(self, *, values: bool) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.ones(1, 2, 5, 4))
        self.values = nn.Parameter(torch.ones(1, 2, 5, 4)) if values else None

    def forward(self, q: Tensor, *given: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, self.keys, given[0] if self.values is None else self.values)


class Indexed(nn.Module):
    """Columns chosen by constants."""

    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("columns", torch.tensor([3, 1]))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.columns]


class TiedWeights(nn.Module):
    """Two layers of one class with one weight and two biases."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Scaled(nn.Module):
    def __init__(self, scale: nn.Parameter):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class ScalarEverywhere(nn.Module):
    """One number, as a parameter, in two modules of which one is called twice."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        scale = nn.Parameter(torch.ones(shape))
        self.first, self.second = Scaled(scale), Scaled(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.first(x)))


class Repeated(nn.Module):
    """One layer as three: ALBERT's way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layer(x)
        return x


class Cache(nn.Module):
    """A key cache as a buffer that every call writes to."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(8, 4))

    def forward(self, key: Tensor, place: Tensor) -> Tensor:
        self.cache[place] = key  # at cache
        return self.cache * 2


class WithWeight(nn.Module):
    """A function of an activation and a parameter."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)  # at with weight


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (4,), self.weight)


def masked_softmax(scores: Tensor, hidden: Tensor) -> Tensor:
    return scores.masked_fill(hidden, float("-inf")).softmax(-1)


def causal(scores: Tensor) -> Tensor:
    """A mask made in `forward` of shapes alone: arange, comparison, triangle, where, cumsum."""
    places = torch.arange(scores.shape[-1]).cumsum(0)
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril() & (places[None, :] >= 0)
    return scores + torch.where(seen, 0.0, -1e4)


def folded_sizes(x: Tensor) -> Tensor:
    """Arithmetic on sizes, which a dynamic graph holds as nodes."""
    return x.reshape(x.shape[0] * x.shape[1], 4).softmax(-1).reshape(x.shape[0], 2 * x.shape[1], 2)


class Branches(nn.Module):
    """Two functions, of which the data choose one."""

    def __init__(self, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, self.one, self.other, (x,))  # at branches


def doubled(x: Tensor) -> Tensor:
    return x * 2


def raised(x: Tensor) -> Tensor:
    return x + 1


def drawn(x: Tensor) -> Tensor:
    return x * torch.multinomial(x.softmax(-1), 1)


@torch.library.custom_op("hilsim_tests::twist", mutates_args=())
def twist(x: Tensor) -> Tensor:
    return x.flip(-1)


@twist.register_fake
def twist_shape(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Twisted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return twist(x)  # at twisted


def decided(x: Tensor) -> Tensor:
    if x.sum() > 0:  # at decided
        return x * 2
    return x


def counted(x: Tensor) -> Tensor:
    for _ in range(int(x[0, 0].item())):  # at counted
        x = x + 1
    return x


def failing(x: Tensor) -> Tensor:
    raise ValueError("no such passenger")  # at failing


def misshapen(x: Tensor) -> Tensor:
    return x @ x  # at misshapen


def leaving(x: Tensor) -> Tensor:
    raise SystemExit(3)  # at leaving


def objects(x: Tensor) -> object:
    return object()


# Factories, as `subject_of` takes them; most are not what they should be.
def build() -> tuple[nn.Module, Tensor]:
    return Encoder(), torch.zeros(2, 4)


def build_dynamic() -> tuple[nn.Module, tuple[Tensor], dict[str, Any]]:
    return Encoder(), (torch.zeros(3, 4),), {"x": {0: torch.export.Dim("rows", min=2, max=9)}}


def build_badly() -> tuple[nn.Module, Tensor]:
    raise KeyError("weights")  # at build badly


def build_exit() -> None:
    raise SystemExit(3)


def build_number() -> int:
    return 3


def build_strings() -> tuple[str, str]:
    return "module", "inputs"


constant = 3
