"""Checkpoint folders in Hugging Face layout: `config.json`, safetensors (one file or sharded), `tokenizer.json`.

Reads any Llama-family folder into a `Network` and writes one that `transformers` loads unchanged. Only safetensors
are opened: a pickle can run code.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hilsim.describe.config_json import CONFIG, FAMILIES, DecoderShape, Fields, read_object, require_folder, shape_of
from hilsim.errors import CheckpointError, Fault
from hilsim.networks.network import Network, NetworkConfig
from hilsim.networks.quantised import dequantised
from hilsim.networks.rope import KINDS, RopeScaling, frequencies
from hilsim.networks.tensors import load_tensors, save_folder, some, weights_file

IGNORED = "rotary_emb.inv_freq"  # older exports store rotary frequencies, which no network needs
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FLOATS = ("float64", "float32", "float16", "bfloat16")
MISMATCH = "config.json and the weights belong to different models."


def dtype_named(name: Literal["float32", "float64"]) -> torch.dtype:
    """What a network computes in, by name."""
    return {"float32": torch.float32, "float64": torch.float64}[name]


def load_network(folder: Path, dtype: torch.dtype = torch.float32, cache: str | None = None) -> Network:
    """The network of a checkpoint folder, ready to decode; what a reader should know of it is in its `notes`.

    `cache` is the number format that its keys and values are stored in (see `cache_format.stored`).
    Raises `CheckpointError` with every fault found.
    """
    config, document = load_config(folder), read_object(folder / CONFIG)
    tensors, notes = load_tensors(folder), position_notes(document, config)
    tensors, quantised = dequantised(tensors, document, folder)
    notes += [quantised] * bool(quantised)
    notes += [note for note in (rotary_note(tensors, config), head_note(tensors, config)) if note]
    config = replace(config, tied=config.tied and HEAD not in tensors, cache=cache)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in hugging_face_names(Network(config)).items()}
    if config.tied:
        del shapes[HEAD]
    check_tensors(tensors, shapes, folder)
    network = Network(config).to(dtype).lay_out().eval().requires_grad_(False)
    for name, part in hugging_face_names(network).items():
        if name in tensors:  # all but a tied head
            part.copy_(tensors.pop(name).to(torch.float32))
    network.notes, network.folder = tuple(notes), folder
    return network


def position_notes(document: dict[str, Any], config: NetworkConfig) -> list[str]:
    """Notes on what is assumed of positions where a config.json gives nothing, or two values."""
    notes = []
    if document.get("max_position_embeddings") is None:
        other = document.get("max_sequence_length")
        beside = "" if other is None else f" (max_sequence_length {other} is ignored, as by transformers)"
        notes.append(f"config.json has no max_position_embeddings: {config.max_positions}, as transformers{beside}.")
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "longrope":
        notes.append(
            f"LongRoPE: its long factors hold from the first token where context_tokens is over "
            f"{scaling.original_positions}, its short ones below, as in runtimes that allocate a context at once."
        )
    return notes


def rotary_note(tensors: dict[str, Tensor], config: NetworkConfig) -> str:
    """Take rotary frequencies, which older exports stored, out of `tensors`; a note about them, or ""."""
    stored = {name: tensors.pop(name) for name in list(tensors) if name.endswith(IGNORED)}
    if not stored:
        return ""
    scaled, _ = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    plain, _ = frequencies(config.head_dim, config.rope_theta, None)
    # Stored in halves they keep 8 bits, and next to nothing below 6e-8.
    other = sum(
        not any(table.shape == own.shape and torch.allclose(table.float(), own, 4e-3, 6e-8) for own in (scaled, plain))
        for table in stored.values()
    )
    verdict = "equal those that config.json gives" if not other else "differ from those that config.json gives"
    found = f"{len(stored)} tensors of rotary frequencies ({some(list(stored))}) are not used, as by transformers: "
    return f"{found}{other or 'all'} of them {verdict}{', which are used' if other else ''}."


def head_note(tensors: dict[str, Tensor], config: NetworkConfig) -> str:
    """Where embedding and head are one by config.json: which of both a file has, and whether they are one.

    As transformers 5 does: a head that is another than the embedding stays a head of its own, and where the file has
    the head alone the embedding is that.
    """
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    if not config.tied or head is None:
        return ""
    if embedding is None:
        tensors[EMBEDDING] = tensors.pop(HEAD)
        return f"{HEAD} is the embedding too: tie_word_embeddings is true, and the file has no {EMBEDDING}."
    if torch.equal(head, embedding):
        del tensors[HEAD]
        return ""
    return f"{HEAD} differs from {EMBEDDING}: it is used, as by transformers, though tie_word_embeddings is true."


def check_tensors(
    tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], folder: Path, kind: str = "a Llama-family decoder"
) -> None:
    """Raise what is missing, misshapen or unknown among the `tensors` of a network of some kind."""
    file = str(weights_file(folder) or folder)
    missing = [name for name in shapes if name not in tensors]
    misshapen = [name for name in shapes if name in tensors and tuple(tensors[name].shape) != shapes[name]]
    unknown = sorted(name for name in tensors if name not in shapes)
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items() if name in shapes}
    numbers = [name for name, kind in kinds.items() if kind not in FLOATS]
    faults = []
    if numbers:
        found = f"{kinds[numbers[0]]} numbers ({len(numbers)} of {len(shapes)} tensors)"
        remedy = "Weights of other types need a quantization_config that describes them."
        faults.append(Fault(file, some(numbers), found, f"one of {', '.join(FLOATS)}", remedy))
    if missing:
        remedy = "Set tie_word_embeddings to true or ship the head." if missing == [HEAD] else MISMATCH
        found = f"no such tensor ({len(missing)} of {len(shapes)} missing)"
        faults.append(Fault(file, some(missing), found, f"a tensor of shape {shapes[missing[0]]}", remedy))
    if misshapen:
        name = misshapen[0]
        found = f"shape {tuple(tensors[name].shape)} ({len(misshapen)} of {len(shapes)} misshapen)"
        faults.append(Fault(file, name, found, f"shape {shapes[name]}", MISMATCH))
    if unknown:
        found = f"{len(unknown)} tensor(s) that this network does not have"
        expected = f"the tensors of {kind}"
        faults.append(Fault(file, some(unknown), found, expected, "Check model_type in config.json."))
    if faults:
        raise CheckpointError(faults)


def save_network(network: Network, folder: Path, *, end_token: int, begin_token: int, pad_token: int) -> None:
    """Write `config.json` and `model.safetensors` as `LlamaForCausalLM` expects them.

    Weights are stored as float16 to halve the folder, computed in float32 (config's dtype): the network should have
    been rounded to float16 before it was judged, so that nothing changes here.
    """
    config = network.config
    plain = (config.rope_scaling, config.windows, config.qkv_bias, config.output_bias, config.mlp_bias, config.qk_norm)
    assert not any(plain), "this config.json can only describe a plain Llama"
    document = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
        "bos_token_id": begin_token,
        "eos_token_id": end_token,
        "pad_token_id": pad_token,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
    tensors = hugging_face_names(network)
    if config.tied:
        del tensors[HEAD]
    save_folder(folder, document, tensors)


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


def hugging_face_names(network: Network) -> dict[str, Tensor]:
    """Hugging Face's tensor names and the parts of the fused parameters they stand for."""
    config = network.config
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    names: dict[str, Tensor] = {EMBEDDING: network.embedding.weight}
    for index, block in enumerate(network.blocks):
        prefix = f"model.layers.{index}."
        attention: Any = block.attention
        for kind in ("weight", "bias"):
            fused = getattr(attention.qkv, kind)
            if fused is not None:
                for part, tensor in zip("qkv", fused.detach().split((q, kv, kv)), strict=True):
                    names[f"{prefix}self_attn.{part}_proj.{kind}"] = tensor
            for name, linear in (("self_attn.o_proj", attention.output), ("mlp.down_proj", block.down)):
                if getattr(linear, kind) is not None:
                    names[f"{prefix}{name}.{kind}"] = getattr(linear, kind).detach()
            gate_up = getattr(block.gate_up, kind)
            if gate_up is not None:
                gate, up = gate_up.detach().chunk(2)
                names[f"{prefix}mlp.gate_proj.{kind}"], names[f"{prefix}mlp.up_proj.{kind}"] = gate, up
        names[f"{prefix}input_layernorm.weight"] = block.attention_norm  # type: ignore[assignment]
        names[f"{prefix}post_attention_layernorm.weight"] = block.mlp_norm  # type: ignore[assignment]
        if config.qk_norm:
            names[f"{prefix}self_attn.q_norm.weight"] = attention.q_norm
            names[f"{prefix}self_attn.k_norm.weight"] = attention.k_norm
    names["model.norm.weight"] = network.norm
    names[HEAD] = network.head.weight
    return {name: tensor.detach() for name, tensor in names.items()}
