"""Quantised folders: packed here as the formats' own tools pack them, and read back to the very numbers.

The packers follow the published tools step by step (AutoGPTQ's and AutoAWQ's `pack`, bitsandbytes' tables and states,
compressed-tensors' `pack_to_int32`); each also says in plain arithmetic which floats it stands for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hilsim.errors import CheckpointError
from hilsim.networks.config import NetworkConfig
from hilsim.networks.network import Network, load_network, save_network
from hilsim.training.fitting import initialise, round_to_half

SHAPE = NetworkConfig(
    vocab_size=61,
    hidden_size=64,
    intermediate_size=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    max_positions=64,
)
Made = tuple[dict[str, Tensor], Tensor]  # what a file stores of a matrix, and the floats (out, in) that it means
Maker = Callable[[str, Tensor, np.random.Generator], Made]
Ints = npt.NDArray[np.int64]


def packed_rows(integers: Ints, bits: int) -> Tensor:
    """Integers (in, out) packed along the inputs into 32-bit words, by AutoGPTQ's loop over bits."""
    words = np.zeros((len(integers) * bits // 32, integers.shape[1]), np.uint32)
    for row, values in enumerate(integers):
        for bit in range(bits):
            place = row * bits + bit
            words[place // 32] |= (((values >> bit) & 1) << (place % 32)).astype(np.uint32)
    return torch.from_numpy(words.view(np.int32))


def gptq(
    bits: int, group: int, *, symmetric: bool = True, layout: str = "gptq", act_order: bool = False
) -> tuple[dict[str, Any], Maker]:
    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        outputs, inputs = weight.shape
        size = inputs if group == -1 else group
        groups = inputs // size
        integers = chance.integers(0, 2**bits, (inputs, outputs))
        middle = np.full((groups, outputs), 2 ** (bits - 1))
        zeros = middle if symmetric else chance.integers(1, 2**bits, (groups, outputs))
        scales = (0.02 + 0.01 * chance.random((groups, outputs))).astype(np.float16)
        order = np.arange(inputs) // size
        order = chance.permutation(order) if act_order else order
        stored = zeros - 1 if layout == "gptq" else zeros
        meant = scales.astype(np.float32)[order] * (integers - zeros[order]).astype(np.float32)
        parts = {
            "qweight": packed_rows(integers, bits),
            "qzeros": packed_rows(stored.T, bits).T.contiguous(),
            "scales": torch.from_numpy(scales),
            "g_idx": torch.from_numpy(order.astype(np.int32)),
        }
        return {f"{base}.{name}": part for name, part in parts.items()}, torch.from_numpy(meant.T.copy())

    return {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "sym": symmetric,
        "desc_act": act_order,
        "checkpoint_format": layout,
    }, make


def awq(group: int) -> tuple[dict[str, Any], Maker]:
    def words(integers: Ints) -> Tensor:
        found = np.zeros((len(integers), integers.shape[1] // 8), np.uint32)
        for column in range(found.shape[1]):
            for place, source in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
                found[:, column] |= (integers[:, column * 8 + source] << (place * 4)).astype(np.uint32)
        return torch.from_numpy(found.view(np.int32))

    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        outputs, inputs = weight.shape
        integers = chance.integers(0, 16, (inputs, outputs))
        zeros = chance.integers(0, 16, (inputs // group, outputs))
        scales = (0.02 + 0.01 * chance.random((inputs // group, outputs))).astype(np.float16)
        rows = np.arange(inputs) // group
        meant = (integers - zeros[rows]).astype(np.float32) * scales.astype(np.float32)[rows]
        stored = {"qweight": words(integers), "qzeros": words(zeros), "scales": torch.from_numpy(scales)}
        return {f"{base}.{name}": part for name, part in stored.items()}, torch.from_numpy(meant.T.copy())

    return {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}, make


def fp8_blocks(rows: int, columns: int) -> tuple[dict[str, Any], Maker]:
    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        stored = (weight * 40).to(torch.float8_e4m3fn)
        shape = (-(-weight.shape[0] // rows), -(-weight.shape[1] // columns))
        scale = torch.from_numpy(0.01 + 0.01 * chance.random(shape)).float()
        meant = stored.float().clone()
        for row in range(shape[0]):
            for column in range(shape[1]):
                part = meant[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
                part *= scale[row, column]
        return {f"{base}.weight": stored, f"{base}.weight_scale_inv": scale}, meant

    return {"quant_method": "fp8", "weight_block_size": [rows, columns], "activation_scheme": "dynamic"}, make


def compressed(layout: str, bits: int, group: int | None, kind: str) -> tuple[dict[str, Any], Maker]:
    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        outputs, inputs = weight.shape
        size = group or inputs
        scale = torch.from_numpy(0.01 + 0.01 * chance.random((outputs, inputs // size))).to(torch.bfloat16)
        spread = scale.float()[:, torch.arange(inputs) // size]
        if kind == "float":
            numbers = (weight * 40).to(torch.float8_e4m3fn)
            return {f"{base}.weight": numbers, f"{base}.weight_scale": scale, f"{base}.input_scale": torch.ones(1)}, (
                numbers.float() * spread
            )
        signed = chance.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs))
        meant = torch.from_numpy(signed).float() * spread
        if layout != "pack-quantized":
            return {f"{base}.weight": torch.from_numpy(signed.astype(np.int8)), f"{base}.weight_scale": scale}, meant
        each = 32 // bits
        words = np.zeros((outputs, -(-inputs // each)), np.uint32)
        for place in range(inputs):
            words[:, place // each] |= (signed[:, place] + 2 ** (bits - 1)).astype(np.uint32) << (bits * (place % each))
        return {
            f"{base}.weight_packed": torch.from_numpy(words.view(np.int32)),
            f"{base}.weight_scale": scale,
            f"{base}.weight_shape": torch.tensor([outputs, inputs]),
        }, meant

    weights = {"num_bits": bits, "type": kind, "symmetric": True, "group_size": group}
    settings = {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed"}
    return {**settings, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}, make


NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


def bitsandbytes(*, nested: bool) -> tuple[dict[str, Any], Maker]:
    block = 64

    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        count = weight.numel()
        places = chance.integers(0, 16, count)
        table = np.array(NF4, np.float32)
        name = f"{base}.weight"
        state = {"quant_type": "nf4", "blocksize": block, "dtype": "float16", "shape": list(weight.shape)}
        stored: dict[str, Tensor] = {f"{name}.quant_map": torch.from_numpy(table)}
        if nested:
            codes = chance.integers(0, 256, count // block).astype(np.uint8)
            inner = np.linspace(-1, 1, 256, dtype=np.float32)
            largest = np.full(-(-len(codes) // 256), 0.01, np.float32)
            scales = inner[codes] * largest[np.arange(len(codes)) // 256] + np.float32(0.05)
            state |= {"nested_blocksize": 256, "nested_offset": 0.05, "nested_dtype": "float32"}
            stored |= {f"{name}.absmax": torch.from_numpy(codes), f"{name}.nested_absmax": torch.from_numpy(largest)}
            stored[f"{name}.nested_quant_map"] = torch.from_numpy(inner)
        else:
            scales = (0.05 + 0.05 * chance.random(count // block)).astype(np.float32)
            stored[f"{name}.absmax"] = torch.from_numpy(scales)
        told = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
        stored[f"{name}.quant_state.bitsandbytes__nf4"] = torch.from_numpy(told)
        stored[name] = torch.from_numpy((places[0::2] * 16 + places[1::2]).astype(np.uint8)[:, None])
        meant = table[places] * scales[np.arange(count) // block]
        return stored, torch.from_numpy(meant.astype(np.float32).reshape(tuple(weight.shape)))

    return {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, make


def int8() -> tuple[dict[str, Any], Maker]:
    def make(base: str, weight: Tensor, chance: np.random.Generator) -> Made:
        rows = weight.abs().amax(1)
        stored = (weight / rows[:, None] * 127).round().to(torch.int8)
        parts = {"weight": stored, "SCB": rows, "weight_format": torch.tensor(0, dtype=torch.uint8)}
        return {f"{base}.{name}": part for name, part in parts.items()}, stored.float() * (rows[:, None] / 127)

    return {"quant_method": "bitsandbytes", "load_in_8bit": True}, make


FORMATS = {
    **{f"gptq {bits} bits": gptq(bits, 32) for bits in (2, 3, 4, 8)},
    "gptq asymmetric": gptq(4, 32, symmetric=False),
    "gptq version 2": gptq(4, 32, symmetric=False, layout="gptq_v2"),
    "gptq by order of activations": gptq(4, 32, act_order=True),
    "gptq, one group": gptq(3, -1),
    "awq": awq(32),
    "fp8 in blocks": fp8_blocks(16, 32),
    "fp8 in blocks that stand over": fp8_blocks(24, 40),
    "compressed fp8 by output": compressed("float-quantized", 8, None, "float"),
    "compressed int8 by output": compressed("int-quantized", 8, None, "int"),
    "compressed words of 4 bits": compressed("pack-quantized", 4, 32, "int"),
    "compressed words of 8 bits": compressed("pack-quantized", 8, None, "int"),
    "bitsandbytes nf4": bitsandbytes(nested=False),
    "bitsandbytes nf4, nested": bitsandbytes(nested=True),
    "bitsandbytes int8": int8(),
}


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("floats")
    network = Network(SHAPE).eval().requires_grad_(False)
    initialise(network, 5)
    round_to_half(network)
    save_network(network, folder, end_token=2, begin_token=1, pad_token=0)
    return folder


def written(floats: Path, folder: Path, settings: dict[str, Any] | None, make: Maker) -> tuple[Path, Path]:
    """The folder with its projections quantised, and a folder of the floats that these mean."""
    chance = np.random.default_rng(7)
    for name in ("quantised", "meant"):
        shutil.copytree(floats, folder / name)
    stored: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in load_file(floats / "model.safetensors").items():
        if name.endswith("proj.weight"):
            parts, meant[name] = make(name.removesuffix(".weight"), tensor.float(), chance)
            stored |= parts
        else:
            stored[name] = meant[name] = tensor
    save_file(stored, folder / "quantised" / "model.safetensors")
    save_file(meant, folder / "meant" / "model.safetensors")
    edit(folder / "quantised", quantization_config=settings)
    return folder / "quantised", folder / "meant"


def edit(folder: Path, **fields: Any) -> None:
    document = {**json.loads((folder / "config.json").read_text()), **fields}
    (folder / "config.json").write_text(json.dumps({name: one for name, one in document.items() if one is not None}))


@pytest.mark.parametrize(("settings", "make"), FORMATS.values(), ids=FORMATS)
def test_what_is_packed_is_read_back_to_the_numbers_that_it_means(
    settings: dict[str, Any], make: Maker, floats: Path, tmp_path: Path
) -> None:
    quantised, meant = written(floats, tmp_path, settings, make)
    found, expected = load_network(quantised), load_network(meant)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-6, atol=1e-8)
    (note,) = found.notes
    assert note.startswith("14 matrices are ")
    assert "unknown" in note
    assert not expected.notes


@pytest.mark.parametrize("format_name", ["gptq asymmetric", "awq", "bitsandbytes nf4", "compressed words of 4 bits"])
def test_the_order_of_the_bits_matters(format_name: str, floats: Path, tmp_path: Path) -> None:
    """The negative control: words with their halves swapped are read, and to other numbers."""
    quantised, meant = written(floats, tmp_path, *FORMATS[format_name])
    tensors = load_file(quantised / "model.safetensors")
    ends = (".qweight", ".weight_packed", "proj.weight")
    name = next(name for name in tensors if name.endswith(ends))
    swapped = tensors[name].numpy().view(np.uint8)
    tensors[name] = torch.from_numpy(((swapped >> 4) | (swapped << 4)).view(tensors[name].numpy().dtype))
    save_file(tensors, quantised / "model.safetensors")
    found, expected = load_network(quantised).state_dict(), load_network(meant).state_dict()
    assert not all(torch.allclose(found[key], expected[key], 1e-3, 1e-3) for key in expected)


def test_settings_of_their_own_file_are_read(floats: Path, tmp_path: Path) -> None:
    settings, make = FORMATS["gptq 4 bits"]
    quantised, _ = written(floats, tmp_path, None, make)
    own = {name: value for name, value in settings.items() if name != "quant_method"}
    (quantised / "quantize_config.json").write_text(json.dumps(own))
    assert "GPTQ, 4 bits" in load_network(quantised).notes[0]


def test_the_stated_step_is_that_of_the_grid(floats: Path, tmp_path: Path) -> None:
    """Integers of -8 to 7, all as likely, have a root mean square of 4.6 steps: a step is 22 % of it."""
    quantised, _ = written(floats, tmp_path, *FORMATS["compressed words of 4 bits"])
    assert "A step of their grid is 2" in load_network(quantised).notes[0]


def settings_without(format_name: str, **fields: Any) -> tuple[dict[str, Any], Maker]:
    settings, make = FORMATS[format_name]
    return {name: value for name, value in {**settings, **fields}.items() if value is not None}, make


REFUSED: dict[str, tuple[tuple[dict[str, Any] | None, Maker], list[str]]] = {
    "nothing is said": ((None, FORMATS["gptq 4 bits"][1]), ["quantization_config", "quantised weights (gptq or awq"]),
    "an unknown method": (
        settings_without("gptq 4 bits", quant_method="aqlm"),
        ["quantization_config.quant_method: found weights quantised by 'aqlm'", "gptq, awq, fp8", "python -c "],
    ),
    "5 bits": (settings_without("gptq 4 bits", bits=5), ["quantization_config.bits: found 5; expected 2, 3, 4 or 8"]),
    "other bits than are packed": (
        settings_without("gptq 4 bits", bits=8),
        ["quantised weights with", "integers of 8"],
    ),
    "marlin": (settings_without("gptq 4 bits", checkpoint_format="marlin"), ["checkpoint_format: found 'marlin'"]),
    "zeros of the other version": (
        settings_without("gptq 4 bits", checkpoint_format="gptq_v2"),
        ["qzeros: found quantised weights with zero points from 7 to 7", "8 everywhere"],
    ),
    "groups of none": (settings_without("gptq 4 bits", group_size=0), ["group_size: found 0"]),
    "gemv": (settings_without("awq", version="gemv"), ["version: found 'gemv'; expected one of gemm"]),
    "groups that do not fill": (settings_without("awq", group_size=48), ["groups of 48 for 64 inputs"]),
    "blocks that do not fill": (
        settings_without("fp8 in blocks", weight_block_size=[32, 32]),
        ["weight_scale_inv: found quantised weights with 4 scales along axis 0 for 64 numbers"],
    ),
    "zero points in compressed tensors": (
        (
            {
                **FORMATS["compressed words of 4 bits"][0],
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "symmetric": False}}},
            },
            FORMATS["compressed words of 4 bits"][1],
        ),
        ["config_groups.group_0.weights.symmetric: found False", "python -c "],
    ),
    "nvfp4": (
        settings_without("compressed words of 4 bits", format="nvfp4-pack-quantized"),
        ["format: found 'nvfp4-pack-quantized'"],
    ),
    "settings of no block": ((["gptq"], FORMATS["gptq 4 bits"][1]), ["quantization_config: found ['gptq']"]),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("wrong", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_refused_by_its_name(
    wrong: tuple[dict[str, Any] | None, Maker], words: list[str], floats: Path, tmp_path: Path
) -> None:
    quantised, _ = written(floats, tmp_path, *wrong)
    with pytest.raises(CheckpointError) as caught:
        load_network(quantised)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "different models" not in message


def test_parts_that_are_missing_are_named(floats: Path, tmp_path: Path) -> None:
    for number, (format_name, part) in enumerate(
        [
            ("gptq 4 bits", "scales"),
            ("awq", "qweight"),
            ("fp8 in blocks", "weight"),
            ("bitsandbytes nf4", "weight.quant_state.bitsandbytes__nf4"),
            ("bitsandbytes nf4, nested", "weight.nested_absmax"),
            ("compressed words of 4 bits", "weight_shape"),
        ]
    ):
        quantised, _ = written(floats, tmp_path / str(number), *FORMATS[format_name])
        tensors = load_file(quantised / "model.safetensors")
        del tensors[f"model.layers.1.mlp.down_proj.{part}"]
        save_file(tensors, quantised / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.down_proj"):
            load_network(quantised)


def test_a_gguf_file_is_named_with_the_command_that_converts_it(floats: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder's"
    shutil.copytree(floats, folder)
    (folder / "model.safetensors").rename(folder / "tiny-q4.gguf")
    with pytest.raises(CheckpointError) as caught:
        load_network(folder)
    message = str(caught.value)
    assert "found tiny-q4.gguf, a GGUF file" in message
    assert "gguf_file='\"'\"'tiny-q4.gguf'\"'\"'" in message or "gguf_file=" in message
