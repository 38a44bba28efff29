"""Rotary positions of every accepted variant against transformers, at every position that a config.json allows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from hilsim.errors import CheckpointError
from hilsim.networks.config import load_config, parse_config
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import KVCache, Network, load_network, save_network, weights_of
from hilsim.networks.rope import frequencies, rotary_tables
from hilsim.training.fitting import initialise, round_to_half

POSITIONS, HEAD_DIM = 131_072, 16
SIZES = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 37,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": POSITIONS,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SHORT, LONG = [1.0 + 0.05 * i for i in range(8)], [1.5 * 1.4**i for i in range(8)]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "theta at the top": {"rope_theta": 500_000.0},
    "theta in the block": {"rope_parameters": {"rope_theta": 3580165449.0, "rope_type": "default"}},
    "theta in both": {"rope_theta": 7.0, "rope_scaling": {"rope_theta": 1e6, "type": "linear", "factor": 2.5}},
    "both blocks": {
        "rope_scaling": {"type": "linear", "factor": 3.0},
        "rope_parameters": {"rope_type": "linear", "factor": 5.0},
    },
    "linear": {"rope_scaling": {"type": "linear", "factor": 7.3}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 3.7}, "rope_theta": 12_345.6},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192}, "rope_theta": 500_000.0},
    "llama3, original at the top": {
        "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64},
        "original_max_position_embeddings": 8192,
    },
    "llama3 without original": {"rope_scaling": LLAMA3, "rope_theta": 100.0},
    "yarn": {"rope_scaling": {"type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}},
    "yarn, original at the top": {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "original_max_position_embeddings": 32_768,
        "rope_theta": 1e6,
    },
    "yarn without original": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}},
    "yarn of no factor": {"rope_scaling": {"type": "yarn", "factor": None, "original_max_position_embeddings": 4096}},
    "yarn of every key": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 16.0,
            "original_max_position_embeddings": 8192,
            "truncate": False,
            "beta_fast": 24.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
        }
    },
    "yarn by mscale": {
        "rope_scaling": {
            "type": "yarn",
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 0.7,
            "mscale_all_dim": 1.3,
        }
    },
    "yarn by one mscale": {
        "rope_scaling": {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.7}
    },
    "longrope": {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 4096, "factor": 32.0}},
    "longrope, original at the top": {"rope_scaling": LONGROPE, "original_max_position_embeddings": 4096},
    "longrope by an attention factor": {
        "rope_scaling": {**LONGROPE, "original_max_position_embeddings": 4096, "attention_factor": 1.19}
    },
    "proportional": {"rope_parameters": {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.25}},
    "proportional whole": {"rope_parameters": {"rope_type": "proportional"}},
}


def write_config(folder: Path, **fields: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**SIZES, **fields}))
    return folder


def largest_difference(folder: Path, positions: int) -> float:
    """Between our tables and transformers' of a pass over the first `positions` positions."""
    theirs = LlamaRotaryEmbedding(AutoConfig.from_pretrained(folder))
    cos, sin = theirs(torch.zeros(1), torch.arange(positions)[None])
    with torch.device("meta"):
        network = Network(load_config(folder))
    ours = network.rotary(positions, positions)
    half = HEAD_DIM // 2
    differences = [
        (ours[0][:positions, 0] - cos[0]).abs().max(),
        (ours[1][:positions, 0, half:] - sin[0, :, half:]).abs().max(),
        (ours[1][:positions, 0, :half] + sin[0, :, :half]).abs().max(),
    ]
    return float(max(differences))


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("positions", [4096, 4097, POSITIONS])
def test_angles_are_those_of_transformers_up_to_the_last_position(
    fields: dict[str, Any], positions: int, tmp_path: Path
) -> None:
    assert largest_difference(write_config(tmp_path, **fields), positions) < 1e-5


