"""Checkpoint folders in Hugging Face layout: `config.json`, safetensors (one file or sharded), `tokenizer.json`.

Reads any Llama-family folder into `Weights` and writes one that `transformers` loads unchanged. Only safetensors
are opened: a pickle can run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.describe.config_json import CONFIG, read_object
from hilsim.errors import CheckpointError, Fault
from hilsim.networks.config import NetworkConfig, load_config
from hilsim.networks.quantised import dequantised
from hilsim.networks.rope import frequencies
from hilsim.networks.tensors import StoredTensor, load_tensors, save_folder, some, weights_file
from hilsim.networks.weights import Weights, allocated, parameters_of

IGNORED = "rotary_emb.inv_freq"  # older exports store rotary frequencies, which no network needs
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # as folders name them
FLOATS = ("float64", "float32", "float16", "bfloat16")
MISMATCH = "config.json and the weights belong to different models."


def load_weights(folder: Path, dtype: npt.DTypeLike = "float32", cache: str | None = None) -> Weights:
    """The weights of a checkpoint folder, ready to decode; what a reader should know of them is in their `notes`.

    They compute in `dtype`, float32 or float64, whatever they are stored in. `cache` is the number format that keys and
    values are stored in (see `cache_format.stored`). Raises `CheckpointError` with every fault found.
    """
    config, document = load_config(folder), read_object(folder / CONFIG)
    tensors, notes = load_tensors(folder), position_notes(document, config)
    tensors, quantised = dequantised(tensors, document, folder)
    notes += [quantised] * bool(quantised)
    notes += [note for note in (rotary_note(tensors, config), head_note(tensors, config)) if note]
    config = replace(config, tied=config.tied and HEAD not in tensors, cache=cache)
    shapes = {
        name: (rows, *parameter.shape[1:])
        for parameter in parameters_of(config).values()
        for name, rows in parameter.tensors.items()
    }
    check_tensors(tensors, shapes, folder)
    weights = Weights(config, allocated(config, dtype), tuple(notes), folder)
    for name, part in weights.as_stored().items():
        part[...] = tensors.pop(name).as_floats()
    return weights


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


def rotary_note(tensors: dict[str, StoredTensor], config: NetworkConfig) -> str:
    """Take rotary frequencies, which older exports stored, out of `tensors`; a note about them, or ""."""
    stored = {name: tensors.pop(name) for name in list(tensors) if name.endswith(IGNORED)}
    if not stored:
        return ""
    scaled, _ = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    plain, _ = frequencies(config.head_dim, config.rope_theta, None)
    # Stored in halves they keep 8 bits, and next to nothing below 6e-8.
    other = sum(
        not any(table.shape == own.shape and np.allclose(table, own, 4e-3, 6e-8) for own in (scaled, plain))
        for table in (tensor.as_floats() for tensor in stored.values())
    )
    verdict = "equal those that config.json gives" if not other else "differ from those that config.json gives"
    found = f"{len(stored)} tensors of rotary frequencies ({some(list(stored))}) are not used, as by transformers: "
    return f"{found}{other or 'all'} of them {verdict}{', which are used' if other else ''}."


def head_note(tensors: dict[str, StoredTensor], config: NetworkConfig) -> str:
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
    if np.array_equal(head.as_floats(), embedding.as_floats()):
        del tensors[HEAD]
        return ""
    return f"{HEAD} differs from {EMBEDDING}: it is used, as by transformers, though tie_word_embeddings is true."


def check_tensors(
    tensors: Mapping[str, StoredTensor],
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
    kind: str = "a Llama-family decoder",
) -> None:
    """Raise what is missing, misshapen or unknown among the `tensors` of a network of some kind."""
    file = str(weights_file(folder) or folder)
    missing = [name for name in shapes if name not in tensors]
    misshapen = [name for name in shapes if name in tensors and tensors[name].shape != shapes[name]]
    unknown = sorted(name for name in tensors if name not in shapes)
    numbers = [name for name, tensor in tensors.items() if name in shapes and tensor.kind not in FLOATS]
    faults = []
    if numbers:
        found = f"{tensors[numbers[0]].kind} numbers ({len(numbers)} of {len(shapes)} tensors)"
        remedy = "Weights of other types need a quantization_config that describes them."
        faults.append(Fault(file, some(numbers), found, f"one of {', '.join(FLOATS)}", remedy))
    if missing:
        remedy = "Set tie_word_embeddings to true or ship the head." if missing == [HEAD] else MISMATCH
        found = f"no such tensor ({len(missing)} of {len(shapes)} missing)"
        faults.append(Fault(file, some(missing), found, f"a tensor of shape {shapes[missing[0]]}", remedy))
    if misshapen:
        name = misshapen[0]
        found = f"shape {tensors[name].shape} ({len(misshapen)} of {len(shapes)} misshapen)"
        faults.append(Fault(file, name, found, f"shape {shapes[name]}", MISMATCH))
    if unknown:
        found = f"{len(unknown)} tensor(s) that this network does not have"
        expected = f"the tensors of {kind}"
        faults.append(Fault(file, some(unknown), found, expected, "Check model_type in config.json."))
    if faults:
        raise CheckpointError(faults)


def save_weights(weights: Weights, folder: Path, *, end_token: int, begin_token: int, pad_token: int) -> None:
    """Write `config.json` and `model.safetensors` as `LlamaForCausalLM` expects them.

    Weights are stored as float16 to halve the folder, computed in float32 (config's dtype): they should have
    been rounded to float16 before it was judged, so that nothing changes here.
    """
    config = weights.config
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
    save_folder(folder, document, weights.as_stored())
