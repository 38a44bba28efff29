"""A quantised checkpoint folder while it is read: tensors not yet used, and integers packed into 32-bit words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hilsim.describe.config_json import Fields
from hilsim.errors import Fault


@dataclass
class QuantisedFolder:
    """The tensors of a quantised folder that are not yet used, the matrices made of others, and the faults found."""

    path: Path
    fields: Fields
    tensors: dict[str, Tensor]
    made: dict[str, Tensor] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)  # by matrix: quantisation step over the weights' root mean square

    def take(self, name: str, *, needed: bool = True) -> Tensor | None:
        """One tensor, removed from `tensors`; None, and a fault if `needed`, where it is missing."""
        if needed and name not in self.tensors:
            self.fault(name, "no such tensor", "what the format stores beside the weights")
        return self.tensors.pop(name, None)

    def fault(self, name: str, found: str, expected: str) -> None:
        remedy = "Use the folder of float weights that it was made from."
        self.faults.append(Fault(str(self.path), name, f"quantised weights with {found}", expected, remedy))

    def put(self, base: str, weight: Tensor, step: Tensor | None = None) -> None:
        """The matrix (out, in) of one layer; `step` is its quantisation step, scalar or by group."""
        self.made[f"{base}.weight"] = weight
        spread = float(weight.square().mean().sqrt())
        if step is not None and spread > 0:
            self.steps.append(float(step.abs().mean()) / spread)

    def bases(self, ending: str) -> list[str]:
        """Names of layers that have a tensor of this ending, without the ending."""
        return [name.removesuffix(ending) for name in self.tensors if name.endswith(ending)]


def block_size(fields: Fields, name: str) -> tuple[int, int] | None:
    """Two whole numbers, or None where none are given."""
    value = fields.document.get(name)
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2 and all(type(one) is int and one > 0 for one in value):
        return value[0], value[1]
    fields.fault(name, "two whole numbers")
    return None


def group_size(fields: Fields) -> int:
    """Inputs that share a scale; -1 where all do."""
    group = fields.whole("group_size", 128, least=-1)
    if group == 0:
        fields.fault("group_size", "-1 or a number of inputs")
    return group


def is_scale(scale: Tensor) -> bool:
    return (scale.is_floating_point() or scale.dtype == torch.float8_e8m0fnu) and scale.dim() <= 2 and scale.numel() > 0


def unpacked(words: Tensor, bits: int) -> Tensor:
    """Integers (..., n x 32 / bits) from 32-bit words (..., n): a stream of bits, the lowest first."""
    every = bits if 32 % bits == 0 else 1
    pieces = (words[..., None] >> torch.arange(0, 32, every, dtype=words.dtype)) & (2**every - 1)
    whole: Tensor = pieces.flatten(-2)
    if every == bits:
        return whole
    count = whole.shape[-1] // bits
    parts = whole[..., : count * bits].reshape(*whole.shape[:-1], count, bits)
    return (parts << torch.arange(bits)).sum(-1)


def integers(work: QuantisedFolder, name: str, words: Tensor, bits: int, axis: int, length: int) -> Tensor | None:
    """Packed integers along `axis` of a matrix, or None with a fault where their number is wrong."""
    if words.dtype not in (torch.int32, torch.int64) or words.dim() != 2 or words.shape[axis] * 32 != length * bits:
        found = f"{name} of {str(words.dtype).removeprefix('torch.')} {tuple(words.shape)}"
        work.fault(name, found, f"{length} integers of {bits} bits, packed into 32-bit ones along axis {axis}")
        return None
    return unpacked(words, bits) if axis == 1 else unpacked(words.T, bits).T
