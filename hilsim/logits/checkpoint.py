"""Checkpoint folders in Hugging Face layout: `config.json`, safetensors (one file or sharded), `tokenizer.json`.

Reads any Llama-family folder into a `Network` and writes one that `transformers` loads unchanged. Only safetensors
are opened: a pickle can run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hilsim.errors import CheckpointError, Fault
from hilsim.files import read_text, written
from hilsim.logits.network import Network, NetworkConfig, RopeScaling

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "pytorch_model.bin.index.json")


def load_network(folder: Path, dtype: torch.dtype = torch.float32) -> Network:
    """The network of a checkpoint folder, ready to decode. Raises `CheckpointError` with every fault found."""
    config = load_config(folder)
    tensors = load_tensors(folder)
    with torch.device("meta"):
        network = Network(config)
    expected = {name: tuple(tensor.shape) for name, tensor in hugging_face_names(network).items()}
    faults = []
    if "lm_head.weight" not in tensors and not config.tied:
        faults.append(
            Fault(
                str(folder / CONFIG),
                "tie_word_embeddings",
                "false, but the weights hold no lm_head.weight",
                "an output head, or a tied one",
                "Set tie_word_embeddings to true or ship the head.",
            )
        )
    for name, shape in expected.items():
        if name not in tensors:
            if name != "lm_head.weight":
                faults.append(Fault(str(folder / WEIGHTS), name, "no such tensor", f"a tensor of shape {shape}"))
        elif tuple(tensors[name].shape) != shape:
            faults.append(
                Fault(
                    str(folder / WEIGHTS),
                    name,
                    f"shape {tuple(tensors[name].shape)}",
                    f"{shape}",
                    "config.json and the weights belong to different models.",
                )
            )
    unknown = sorted(name for name in tensors if name not in expected and not ignorable(name))
    if unknown:
        faults.append(
            Fault(
                str(folder / WEIGHTS),
                ", ".join(unknown[:3]) + (" ..." if len(unknown) > 3 else ""),
                f"{len(unknown)} tensor(s) that this network has no place for",
                "the tensors of a Llama-family decoder",
                "Is model_type in config.json right?",
            )
        )
    if faults:
        raise CheckpointError(faults)
    network = Network(config)
    state = fuse({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, config)
    network.load_state_dict(state, strict=True)
    return network.to(dtype).lay_out().eval().requires_grad_(False)


def save_network(network: Network, folder: Path, *, end_token: int, begin_token: int, pad_token: int) -> None:
    """Write `config.json` and `model.safetensors` as `LlamaForCausalLM` expects them.

    Weights are stored as float16 to halve the folder, computed in float32 (config's dtype): the network should have
    been rounded to float16 before it was judged, so that nothing changes here.
    """
    config = network.config
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
    tensors = {name: tensor.half().contiguous() for name, tensor in hugging_face_names(network).items()}
    if config.tied:
        del tensors["lm_head.weight"]
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})
        path.chmod(0o644)  # save_file writes for the owner alone
    with written(folder / CONFIG) as path:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load_config(folder: Path) -> NetworkConfig:
    """Read `config.json` of a Llama-family folder, in the spelling of transformers 4 or 5."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise CheckpointError(
            [
                Fault(
                    str(folder),
                    "",
                    "no such folder",
                    "a checkpoint folder with config.json, model.safetensors and tokenizer.json",
                    "Check the path; shipped stand-ins are in models/.",
                )
            ]
        )
    try:
        document = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CheckpointError([Fault(str(path), f"line {error.lineno}", error.msg, "a JSON document")]) from None
    if not isinstance(document, dict):
        raise CheckpointError([Fault(str(path), "", type(document).__name__, "a JSON object")])
    return parse_config(document, str(path))


def parse_config(document: dict[str, Any], file: str) -> NetworkConfig:
    """The `NetworkConfig` of a parsed `config.json`; `file` is only for messages."""
    family = document.get("model_type")
    faults = []
    if family not in FAMILIES:
        faults.append(
            Fault(
                file,
                "model_type",
                repr(family),
                f"one of {', '.join(FAMILIES)}",
                "hilsim runs decoders of the Llama family; choose another stand-in.",
            )
        )
    sizes: dict[str, int] = {}
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
    ):
        value = document.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            faults.append(Fault(file, name, repr(value), "a whole number of at least 1"))
        else:
            sizes[name] = value
    if document.get("hidden_act", "silu") not in ("silu", "swish"):
        faults.append(Fault(file, "hidden_act", repr(document["hidden_act"]), "silu"))
    if faults:
        raise CheckpointError(faults)
    heads = sizes["num_attention_heads"]
    kv_heads = int(document.get("num_key_value_heads") or heads)
    if heads % kv_heads:
        raise CheckpointError([Fault(file, "num_key_value_heads", str(kv_heads), f"a divisor of {heads} heads")])
    rope = {**(document.get("rope_parameters") or {}), **(document.get("rope_scaling") or {})}
    qwen = family in ("qwen2", "qwen3")
    return NetworkConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        intermediate_size=sizes["intermediate_size"],
        layers=sizes["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=int(document.get("head_dim") or sizes["hidden_size"] // heads),
        max_positions=sizes["max_position_embeddings"],
        rms_eps=float(document.get("rms_norm_eps", 1e-6)),
        rope_theta=float(rope.get("rope_theta") or document.get("rope_theta") or 10_000.0),
        rope_scaling=parse_rope_scaling(rope, sizes["max_position_embeddings"], file),
        qkv_bias=family == "qwen2" or bool(document.get("attention_bias", False)),
        output_bias=family in ("llama", "qwen3") and bool(document.get("attention_bias", False)),
        mlp_bias=family == "llama" and bool(document.get("mlp_bias", False)),
        qk_norm=family == "qwen3",
        tied=bool(document.get("tie_word_embeddings", False)),
        windows=parse_windows(document, sizes["num_hidden_layers"], qwen),
    )


