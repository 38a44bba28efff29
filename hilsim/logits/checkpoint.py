"""Checkpoint folders in Hugging Face layout: `config.json`, safetensors (one file or sharded), `tokenizer.json`.

Reads any Llama-family folder into a `Network` and writes one that `transformers` loads unchanged. Only safetensors
are opened: a pickle can run code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hilsim.errors import CheckpointError, Fault
from hilsim.files import written
from hilsim.logits.folder import read_object
from hilsim.logits.network import Network, NetworkConfig, RopeScaling

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
LAYER_TYPES = ("full_attention", "sliding_attention")
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "pytorch_model.bin.index.json")
IGNORED = "rotary_emb.inv_freq"  # older exports store rotary frequencies, which no network needs
MISMATCH = "config.json and the weights belong to different models."


def load_network(folder: Path, dtype: torch.dtype = torch.float32) -> Network:
    """The network of a checkpoint folder, ready to decode. Raises `CheckpointError` with every fault found."""
    config = load_config(folder)
    tensors = load_tensors(folder)
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in hugging_face_names(Network(config)).items()}
    if config.tied and "lm_head.weight" not in tensors:
        del shapes["lm_head.weight"]
    check_tensors(tensors, shapes, folder)
    network = Network(config)
    state = fuse({name: tensor.to(torch.float32) for name, tensor in tensors.items()}, config)
    network.load_state_dict(state, strict=True)
    return network.to(dtype).lay_out().eval().requires_grad_(False)


def check_tensors(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Raise what is missing, misshapen or unknown among `tensors`."""
    file = str(weights_file(folder) or folder)
    missing = [name for name in shapes if name not in tensors]
    misshapen = [name for name in shapes if name in tensors and tuple(tensors[name].shape) != shapes[name]]
    unknown = sorted(name for name in tensors if name not in shapes and not name.endswith(IGNORED))
    faults = []
    if missing:
        remedy = "Set tie_word_embeddings to true or ship the head." if missing == ["lm_head.weight"] else MISMATCH
        found = f"no such tensor ({len(missing)} of {len(shapes)} missing)"
        faults.append(Fault(file, some(missing), found, f"a tensor of shape {shapes[missing[0]]}", remedy))
    if misshapen:
        name = misshapen[0]
        found = f"shape {tuple(tensors[name].shape)} ({len(misshapen)} of {len(shapes)} misshapen)"
        faults.append(Fault(file, name, found, f"shape {shapes[name]}", MISMATCH))
    if unknown:
        found = f"{len(unknown)} tensor(s) that this network has no place for"
        expected = "the tensors of a Llama-family decoder"
        faults.append(Fault(file, some(unknown), found, expected, "Is model_type in config.json right?"))
    if faults:
        raise CheckpointError(faults)


def some(names: list[str]) -> str:
    """The first few of a list that may be long."""
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def save_network(network: Network, folder: Path, *, end_token: int, begin_token: int, pad_token: int) -> None:
    """Write `config.json` and `model.safetensors` as `LlamaForCausalLM` expects them.

    Weights are stored as float16 to halve the folder, computed in float32 (config's dtype): the network should have
    been rounded to float16 before it was judged, so that nothing changes here.
    """
    config = network.config
    plain = (config.rope_scaling, config.windows, config.qkv_bias, config.output_bias, config.mlp_bias, config.qk_norm)
    assert not any(plain), "only a plain Llama can be told in this config.json"
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
    return parse_config(read_object(path), str(path))


