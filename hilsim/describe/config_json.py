"""`config.json` of a Hugging Face folder: typed looks into it, and the shape that a decoder's weights have by it.

Read by stand-ins (`logits/checkpoint.py` adds what the arithmetic needs) and by deployed models (`describe/folder.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilsim.errors import CheckpointError, Fault
from hilsim.files import exists, read_text

CONFIG = "config.json"
HEAD_TYPE = "hilsim_draft_head"  # the model_type of a draft head's folder
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
LAYER_TYPES = ("full_attention", "sliding_attention")
MOST = 2**22
# What transformers takes where a config.json is silent.
POSITIONS = {"llama": 2048, "mistral": 131_072, "qwen2": 32_768, "qwen3": 32_768}
KEY_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
HEAD_DIM = {"qwen3": 128, "gemma": 256}
TIED = ("gemma",)


class RepeatedKey(ValueError):
    """A JSON object that has one key twice."""


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys. Raises `RepeatedKey`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds. Raises `CheckpointError`, also where a key is repeated."""
    try:
        document = json.loads(read_text(path), object_pairs_hook=each_once)
    except json.JSONDecodeError as error:
        raise CheckpointError([Fault(str(path), f"line {error.lineno}", error.msg, "a JSON document")]) from None
    except RepeatedKey as error:
        raise CheckpointError([Fault(str(path), str(error), "the key twice", "each key once", "Remove one.")]) from None
    except (ValueError, RecursionError) as error:  # endless digits, endless nesting
        raise CheckpointError([Fault(str(path), "", str(error), "a JSON document")]) from None
    if not isinstance(document, dict):
        raise CheckpointError([Fault(str(path), "", f"a JSON {type(document).__name__}", "a JSON object")])
    return document


def is_draft_head(folder: Path) -> bool:
    """Whether a folder holds a draft head; what is wrong with it is for its loader to say."""
    return exists(folder / CONFIG) and read_object(folder / CONFIG).get("model_type") == HEAD_TYPE


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

    def whole(self, name: str, default: int | None = None, least: int = 1, most: int = MOST) -> int:
        value = self._get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(name, f"a whole number from {least} to {most}")
        return least

    def number(self, name: str, default: float | None = None) -> float:
        value = self._get(name, default)
        if is_positive(value):
            return float(value)
        self.fault(name, "a positive number")
        return 1.0

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        value = self.document.get(name)
        if isinstance(value, list) and len(value) == count and all(map(is_positive, value)):
            return tuple(map(float, value))
        self.fault(name, f"a list of {count} positive numbers")
        return (1.0,) * count

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
        found = repr(self.document.get(name))
        found = found if len(found) <= 80 else f"{found[:77]}..."
        self.faults.append(Fault(self.file, self.place + name, found, expected, remedy))

    def _get(self, name: str, default: Any) -> Any:
        value = self.document.get(name)
        return default if value is None else value


def is_positive(value: object) -> bool:
    """Whether a JSON value is a number above 0 that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e-30 < value < 1e30


@dataclass(frozen=True)
class DecoderShape:
    """A decoder's size as a config.json states it."""

    family: str
    vocab_size: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int
    tied: bool
    windows: tuple[int | None, ...] | None  # attention window per layer; None: every layer sees everything


def shape_of(fields: Fields, families: Sequence[str], remedy: str) -> DecoderShape:
    """The shape, with transformers' defaults; what is wrong is left in `fields.faults`."""
    family = fields.choice("model_type", None, families, remedy)
    hidden, layers = fields.whole("hidden_size"), fields.whole("num_hidden_layers", most=1024)
    heads = fields.whole("num_attention_heads")
    absent = "num_key_value_heads" not in fields.document  # null means one for each head, in every family
    kv_heads = fields.whole("num_key_value_heads", KEY_HEADS.get(family, heads) if absent else heads)
    if heads % kv_heads and not fields.faults:
        fields.fault("num_key_value_heads", f"a divisor of {heads} heads")
    head_dim = fields.whole("head_dim", HEAD_DIM.get(family, hidden // heads))
    if head_dim % 2 and not fields.faults:
        fields.fault("head_dim", "an even number, for rotary positions turn pairs")
    return DecoderShape(
        family=family,
        vocab_size=fields.whole("vocab_size"),
        hidden=hidden,
        intermediate=fields.whole("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        positions=fields.whole("max_position_embeddings", POSITIONS.get(family)),
        tied=fields.flag("tie_word_embeddings", family in TIED),
        windows=windows_of(fields, family, layers),
    )


def windows_of(fields: Fields, family: str, layers: int) -> tuple[int | None, ...] | None:
    """Sliding attention windows per layer: Mistral's everywhere, Qwen's where `layer_types` names them, else none."""
    if family in ("qwen2", "qwen3"):
        if not fields.flag("use_sliding_window"):
            return None
    elif family not in ("mistral", "phi3"):
        return None
    if fields.document.get("sliding_window", None if family == "phi3" else 4096) is None:
        return None
    window = fields.whole("sliding_window", 4096)
    if family in ("mistral", "phi3"):
        return (window,) * layers
    kinds = fields.document.get("layer_types")
    if kinds is None:
        first = fields.whole("max_window_layers", 28, least=0)
        return tuple(window if index >= first else None for index in range(layers))
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in LAYER_TYPES for kind in kinds):
        fields.fault("layer_types", f"a list of {layers} times one of {', '.join(LAYER_TYPES)}")
        return None
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def require_folder(folder: Path) -> None:
    """Raise `CheckpointError` where no checkpoint folder is."""
    if exists(folder) and folder.is_dir():
        return
    expected = "a checkpoint folder with config.json, model.safetensors and tokenizer.json"
    remedy = "Check the path; shipped stand-ins are in models/."
    raise CheckpointError([Fault(str(folder), "", "no such folder", expected, remedy)])
