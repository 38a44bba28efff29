"""The shape of a Llama-family network, and how a `config.json` in Hugging Face's spelling gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hilsim.describe.config_json import CONFIG, FAMILIES, DecoderShape, Fields, read_object, require_folder, shape_of
from hilsim.errors import CheckpointError
from hilsim.networks.rope import KINDS, RopeScaling


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of one network; names follow Hugging Face's `config.json` where the idea is the same."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    windows: tuple[int | None, ...] | None = None  # attention window per layer; None: every layer sees everything
    cache: str | None = None  # number format of the key/value cache; None: that of the network itself

    def long(self, context: int) -> bool:
        """Whether a pass in a context of so many positions turns by LongRoPE's long factors."""
        return self.rope_scaling is not None and self.rope_scaling.long(context)


def load_config(folder: Path) -> NetworkConfig:
    """Read `config.json` of a Llama-family folder, in the spelling of transformers 4 or 5."""
    require_folder(folder)
    path = folder / CONFIG
    return parse_config(read_object(path), str(path))


def parse_config(document: dict[str, Any], file: str) -> NetworkConfig:
    """The `NetworkConfig` of a parsed `config.json`, with transformers' defaults; `file` is only for messages."""
    fields = Fields(document, file)
    shape = shape_of(fields, FAMILIES, "hilsim runs decoders of the Llama family; choose another stand-in.")
    family = shape.family
    fields.choice("hidden_act", "silu", ("silu", "swish"))
    # The order in which transformers looks, and the top level's original length before that of the block.
    rope = fields.object("rope_scaling" if document.get("rope_scaling") else "rope_parameters")
    theta = rope.number("rope_theta", fields.number("rope_theta", 10_000.0))
    bias = family in ("llama", "qwen3") and fields.flag("attention_bias")
    config = NetworkConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_positions=shape.positions,
        rms_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=parse_rope_scaling(rope, fields, shape, theta),
        qkv_bias=family == "qwen2" or bias,
        output_bias=bias,
        mlp_bias=family == "llama" and fields.flag("mlp_bias"),
        qk_norm=family == "qwen3",
        tied=shape.tied,
        windows=shape.windows,
    )
    if fields.faults:
        raise CheckpointError(fields.faults)
    return config


ROPE_KEYS = (
    *("rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor"),
    *("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor"),
    *("short_factor", "long_factor", "partial_rotary_factor", "finetuned"),
)


def parse_rope_scaling(rope: Fields, fields: Fields, shape: DecoderShape, theta: float) -> RopeScaling | None:
    """Rotary scaling of a config, or None where positions up to the maximum need none."""
    spelling = "rope_type" if rope.document.get("rope_type") else "type"
    kind = rope.choice(spelling, "default", KINDS, "Choose a stand-in whose positions are of one of these kinds.")
    for name in rope.document:
        if name not in ROPE_KEYS:
            rope.fault(
                name,
                f"one of {', '.join(ROPE_KEYS)}",
                "Rotary settings by layer type and several axes are not supported.",
            )
    share = next((block for block in (rope, fields) if "partial_rotary_factor" in block.document), rope)
    rotated = share.number("partial_rotary_factor", 1.0)
    if rotated > 1 or (rotated < 1 and kind != "proportional"):
        share.fault("partial_rotary_factor", f"1: a {kind} head of this family turns whole")
    # Dynamic NTK scaling changes nothing up to max_position_embeddings, and hilsim goes no further.
    if kind in ("default", "dynamic"):
        return None
    first = fields if fields.document.get("original_max_position_embeddings") is not None else rope
    original = first.whole("original_max_position_embeddings", shape.positions)
    stretched = shape.positions / original if kind in ("yarn", "longrope") else 1.0 if kind == "proportional" else None
    factor = rope.number("factor", stretched)
    scaling = RopeScaling(kind, factor, original, rotated=rotated)
    if kind == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        if high <= low and not rope.faults:
            rope.fault("high_freq_factor", f"more than low_freq_factor ({low:g})")
        return replace(scaling, low_freq_factor=low, high_freq_factor=high)
    if kind == "longrope":
        given = None if rope.document.get("attention_factor") is None else rope.number("attention_factor")
        if factor > 1 and original < 2:
            first.fault("original_max_position_embeddings", "at least 2: its logarithm is divided by")
        short, long = (rope.numbers(name, shape.head_dim // 2) for name in ("short_factor", "long_factor"))
        return replace(scaling, attention_factor=given, short_factors=short, long_factors=long)
    if kind == "yarn":
        if theta == 1:
            rope.fault("rope_theta", "any other number: its logarithm is divided by")
        return replace(
            scaling,
            beta_fast=rope.number("beta_fast", 32.0),
            beta_slow=rope.number("beta_slow", 1.0),
            attention_factor=yarn_attention(rope, factor),
            truncate=rope.flag("truncate", True),
        )
    return scaling


def yarn_attention(rope: Fields, factor: float) -> float | None:
    """What cosine and sine are multiplied by, where a config says it; None for the paper's own."""
    if rope.document.get("attention_factor") is not None:
        return rope.number("attention_factor")
    if not (rope.document.get("mscale") and rope.document.get("mscale_all_dim")):
        return None
    above, below = rope.number("mscale"), rope.number("mscale_all_dim")
    stretch = math.log(max(factor, 1.0))
    return (0.1 * above * stretch + 1.0) / (0.1 * below * stretch + 1.0)