class Fields:
    """Typed looks into a JSON object: a wrong value becomes a fault and a harmless stand-in, null the default."""

    def __init__(self, document: dict[str, Any], file: str, place: str = "", faults: list[Fault] | None = None):
        self.document, self.file, self.place = document, file, place
        self.faults = [] if faults is None else faults

    def object(self, name: str) -> Fields:
        value = self.document.get(name)
        if not isinstance(value, dict | None):
            self.fault(name, "a JSON object")
            value = None
        return Fields(value or {}, self.file, f"{self.place}{name}.", self.faults)

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = 2**22) -> int:
        value = self._get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(name, f"a whole number from {least} to {most}")
        return least

    def number(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < 1e30:
            return float(value)
        self.fault(name, "a positive number")
        return 1.0

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            self.fault(name, "true or false")
        return value is True

    def choice(self, name: str, default: str | None, choices: Sequence[str], remedy: str = "") -> str:
        value = self._get(name, default)
        if value in choices:
            return str(value)
        self.fault(name, f"one of {', '.join(choices)}", remedy)
        return choices[0]

    def fault(self, name: str, expected: str, remedy: str = "") -> None:
        self.faults.append(Fault(self.file, self.place + name, repr(self.document.get(name)), expected, remedy))

    def _get(self, name: str, default: Any) -> Any:
        value = self.document.get(name)
        return default if value is None else value


def parse_config(document: dict[str, Any], file: str) -> NetworkConfig:
    """The `NetworkConfig` of a parsed `config.json`, with transformers' defaults; `file` is only for messages."""
    fields = Fields(document, file)
    remedy = "hilsim runs decoders of the Llama family; choose another stand-in."
    family = fields.choice("model_type", None, FAMILIES, remedy)
    fields.choice("hidden_act", "silu", ("silu", "swish"))
    hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers", most=1024)
    heads = fields.whole("num_attention_heads")
    kv_heads = fields.whole("num_key_value_heads", heads)
    if heads % kv_heads and not fields.faults:
        fields.fault("num_key_value_heads", f"a divisor of {heads} heads")
    head_dim = fields.whole("head_dim", 128 if family == "qwen3" else hidden // heads)
    if head_dim % 2 and not fields.faults:
        fields.fault("head_dim", "an even number, for rotary positions turn pairs")
    max_positions = fields.whole("max_position_embeddings")
    rope = fields.object("rope_scaling" if document.get("rope_scaling") else "rope_parameters")
    bias = family in ("llama", "qwen3") and fields.flag("attention_bias")
    config = NetworkConfig(
        vocab_size=fields.whole("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.whole("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=max_positions,
        rms_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=rope.number("rope_theta", fields.number("rope_theta", 10_000.0)),
        rope_scaling=parse_rope_scaling(rope, max_positions),
        qkv_bias=family == "qwen2" or bias,
        output_bias=bias,
        mlp_bias=family == "llama" and fields.flag("mlp_bias"),
        qk_norm=family == "qwen3",
        tied=fields.flag("tie_word_embeddings"),
        windows=parse_windows(fields, family, layers),
    )
    if fields.faults:
        raise CheckpointError(fields.faults)
    return config


def parse_rope_scaling(rope: Fields, max_positions: int) -> RopeScaling | None:
    """Rotary scaling of a config, or None where positions up to the maximum need none."""
    spelling = "rope_type" if rope.document.get("rope_type") else "type"
    kind = rope.choice(spelling, "default", ("default", "linear", "dynamic", "llama3", "yarn"))
    # Dynamic NTK scaling changes nothing up to max_position_embeddings, and hilsim goes no further.
    if kind in ("default", "dynamic"):
        return None
    original = rope.whole("original_max_position_embeddings", max_positions)
    factor = rope.number("factor", max_positions / original if kind == "yarn" else None)
    attention = None
    if rope.document.get("attention_factor") is not None:
        attention = rope.number("attention_factor")
    elif rope.document.get("mscale") and rope.document.get("mscale_all_dim"):
        stretch = 0.1 * math.log(max(factor, 1.0))
        attention = (stretch * rope.number("mscale") + 1.0) / (stretch * rope.number("mscale_all_dim") + 1.0)
    return RopeScaling(
        kind=kind,
        factor=factor,
        original_positions=original,
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        attention_factor=attention,
        truncate=rope.flag("truncate", True),
    )


def parse_windows(fields: Fields, family: str, layers: int) -> tuple[int | None, ...] | None:
    """Sliding attention windows per layer: none in Llama, Mistral's everywhere, Qwen's where `layer_types` says so."""
    if family == "llama" or (family != "mistral" and not fields.flag("use_sliding_window")):
        return None
    if fields.document.get("sliding_window", 4096) is None:
        return None
    window = fields.whole("sliding_window", 4096)
    if family == "mistral":
        return (window,) * layers
    kinds = fields.document.get("layer_types")
    if kinds is None:
        first = fields.whole("max_window_layers", 28, least=0)
        return tuple(window if index >= first else None for index in range(layers))
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in LAYER_TYPES for kind in kinds):
        fields.fault("layer_types", f"a list of {layers} times one of {', '.join(LAYER_TYPES)}")
        return None
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def weights_file(folder: Path) -> Path | None:
    """The one file of weights, else the index of a sharded checkpoint, if the folder has either."""
    return next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors, sharded or not."""
    weights = weights_file(folder)
    if weights is None:
        pickles = [name for name in PICKLES if (folder / name).exists()]
        remedy = "Save it with safetensors (transformers: save_pretrained)."
        found = f"{pickles[0]}, a pickle, which can run code when opened" if pickles else f"no {WEIGHTS}"
        raise CheckpointError([Fault(str(folder), "", found, "weights in safetensors", remedy)])
    files = [WEIGHTS]
    if weights.name == INDEX:
        shards = read_object(weights).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(
                [Fault(str(weights), "weight_map", "no readable map", "tensor names and their files")]
            )
        files = sorted(set(shards.values()))
    tensors: dict[str, Tensor] = {}
    faults = []
    for name in files:
        path = folder / Path(name).name
        try:
            with safe_open(path, framework="pt") as shard:
                tensors |= {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118 (no mapping)
        except FileNotFoundError:
            faults.append(Fault(str(path), "", "no such file", "a shard that the index names"))
        except (SafetensorError, OSError, ValueError) as error:
            found = f"{path.stat().st_size} bytes that are no complete safetensors file ({error})"
            remedy = "The file is truncated or a pickle under another name: copy or save it again."
            faults.append(Fault(str(path), "", found, "weights in safetensors", remedy))
    if faults:
        raise CheckpointError(faults)
    return tensors


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