def parse_rope_scaling(rope: dict[str, Any], max_positions: int, file: str) -> RopeScaling | None:
    """Rotary scaling of a config, or None where positions up to the maximum need none."""
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    # Dynamic NTK scaling changes nothing up to max_position_embeddings, and hilsim goes no further.
    if kind in ("default", "dynamic"):
        return None
    if kind not in ("linear", "llama3", "yarn"):
        raise CheckpointError(
            [Fault(file, "rope_scaling.rope_type", repr(kind), "default, linear, dynamic, llama3 or yarn")]
        )
    attention = rope.get("attention_factor")
    return RopeScaling(
        kind=kind,
        factor=float(rope.get("factor", 1.0)),
        original_positions=int(rope.get("original_max_position_embeddings") or max_positions),
        low_freq_factor=float(rope.get("low_freq_factor", 1.0)),
        high_freq_factor=float(rope.get("high_freq_factor", 4.0)),
        beta_fast=float(rope.get("beta_fast") or 32.0),
        beta_slow=float(rope.get("beta_slow") or 1.0),
        attention_factor=None if attention is None else float(attention),
        truncate=bool(rope.get("truncate", True)),
    )


def parse_windows(document: dict[str, Any], layers: int, qwen: bool) -> tuple[int | None, ...] | None:
    """Sliding attention windows per layer: Mistral's hold everywhere, Qwen's where `layer_types` says so."""
    window = document.get("sliding_window")
    if window is None or (qwen and not document.get("use_sliding_window", False)):
        return None
    kinds = document.get("layer_types")
    if kinds is None and qwen:
        first = int(document.get("max_window_layers", layers))
        kinds = ["full_attention" if index < first else "sliding_attention" for index in range(layers)]
    if kinds is None:
        return (int(window),) * layers
    return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors, sharded or not."""
    if (folder / INDEX).is_file():
        try:
            files = sorted(set(json.loads(read_text(folder / INDEX))["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
            raise CheckpointError(
                [Fault(str(folder / INDEX), "weight_map", "no readable map", "tensor names and their files")]
            ) from None
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        pickles = [name for name in PICKLES if (folder / name).exists()]
        remedy = "Save it with safetensors (transformers: save_pretrained)."
        found = f"{pickles[0]}, a pickle, which can run code when opened" if pickles else f"no {WEIGHTS}"
        raise CheckpointError([Fault(str(folder), "", found, "weights in safetensors", remedy)])
    tensors: dict[str, Tensor] = {}
    faults = []
    for name in files:
        path = folder / Path(str(name)).name
        try:
            with safe_open(path, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118, it is no dictionary
                    tensors[key] = shard.get_tensor(key)
        except FileNotFoundError:
            faults.append(Fault(str(path), "", "no such file", "a shard that the index names"))
        except (SafetensorError, OSError, ValueError) as error:
            faults.append(
                Fault(
                    str(path),
                    "",
                    f"{path.stat().st_size} bytes that are no complete safetensors file ({error})",
                    "weights in safetensors",
                    "The file is truncated or a pickle under another name: copy or save it again.",
                )
            )
    if faults:
        raise CheckpointError(faults)
    return tensors


def ignorable(name: str) -> bool:
    """Tensors that older exports carry and no network needs, such as stored rotary frequencies."""
    return name.endswith("rotary_emb.inv_freq") or name == "lm_head.weight"


def hugging_face_names(network: Network) -> dict[str, Tensor]:
    """Hugging Face's tensor names and the parts of the fused parameters they stand for."""
    config = network.config
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    names: dict[str, Tensor] = {"model.embed_tokens.weight": network.embedding.weight}
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
    names["lm_head.weight"] = network.head.weight
    return {name: tensor.detach() for name, tensor in names.items()}


def fuse(tensors: dict[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """State of a `Network` from tensors under Hugging Face's names."""
    embedding = tensors["model.embed_tokens.weight"]
    state = {
        "embedding.weight": embedding,
        "norm": tensors["model.norm.weight"],
        "head.weight": embedding if config.tied else tensors["lm_head.weight"],
    }
    for index in range(config.layers):
        theirs, ours = f"model.layers.{index}.", f"blocks.{index}."
        state[f"{ours}attention_norm"] = tensors[f"{theirs}input_layernorm.weight"]
        state[f"{ours}mlp_norm"] = tensors[f"{theirs}post_attention_layernorm.weight"]
        for kind in ("weight", "bias"):
            for name, parts in (
                ("attention.qkv", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                ("attention.output", ("self_attn.o_proj",)),
                ("gate_up", ("mlp.gate_proj", "mlp.up_proj")),
                ("down", ("mlp.down_proj",)),
            ):
                if f"{theirs}{parts[0]}.{kind}" in tensors:
                    state[f"{ours}{name}.{kind}"] = torch.cat([tensors[f"{theirs}{part}.{kind}"] for part in parts])
        if config.qk_norm:
            state[f"{ours}attention.q_norm"] = tensors[f"{theirs}self_attn.q_norm.weight"]
            state[f"{ours}attention.k_norm"] = tensors[f"{theirs}self_attn.k_norm.weight"]
    return state
