"""The weights of a network as arrays: their names and shapes, their place in memory, and their matrices.

The names are those of `network.Network`'s parameters, of which some hold several tensors of a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.networks.arrays import Array
from hilsim.networks.config import NetworkConfig
from hilsim.networks.rope import rotary_tables, table_length

EMBEDDING, HEAD = "embedding.weight", "head.weight"
LINE = 64  # bytes that a processor reads at once; matrices begin at a multiple of it
# Few rows are sooner multiplied one by one, where the processor's caches keep the matrix (bytes) from one to the next:
# for a product of matrices OpenBLAS would lay the weights out anew.
APART, NEAR = 4, 4 * 2**20


class Parameter(NamedTuple):
    """One parameter: its shape, and the tensors of a checkpoint folder that lie in it, each with its rows."""

    shape: tuple[int, ...]
    tensors: dict[str, int]


def parameters_of(config: NetworkConfig) -> dict[str, Parameter]:
    """Every parameter of a network by its name; where the head is the embedding it is none of its own."""
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    matrices = (
        ("attention.qkv", {"self_attn.q_proj": q, "self_attn.k_proj": kv, "self_attn.v_proj": kv}, hidden),
        ("attention.output", {"self_attn.o_proj": hidden}, q),
        ("down", {"mlp.down_proj": hidden}, inner),
        ("gate_up", {"mlp.gate_proj": inner, "mlp.up_proj": inner}, hidden),
    )
    biased = (config.qkv_bias, config.output_bias, config.mlp_bias, config.mlp_bias)
    norms = [("attention_norm", "input_layernorm", hidden), ("mlp_norm", "post_attention_layernorm", hidden)]
    if config.qk_norm:
        norms += [(f"attention.{one}_norm", f"self_attn.{one}_norm", config.head_dim) for one in "qk"]
    found = {EMBEDDING: Parameter((vocabulary, hidden), {"model.embed_tokens.weight": vocabulary})}
    for index in range(config.layers):
        ours, theirs = f"blocks.{index}.", f"model.layers.{index}."
        for kind in ("weight", "bias"):
            for (name, tensors, inputs), has_bias in zip(matrices, biased, strict=True):
                if kind == "weight" or has_bias:
                    shape = (sum(tensors.values()), inputs) if kind == "weight" else (sum(tensors.values()),)
                    parts = {f"{theirs}{part}.{kind}": rows for part, rows in tensors.items()}
                    found[f"{ours}{name}.{kind}"] = Parameter(shape, parts)
        for name, theirs_too, width in norms:
            found[f"{ours}{name}"] = Parameter((width,), {f"{theirs}{theirs_too}.weight": width})
    found["norm"] = Parameter((hidden,), {"model.norm.weight": hidden})
    if not config.tied:
        found[HEAD] = Parameter((vocabulary, hidden), {"lm_head.weight": vocabulary})
    return found


def allocated(config: NetworkConfig, dtype: npt.DTypeLike) -> dict[str, Array]:
    """Memory for every parameter, with the matrices as (in, out) in one stretch.

    The product with a few rows then streams long runs, a third sooner than of (out, in). NumPy asks the system for
    large pages where a stretch is longer than 4 MiB, so that the processor looks few addresses up.
    """
    shapes = {name: parameter.shape for name, parameter in parameters_of(config).items()}
    apart = () if config.tied else (EMBEDDING,)  # rows that are looked up, and no matrix
    matrices = [name for name, shape in shapes.items() if len(shape) == 2 and name not in apart]
    kind = np.dtype(dtype)
    numbers = [-(-int(np.prod(shapes[name])) // LINE) * LINE for name in matrices]
    stretch = np.empty(sum(numbers) * kind.itemsize + LINE, np.uint8)
    memory = stretch[-stretch.ctypes.data % LINE :][: sum(numbers) * kind.itemsize].view(kind)
    found: dict[str, Array] = {name: np.empty(shape, kind) for name, shape in shapes.items() if name not in matrices}
    begin = 0
    for name, taken in zip(matrices, numbers, strict=True):
        outputs, inputs = shapes[name]
        found[name] = memory[begin : begin + outputs * inputs].reshape(inputs, outputs).T
        begin += taken
    return found


@dataclass(frozen=True)
class Matrix:
    """A linear layer's weight (in, out) and bias."""

    columns: Array
    bias: Array | None

    def __call__(self, x: Array) -> Array:
        """`x`: (rows, in)."""
        y: Array
        if 1 < len(x) <= APART and self.columns.nbytes <= NEAR:
            y = np.empty((len(x), self.columns.shape[1]), x.dtype)
            for row, out in zip(x, y, strict=True):
                row.dot(self.columns, out=out)
        else:
            y = x.dot(self.columns)
        if self.bias is not None:
            y += self.bias
        return y


