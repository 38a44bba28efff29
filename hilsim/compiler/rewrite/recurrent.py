"""Recurrent layers as cells, one a step: for toolchains without such a layer, and sequences of known, short length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument

MOST_CELLS = 128  # steps times layers times directions: beyond, the graph is too long to compile in any useful time
Cell = Callable[[Tensor, tuple[Tensor, ...], Sequence[Tensor]], tuple[Tensor, ...]]  # input's share, state, weights


def projected(x: Tensor, weight: Tensor, biases: Sequence[Tensor]) -> Tensor:
    """x W^T + b, where there are biases."""
    return F.linear(x, weight, biases[0] if biases else None)


def lstm_cell(share: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The next state and memory: input, forget, cell and output gate in the order of PyTorch."""
    hidden, memory = state
    keep, forget, new, out = (share + projected(hidden, weights[1], weights[3:])).chunk(4, -1)
    memory = torch.sigmoid(forget) * memory + torch.sigmoid(keep) * torch.tanh(new)
    return torch.sigmoid(out) * torch.tanh(memory), memory


def gru_cell(share: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The next state: reset, update and new gate in the order of PyTorch, which resets after the product."""
    (hidden,) = state
    reset, update, new = share.chunk(3, -1)
    reset_by, update_by, new_by = projected(hidden, weights[1], weights[3:]).chunk(3, -1)
    fresh = torch.tanh(new + torch.sigmoid(reset + reset_by) * new_by)
    share_kept = torch.sigmoid(update + update_by)
    return (fresh + share_kept * (hidden - fresh),)


def plain_cell(activation: Callable[[Tensor], Tensor]) -> Cell:
    """The next state of a plain recurrent layer."""
    return lambda share, state, weights: (activation(share + projected(state[0], weights[1], weights[3:])),)


def unrolled(
    cell: Cell, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], has_biases: bool, layers: int,
    both_ways: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Outputs and last states: layers one after another, of each one direction or both, of each a cell a step."""
    ways, each, axis = 1 + both_ways, 4 if has_biases else 2, int(batch_first and x.dim() == 3)
    last: list[tuple[Tensor, ...]] = []
    for layer in range(layers):
        found = []
        for way in range(ways):
            place = layer * ways + way
            own = weights[each * place : each * (place + 1)]
            shares = projected(x, own[0], own[2:3])
            state = tuple(given[place] for given in states)
            steps = range(x.shape[axis])
            made: dict[int, Tensor] = {}
            for step in reversed(steps) if way else steps:
                state = cell(shares.select(axis, step), state, own)
                made[step] = state[0]
            found.append(torch.stack([made[step] for step in steps], axis))
            last.append(state)
        x = torch.cat(found, -1) if ways > 1 else found[0]
    return x, *(torch.stack([state[part] for state in last]) for part in range(len(states)))


def lstm(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], has_biases: bool, layers: int, dropout: float,
    train: bool, both_ways: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """LSTM layers as cells."""
    return unrolled(lstm_cell, x, states, weights, has_biases, layers, both_ways, batch_first)


def single(cell: Cell) -> Callable[..., tuple[Tensor, ...]]:
    """Layers whose state is one tensor as cells."""

    def function(
        x: Tensor, state: Tensor, weights: Sequence[Tensor], has_biases: bool, layers: int, dropout: float,
        train: bool, both_ways: bool, batch_first: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        return unrolled(cell, x, [state], weights, has_biases, layers, both_ways, batch_first)

    return function


def fits_short(node: fx.Node) -> str:
    """Whether the length is known and short, and nothing is dropped or projected."""
    x, layers, both_ways = (
        argument(node, 0, "input"),
        argument(node, 4, "num_layers"),
        argument(node, 7, "bidirectional"),
    )
    steps = x.shape[1 if argument(node, 8, "batch_first") and x.dim() == 3 else 0]
    if not isinstance(steps, int):
        return "its length is only known at run time"
    cells = steps * layers * (1 + both_ways)
    if cells > MOST_CELLS:
        return f"it would become {cells} cells, where {MOST_CELLS} will do"
    if argument(node, 5, "dropout", 0.0) and argument(node, 6, "train", False):
        return "it drops at random (dropout)"
    each = 4 if argument(node, 3, "has_biases") else 2
    weights = argument(node, 2, "params", ())
    return "" if len(weights) == each * layers * (1 + both_ways) else "its states are projected"


CELLS = "a cell a step, as PyTorch defines the layer"
SOURCE = "definition in torch.nn.LSTM, GRU and RNN; pytorch/executorch and onnxruntime-qnn PR 630 unroll the same way"


def by_cells(name: str, operator: str, function: Callable[..., tuple[Tensor, ...]]) -> Rewrite:
    """A recurrent layer as cells."""
    caveat = f"a graph that grows with the length, at most {MOST_CELLS} cells; sums in another order, step after step"
    return Rewrite(
        name, CELLS, (operator,), "rounding", function, fits_short, caveat, SOURCE, domain="moderate", bound=1e-4
    )


REWRITES = (
    by_cells("lstm_by_cells", "aten.lstm.input", lstm),
    by_cells("gru_by_cells", "aten.gru.input", single(gru_cell)),
    by_cells("rnn_tanh_by_cells", "aten.rnn_tanh.input", single(plain_cell(torch.tanh))),
    by_cells("rnn_relu_by_cells", "aten.rnn_relu.input", single(plain_cell(torch.relu))),
)
