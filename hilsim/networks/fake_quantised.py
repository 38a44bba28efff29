"""Networks whose numbers are rounded as a precision has them and computed in float32, and what their layers take in.

What is rounded: every matrix, the input of every matrix, keys and values. Norms, rotations, softmax and the products of
attention are computed in float32, where a device may round again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hilsim.describe.rounding import HALF, WHOLE, Rounding
from hilsim.networks.network import Block, KVCache, Network, view
from hilsim.networks.scales import in_steps, scale_of, steps_of

Floats = npt.NDArray[np.float64]
SIGMAS = 6  # an activation farther from the mean is an outlier, as in LLM.int8() (arXiv 2208.07339)


@dataclass(frozen=True)
class InputStatistics:
    """The input of one matrix over some text: how far its largest numbers stand out.

    `largest` of all; `median` of their sizes (the median of the texts' medians); `kurtosis` (3 of a normal
    distribution); `outliers`, the share beyond six standard deviations; `by_channel`, the largest of each channel.
    """

    name: str
    largest: float
    median: float
    kurtosis: float
    outliers: float
    by_channel: Floats

    @property
    def spread(self) -> float:
        """The largest number over the median."""
        return self.largest / self.median if self.median else float("inf")

    @property
    def channels(self) -> float:
        """The channel with the largest numbers over the middle one: what one scale for all of them costs."""
        middle = float(np.median(self.by_channel))
        return float(self.by_channel.max()) / middle if middle else float("inf")


def matrices(network: Network) -> dict[str, nn.Linear]:
    """The matrices of a network by name: "layer 1 qkv", ..., "head"."""
    found = {}
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear):
            parts = path.split(".")
            found["head" if len(parts) == 1 else f"layer {int(parts[1]) + 1} {parts[-1]}"] = module
    return found


@torch.inference_mode()
def logits_of(network: Network, tokens: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Logits (tokens, vocabulary) of a whole text in one pass, through a cache of its format where it has one."""
    cache = None if network.config.cache is None else KVCache(network.config, len(tokens), dtype=network.cos.dtype)
    rows: npt.NDArray[np.float32] = network(torch.as_tensor(tokens)[None], cache)[0].float().numpy()
    return rows


@torch.inference_mode()
def inputs_of(network: Network, texts: Sequence[Sequence[int]]) -> dict[str, InputStatistics]:
    """What every matrix takes in over some texts."""
    kept: dict[str, list[Tensor]] = {}
    medians: dict[str, list[float]] = {}
    channels: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].detach().reshape(-1, given[0].shape[-1]).double()
        powers = torch.stack([(x**power).sum() for power in range(5)])  # the number of them first
        kept.setdefault(name, []).append(powers)
        medians.setdefault(name, []).append(float(x.abs().median()))
        largest = x.abs().amax(0)
        channels[name] = torch.maximum(channels[name], largest) if name in channels else largest
        sums[name] = sums.get(name, 0) + int(((x - x.mean()).abs() > SIGMAS * x.std()).sum())

    sums: dict[str, int] = {}
    hooks = [one.register_forward_pre_hook(partial(look, name)) for name, one in matrices(network).items()]
    try:
        for tokens in texts:
            logits_of(network, tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: statistics(name, kept[name], medians[name], sums[name], channels[name]) for name in kept}


def statistics(
    name: str, powers: Sequence[Tensor], medians: Sequence[float], outliers: int, channels: Tensor
) -> InputStatistics:
    """Statistics from sums of powers, 0 to 4."""
    count, *sums = torch.stack(list(powers)).sum(0).tolist()
    one, two, three, four = (total / count for total in sums)
    variance = two - one**2
    fourth = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
    return InputStatistics(
        name, float(channels.max()), float(np.median(medians)), fourth / variance**2 if variance > 0 else 0.0,
        outliers / count, channels.numpy(),
    )  # fmt: skip


def rounded_weights(weight: Tensor, bits: int, rounding: Rounding) -> Tensor:
    """A matrix (out, in) as so many bits hold it."""
    if bits >= WHOLE:
        return weight
    if bits >= HALF:
        return weight.half().to(weight.dtype)
    numbers, steps = view(weight), steps_of(bits)
    if rounding.scales == "tensor":
        return torch.from_numpy(in_steps(numbers, scale_of(numbers, steps, (0, 1)), steps))
    inputs = numbers.shape[1]
    group = rounding.group if rounding.scales == "group" and inputs % rounding.group == 0 else inputs
    groups = numbers.reshape(len(numbers), -1, group)
    return torch.from_numpy(in_steps(groups, scale_of(groups, steps, -1), steps).reshape(numbers.shape))


def rounds_inputs(rounding: Rounding, seen: InputStatistics | None) -> Callable[[Tensor], Tensor] | None:
    """How the input of a matrix is rounded; None where it is not. Scales of tensor and channel are those of `seen`."""
    if rounding.activations == "fp32":
        return None
    if rounding.activations == "fp16":
        return lambda x: x.half().to(x.dtype)
    steps = steps_of(int(rounding.activations.removeprefix("int")))
    if rounding.ranges == "row":
        return lambda x: torch.from_numpy(in_steps(view(x), scale_of(view(x), steps, -1), steps))
    assert seen is not None, "integer activations need what was seen before"
    largest = seen.by_channel if rounding.ranges == "channel" else np.array(seen.largest)
    scale = (largest / steps).astype(np.float32)
    return lambda x: torch.from_numpy(in_steps(view(x), scale, steps))


def rounded_network(network: Network, rounding: Rounding, seen: Mapping[str, InputStatistics]) -> Network:
    """A copy of a network with its numbers rounded. `seen` is of a text that the copy is not measured on."""
    found = copy.deepcopy(network)
    for name, matrix in matrices(found).items():
        bits = rounding.head_bits if name == "head" else rounding.weight_bits
        # A head of its own: an embedding that it shared stays as it is.
        matrix.weight = nn.Parameter(rounded_weights(matrix.weight.detach(), bits, rounding), requires_grad=False)
        if (rounds := rounds_inputs(rounding, seen.get(name))) is not None:
            matrix.register_forward_pre_hook(partial(replaced, rounds))
    found.config = replace(found.config, cache=rounding.cache)
    for block in found.blocks:
        assert isinstance(block, Block)
        block.attention.cache = rounding.cache
    return found


def replaced(rounds: Callable[[Tensor], Tensor], module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The input of a matrix, rounded."""
    return rounds(given[0]), *given[1:]
