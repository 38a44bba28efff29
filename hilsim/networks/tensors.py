"""The safetensors of a checkpoint folder, in one file or sharded. Only these are opened: a pickle can run code.

Folders that are written have one file of them and a `config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hilsim.describe.config_json import CONFIG, read_object
from hilsim.errors import CheckpointError, Fault, memory_short
from hilsim.files import WEIGHTS, written
from hilsim.networks.quantised_folder import converted

INDEX = f"{WEIGHTS}.index.json"
PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "pytorch_model.bin.index.json")


def weights_file(folder: Path) -> Path | None:
    """The one file of weights, else the index of a sharded checkpoint, if the folder has either."""
    return next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors, sharded or not. Raises `CheckpointError`."""
    weights = weights_file(folder)
    if weights is None:
        raise CheckpointError([no_weights(folder)])
    places = index_of(weights) if weights.name == INDEX else {}
    files = sorted(set(places.values())) if weights.name == INDEX else [WEIGHTS]
    tensors: dict[str, Tensor] = {}
    homes: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for name in files:
        path = folder / Path(name).name
        try:
            with safe_open(path, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118 (no mapping)
                    homes.setdefault(key, []).append(path.name)
                    tensors[key] = shard.get_tensor(key)
        except FileNotFoundError:
            faults.append(Fault(str(path), "", "no such file", "a shard that the index names"))
        except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            faults.append(broken(path, error))
    if weights.name == INDEX and not faults:
        faults += misplaced(places, homes, weights)
    if faults:
        raise CheckpointError(faults)
    return tensors


def no_weights(folder: Path) -> Fault:
    """The fault of a folder without safetensors: which other weights it has."""
    expected = "weights in safetensors"
    if ggufs := sorted(file.name for file in folder.glob("*.gguf")):
        return Fault(str(folder), "", f"{ggufs[0]}, a GGUF file", expected, converted(folder, gguf_file=ggufs[0]))
    pickles = [name for name in PICKLES if (folder / name).exists()]
    found = f"{pickles[0]}, a pickle, which can run code when opened" if pickles else f"no {WEIGHTS}"
    return Fault(str(folder), "", found, expected, "Save it with safetensors (transformers: save_pretrained).")


def index_of(file: Path) -> dict[str, str]:
    """Tensor names and their files."""
    shards = read_object(file).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError([Fault(str(file), "weight_map", "no readable map", "tensor names and their files")])
    return shards


def broken(path: Path, error: Exception) -> Fault:
    """A file that safetensors or PyTorch cannot read."""
    if (short := memory_short(error, f"the tensors of {path}")) is not None:
        raise short
    try:
        size = f"{path.stat().st_size} bytes"
    except (OSError, ValueError):
        size = "a name"
    reason = " ".join(str(error).split())[:200]
    found = f"{size} that are no complete safetensors file ({reason})"
    remedy = "The file is truncated or a pickle under another name: copy or save it again."
    return Fault(str(path), "", found, "weights in safetensors", remedy)


def misplaced(places: dict[str, str], homes: dict[str, list[str]], index: Path) -> Iterator[Fault]:
    """Tensors that are in another shard than the index says, in two of them, or in none that it says."""
    remedy = "Copy all shards and the index from one place again."
    if twice := [name for name, files in homes.items() if len(files) > 1]:
        found = f"the tensor in {' and in '.join(homes[twice[0]])} ({len(twice)} of {len(homes)} are in two)"
        yield Fault(str(index), some(twice), found, "each tensor in one shard", remedy)
    if absent := [name for name in places if name not in homes]:
        found = f"no such tensor in {Path(places[absent[0]]).name} ({len(absent)} of {len(places)} absent)"
        yield Fault(str(index), some(absent), found, "the tensors that the index names", remedy)
    if extra := [name for name in homes if places and name not in places]:
        found = f"a tensor of {homes[extra[0]][0]} that the index does not name ({len(extra)} of them)"
        yield Fault(str(index), some(extra), found, "the tensors that the index names", remedy)
    moved = [name for name, files in homes.items() if name in places and files != [Path(places[name]).name]]
    if moved and not twice:
        found = f"the tensor in {homes[moved[0]][0]} ({len(moved)} of {len(homes)} are elsewhere)"
        yield Fault(str(index), some(moved), found, f"it in {Path(places[moved[0]]).name}", remedy)


def some(names: list[str]) -> str:
    """The first few of a list that may be long."""
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def save_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a folder of weights; `config.json` and the weights are both there before the first takes its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / CONFIG) as document, written(folder / WEIGHTS) as weights:
        save_config(config, document)
        save_tensors(tensors, weights)


def save_config(config: Mapping[str, Any], path: Path) -> None:
    """Write a `config.json`."""
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write one file of weights, the floats among them as float16, to which they should have been rounded before."""
    halves = {name: (one.half() if one.is_floating_point() else one).contiguous() for name, one in tensors.items()}
    save_file(halves, path, metadata={"format": "pt"})
    path.chmod(0o644)  # save_file writes for the owner alone