@dataclass(frozen=True)
class Layer:
    """One block's weights."""

    attention_norm: Array
    qkv: Matrix
    q_norm: Array | None
    k_norm: Array | None
    output: Matrix
    mlp_norm: Array
    gate_up: Matrix
    down: Matrix
    window: int | None


class Weights:
    """A network's weights, ready to decode with, and the tables of its positions, which grow as they are needed."""

    def __init__(
        self,
        config: NetworkConfig,
        arrays: Mapping[str, Array],
        notes: tuple[str, ...] = (),
        folder: Path | None = None,
    ):
        """`arrays`: by the names of `parameters_of`; `notes`: what a folder left to say, `folder`: where it is."""
        self.config, self.arrays, self.notes, self.folder = config, dict(arrays), notes, folder
        self.embedding, self.norm = self.arrays[EMBEDDING], self.arrays["norm"]
        self.head = Matrix(self.arrays[EMBEDDING if config.tied else HEAD].T, None)
        windows = config.windows or (None,) * config.layers
        self.layers = tuple(self.layer(f"blocks.{index}.", window) for index, window in enumerate(windows))
        self.tables: dict[bool, tuple[Array, Array]] = {}

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """What it computes in."""
        return self.norm.dtype

    def rotary(self, positions: int, context: int) -> tuple[Array, Array]:
        """Cosines and sines of at least `positions` positions, (some, 1, head_dim), for passes in such a context."""
        long, config = self.config.long(context), self.config
        held = len(self.tables[long][0]) if long in self.tables else 0
        length = table_length(positions, held, config.max_positions)
        if length > held:
            tables = rotary_tables(config.head_dim, config.rope_theta, config.rope_scaling, length, long=long)
            self.tables[long] = tables[0].astype(self.dtype, copy=False), tables[1].astype(self.dtype, copy=False)
        return self.tables[long]

    def layer(self, place: str, window: int | None) -> Layer:
        """The weights of a block, whose names begin with `place`."""

        def matrix(name: str) -> Matrix:
            return Matrix(self.arrays[f"{place}{name}.weight"].T, self.arrays.get(f"{place}{name}.bias"))

        return Layer(
            attention_norm=self.arrays[f"{place}attention_norm"],
            qkv=matrix("attention.qkv"),
            q_norm=self.arrays.get(f"{place}attention.q_norm"),
            k_norm=self.arrays.get(f"{place}attention.k_norm"),
            output=matrix("attention.output"),
            mlp_norm=self.arrays[f"{place}mlp_norm"],
            gate_up=matrix("gate_up"),
            down=matrix("down"),
            window=window,
        )

    def as_stored(self) -> dict[str, Array]:
        """The tensors of a checkpoint folder that lie in the parameters, as views, by their names there."""
        found: dict[str, Array] = {}
        for own, parameter in parameters_of(self.config).items():
            ends = np.cumsum([*parameter.tensors.values()])[:-1]
            found |= zip(parameter.tensors, np.split(self.arrays[own], ends), strict=True)
        return found
