"""A Hugging Face folder, or its config.json alone, as a deployed model: the shape, with the file as its source.

What a config.json says in too many ways is refused (experts, vision, layers that are no attention: a file of the
model's own describes them) or named in the model's notes (quantisation, an unknown vocabulary).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from hilsim.describe.config_json import CONFIG, FAMILIES, DecoderShape, Fields, read_object, shape_of
from hilsim.describe.vocabulary import Tokens, tokens_in
from hilsim.errors import CheckpointError, Fault
from hilsim.places import DATA

# Dense decoders whose config.json says the same things under the same names; the others differ in what they leave out.
DEPLOYABLE = (*FAMILIES, "phi3", "gemma", "granite")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
PARTS = ("text_config", "vision_config", "audio_config", "thinker_config")
ATTENTION = ("full_attention", "sliding_attention")
# Marks of vocabularies that many models share, at the ids where their published tokenizers have them, and how many
# pieces of text come before: added marks behind these (a reserved name, a thinking mark) part no pair.
KNOWN = {
    "llama3": ({128_000: "<|begin_of_text|>", 128_001: "<|end_of_text|>", 128_009: "<|eot_id|>"}, 128_000),
    "qwen": ({151_643: "<|endoftext|>", 151_644: "<|im_start|>", 151_645: "<|im_end|>"}, 151_643),
}
REMEDY = (
    "Describe it in a file of its own, as models/llama-3.2-3b.yaml does (experts: qwen3-30b-a3b, recurrent layers: "
    "qwen3.5-4b, vision: qwen3-vl-4b), and give that path."
)


def described_by(config: Path) -> dict[str, Any]:
    """The document of a `Model` as config.json describes it. Raises `CheckpointError` with every fault."""
    document = read_object(config)
    fields = Fields(document, str(config))
    foreign = [*unknown_parts(document, str(config))]
    if foreign:
        raise CheckpointError(foreign)
    shape = shape_of(fields, DEPLOYABLE, REMEDY)
    if fields.faults:
        raise CheckpointError(fields.faults)
    folder = config.parent
    tokens = tokens_in(folder)
    name = name_of(folder)
    vocabulary, origin = vocabulary_of(tokens, name)
    return {
        "name": name,
        "title": f"{name}, {shape.layers} layers of {shape.hidden} by its {config.name}",
        "vocabulary": {"name": vocabulary, "entries": shape.vocab_size},
        "architecture": {
            "kind": "datasheet",
            "source": str(config),
            "layers": shape.layers,
            "hidden": shape.hidden,
            "intermediate": shape.intermediate,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "tied_head": shape.tied,
            "context": shape.positions,
            **windowed(shape),
        },
        "notes": " ".join([origin, *left_out(document)]),
    }


def unknown_parts(document: dict[str, Any], file: str) -> list[Fault]:
    """Why a model is of a kind that is not read from a config.json."""
    expected = "a decoder of attention and one feed-forward a layer"
    faults = []
    if experts := [key for key in EXPERTS if document.get(key) not in (None, 0, 1)]:
        faults.append(Fault(file, experts[0], "a mixture of experts", expected, REMEDY))
    if parts := [key for key in PARTS if document.get(key) is not None]:
        faults.append(Fault(file, parts[0], "a model of several parts (vision, sound)", expected, REMEDY))
    kinds = document.get("layer_types")
    if isinstance(kinds, list) and (others := [kind for kind in kinds if kind not in ATTENTION]):
        found = f"a hybrid: {len(others)} of {len(kinds)} layers are {others[0]!r:.40}"
        faults.append(Fault(file, "layer_types", found, expected, REMEDY))
    return faults


def windowed(shape: DecoderShape) -> dict[str, Any]:
    """The layers that attend to the last tokens only, as kinds beside the others; nothing where none does."""
    windows = [window if window is not None and window < shape.positions else None for window in shape.windows or ()]
    if not any(windows):
        return {}
    kinds = Counter(windows)
    return {
        "kinds": [
            {"layers": layers} | ({} if window is None else {"window": window}) for window, layers in kinds.items()
        ]
    }


def left_out(document: dict[str, Any]) -> list[str]:
    """What of a model its cost leaves out."""
    found = []
    quantised = document.get("quantization_config")
    if isinstance(quantised, dict):
        method = str(quantised.get("quant_method", "unnamed"))[:40]
        found.append(f"Its weights are quantised ({method}); bytes follow the scenario's precision, not the folder's.")
    return found


def name_of(folder: Path) -> str:
    """A folder's name; of a cached download the repository's."""
    parts = folder.resolve().parts
    cached = next((part for part in reversed(parts) if part.startswith("models--")), None)
    name = cached.rpartition("--")[2] if cached else parts[-1]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:100] or "model"


def vocabulary_of(tokens: Tokens | None, name: str) -> tuple[str, str]:
    """A name that models with the same ids share, and which file it was derived from."""
    if tokens is None:
        return f"of {name}", "Its vocabulary is unknown: the folder has no tokenizer.json that can be read."
    for known, (marks, pieces) in KNOWN.items():
        right = all(tokens.texts.get(token) == text for token, text in marks.items())
        if right and all(token in tokens.texts for token in (0, pieces - 1)):
            return known, f"Its vocabulary is taken for {known}, whose marks its tokenizer.json has at their ids."
    shipped = tokens_in(DATA / "models/target")
    if shipped is not None and shipped.texts == tokens.texts:
        return "stand-ins", "Its vocabulary is that of the shipped stand-ins."
    return tokens.name, "Its vocabulary is named by the ids and texts of its tokenizer.json."


def config_in(path: Path) -> Path:
    """The config.json of a folder, or the file itself."""
    return path / CONFIG if path.is_dir() else path