def test_a_frequency_one_bit_off_would_show() -> None:
    """The negative control of the bound: far out the last bit of a frequency is worth a thousand times as much."""
    frequency = 1.0 / 10_000.0 ** (torch.arange(8) / 8)
    angles = [(POSITIONS - 1) * table for table in (frequency, torch.nextafter(frequency, torch.tensor(2.0)))]
    assert (angles[0].cos() - angles[1].cos()).abs().max() > 1e-3


def last_bits(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How many numbers of float32 lie between; of one sign each."""
    return np.abs(ours.view(np.int32).astype(np.int64) - theirs.view(np.int32))


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0, 1_000_000.0, 123_456.7])
@pytest.mark.parametrize("head_dim", [16, 64, 128])
def test_powers_and_angles_are_pytorchs_up_to_the_last_bit(theta: float, head_dim: int) -> None:
    """PyTorch's own differ from one processor to another; ours are rounded from float64."""
    frequency, _ = frequencies(head_dim, theta, None)
    theirs = 1.0 / theta ** (torch.arange(head_dim // 2, dtype=torch.float32) / (head_dim // 2))
    assert last_bits(frequency, theirs.numpy()).max() <= 1
    assert (frequency != theirs.numpy()).mean() < 0.05
    cos, sin = rotary_tables(head_dim, theta, None, 2000)
    angle = torch.outer(torch.arange(2000, dtype=torch.float32), torch.from_numpy(frequency))
    for ours, own in ((cos, angle.cos()), (sin, angle.sin())):
        assert last_bits(ours[:, 0, head_dim // 2 :], own.numpy()).max() <= 1


def test_angles_are_those_of_exact_arithmetic() -> None:
    """By Python's own cosine, in double: what is rounded differs by half a last bit at most."""
    cos, sin = rotary_tables(16, 10_000.0, None, 1000)
    frequency, _ = frequencies(16, 10_000.0, None)
    angle = [float(np.float32(place) * frequency[3]) for place in range(1000)]
    np.testing.assert_array_equal(cos[:, 0, 3], np.array([math.cos(one) for one in angle], np.float32))
    np.testing.assert_array_equal(sin[:, 0, 11], np.array([math.sin(one) for one in angle], np.float32))
    np.testing.assert_array_equal(sin[:, 0, 3], -sin[:, 0, 11])


REFUSED = {
    "su": ({"rope_scaling": {"type": "su"}}, "found 'su'; expected one of default, linear"),
    "mrope": ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, "found 'mrope'"),
    "mrope by its sections": ({"rope_scaling": {"mrope_section": [2, 3, 3]}}, "rope_scaling.mrope_section"),
    "a block for each layer type": (
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}},
        "rope_parameters.full_attention",
    ),
    "part of a head": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: found 0.5; expected 1"),
    "part of a head in the block": ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "llama3 without its bounds": ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "rope_scaling.low_freq_factor"),
    "llama3 upside down": (
        {"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}},
        "high_freq_factor: found 4.0; expected more than low_freq_factor (4)",
    ),
    "longrope without factors": (
        {"rope_scaling": {"type": "longrope"}},
        "short_factor: found None; expected a list of 8",
    ),
    "longrope too short": (
        {"rope_scaling": {**LONGROPE, "long_factor": LONG[:-1]}},
        "rope_scaling.long_factor",
    ),
    "longrope of one position": (
        {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 1}},
        "original_max_position_embeddings: found 1; expected at least 2",
    ),
    "yarn of theta one": ({"rope_theta": 1.0, "rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_theta"),
}


@pytest.mark.parametrize(("fields", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_computed_alike_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_config({**SIZES, **fields}, "config.json")
    assert words in str(caught.value)


def random_folder(folder: Path, **fields: Any) -> Path:
    """Random weights under a config.json of our own."""
    write_config(folder, **fields)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).float()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    write_config(folder, **fields)
    return folder


@torch.inference_mode()
@pytest.mark.parametrize("length", [20, 32, 33, 60])
@pytest.mark.parametrize("name", ["longrope", "yarn", "llama3"])
def test_logits_on_both_sides_of_the_original_length(name: str, length: int, tmp_path: Path) -> None:
    """A pass as a whole, in a context of that very length with a cache, and row by row."""
    block = {**VARIANTS[name]["rope_scaling"], "original_max_position_embeddings": 32}
    folder = random_folder(tmp_path, rope_scaling=block, max_position_embeddings=64)
    tokens = torch.randint(37, (1, length), generator=torch.Generator().manual_seed(2))
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(tokens).logits
    network = load_network(folder)
    torch.testing.assert_close(network(tokens), expected, rtol=0, atol=1e-4)
    cache = KVCache(network.config, length)
    parts = [network(part, cache) for part in tokens.split((7, length - 7), 1)]
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-4)
    decoder = Decoder(weights_of(network), length)
    rows = [decoder.feed([token])[0] for token in tokens[0].tolist()]
    torch.testing.assert_close(torch.stack([torch.from_numpy(row) for row in rows]), expected[0], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_longrope_turns_every_row_of_a_context_alike(tmp_path: Path) -> None:
    """Rows do not depend on how far the conversation has grown, so drafts cannot change a text; and it is said."""
    block = {**LONGROPE, "original_max_position_embeddings": 32}
    network = load_network(random_folder(tmp_path, rope_scaling=block, max_position_embeddings=64))
    assert any("LongRoPE" in note and "32" in note for note in network.notes)
    tokens = torch.randint(37, (1, 40), generator=torch.Generator().manual_seed(2))
    ones, together = KVCache(network.config, 48), KVCache(network.config, 48)
    rows = torch.cat([network(tokens[:, place : place + 1], ones) for place in range(40)], 1)
    torch.testing.assert_close(rows, network(tokens, together), rtol=0, atol=1e-4)
    short = network(tokens[:, :20], KVCache(network.config, 32))
    assert (short - rows[:, :20]).abs().max() > 1e-2  # a context that needs no stretching is another


def test_tables_are_as_long_as_the_context_and_grow_to_the_same_numbers(tmp_path: Path) -> None:
    network = load_network(random_folder(tmp_path, max_position_embeddings=1_048_576, head_dim=128))
    weights = weights_of(network)
    assert len(network.cos) == len(weights.rotary(5, 5)[0]) == 1024
    Decoder(weights, 3000)
    assert len(weights.rotary(5, 5)[0]) == len(network.rotary(3000, 3000)[0]) == 3000
    cos, sin = (table[:3000].clone() for table in (network.cos, network.sin))
    with torch.inference_mode():
        network(torch.zeros(1, 3001, dtype=torch.int64), last_rows=1)
    assert len(network.cos) == 6000
    assert torch.equal(network.cos[:3000], cos)
    assert torch.equal(network.sin[:3000], sin)
    for ours, theirs in zip(weights.rotary(3001, 3001), (network.cos, network.sin), strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    assert not network.cos.is_inference()
    doubles = load_network(tmp_path, "float64")
    assert doubles.rotary(5000, 5000)[0].dtype == torch.float64


def test_a_decoder_goes_on_past_its_first_table(tmp_path: Path) -> None:
    network = load_network(random_folder(tmp_path))
    decoder = Decoder(weights_of(network), 1030)
    decoder.feed([1] * 1027)
    stepped = [decoder.feed([token])[0] for token in (2, 3)]
    fresh = Decoder(weights_of(network), 1030).feed([*[1] * 1027, 2, 3], 2)
    for ours, theirs in zip(stepped, fresh, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), torch.from_numpy(theirs), rtol=0, atol=1e-4)


def test_what_is_saved_with_a_short_table_loads_with_it(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, max_position_embeddings=2000))
    network = Network(config).eval().requires_grad_(False)
    initialise(network, 5)
    round_to_half(network)
    save_network(network, tmp_path / "saved", end_token=2, begin_token=1, pad_token=0)
    assert load_network(tmp_path / "saved").config == config
