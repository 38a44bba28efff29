"""The safetensors of a checkpoint folder, in one file or sharded. Only these are opened: a pickle can run code.

Folders that are written have one file of them and a `config.json`.
"""

from __future__ import annotations

import json
import mmap
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hilsim.describe.config_json import CONFIG, read_object
from hilsim.errors import CheckpointError, Fault, memory_short
from hilsim.files import WEIGHTS, written

if TYPE_CHECKING:
    from torch import Tensor

INDEX = f"{WEIGHTS}.index.json"
# Kinds of numbers by their names in a safetensors file: PyTorch's name, and what NumPy holds them in.
KINDS = {
    "F64": ("float64", "<f8"), "F32": ("float32", "<f4"), "F16": ("float16", "<f2"), "BF16": ("bfloat16", "<u2"),
    "I64": ("int64", "<i8"), "I32": ("int32", "<i4"), "I16": ("int16", "<i2"), "I8": ("int8", "|i1"),
    "U64": ("uint64", "<u8"), "U32": ("uint32", "<u4"), "U16": ("uint16", "<u2"), "U8": ("uint8", "|u1"),
    "BOOL": ("bool", "|b1"), "C64": ("complex64", "<c8"), "F8_E4M3": ("float8_e4m3fn", "|u1"),
    "F8_E5M2": ("float8_e5m2", "|u1"), "F8_E8M0": ("float8_e8m0fnu", "|u1"),
}  # fmt: skip
PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: `numbers` as NumPy holds them, and their `kind` by PyTorch's name.

    NumPy has no bfloat16 and no float8; of these the bits are held.
    """

    numbers: npt.NDArray[Any]
    kind: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape

    def as_floats(self) -> npt.NDArray[np.float32]:
        """Its values in float32; larger ones become infinite."""
        if self.kind == "bfloat16":  # the upper half of a float32
            return (self.numbers.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return self.numbers.astype(np.float32, copy=False)

    def as_tensor(self) -> Tensor:
        """It in PyTorch, in the same memory where that is aligned."""
        import torch

        whole = np.require(self.numbers, requirements=["A", "W"])
        return torch.from_numpy(whole).view(getattr(torch, self.kind))

    @staticmethod
    def of(tensor: Tensor) -> StoredTensor:
        """A tensor of floats or bfloat16, in the same memory."""
        kind = str(tensor.dtype).removeprefix("torch.")
        bits = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8", "float8_e8m0fnu": "uint8"}
        import torch

        held = tensor.view(getattr(torch, bits[kind])) if kind in bits else tensor
        return StoredTensor(held.numpy(), kind)


def weights_file(folder: Path) -> Path | None:
    """The one file of weights, else the index of a sharded checkpoint, if the folder has either."""
    return next((folder / name for name in (WEIGHTS, INDEX) if (folder / name).is_file()), None)


def load_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's safetensors, sharded or not. Raises `CheckpointError`."""
    weights = weights_file(folder)
    if weights is None:
        raise CheckpointError([no_weights(folder)])
    places = index_of(weights) if weights.name == INDEX else {}
    files = sorted(set(places.values())) if weights.name == INDEX else [WEIGHTS]
    tensors: dict[str, StoredTensor] = {}
    homes: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for name in files:
        path = folder / Path(name).name
        try:
            found = tensors_of(path)
        except FileNotFoundError:
            faults.append(Fault(str(path), "", "no such file", "a shard that the index names"))
        except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as error:
            faults.append(broken(path, error))
        else:
            tensors |= found
            for key in found:
                homes.setdefault(key, []).append(path.name)
    if weights.name == INDEX and not faults:
        faults += misplaced(places, homes, weights)
    if faults:
        raise CheckpointError(faults)
    return tensors


def tensors_of(file: Path) -> dict[str, StoredTensor]:
    """Every tensor of one file, whose pages the system reads when they are looked at.

    Raises what safetensors raises of a broken file, and `KeyError` for a kind of numbers that is not known.
    """
    with safe_open(file, framework="np"):  # checks the whole header
        pass
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        # A private copy of what is written to; the file stays as it is.
        memory = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)[8 + length :]
    header.pop("__metadata__", None)
    found = {}
    for name, entry in sorted(header.items()):
        kind, dtype = KINDS[entry["dtype"]]
        numbers = memory[slice(*entry["data_offsets"])].view(dtype).reshape(entry["shape"])
        found[name] = StoredTensor(numbers, kind)
    return found


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
    """A file that safetensors cannot read."""
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


def converted(folder: Path, **options: str) -> str:
    """A remedy: the command that writes a folder of float weights by transformers."""
    arguments = "".join(f", {name}={value!r}" for name, value in options.items())
    load = f"from_pretrained({str(folder)!r}, dtype='float32'{arguments})"
    code = f"from transformers import AutoModelForCausalLM as A; m = A.{load}; "
    last = "m" if options else "m.dequantize()"
    code += f"{last}.save_pretrained({str(folder) + '-float'!r})"
    return f"Make a folder of floats where its packages are installed: python -c {shlex.quote(code)}"


def save_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a folder of weights; `config.json` and the weights are both there before the first takes its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with written(folder / CONFIG) as document, written(folder / WEIGHTS) as weights:
        save_config(config, document)
        save_tensors(tensors, weights)


def save_config(config: Mapping[str, Any], path: Path) -> None:
    """Write a `config.json`."""
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def save_tensors(tensors: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    """Write one file of weights, the floats among them as float16, to which they should have been rounded before."""
    halves = {name: one.astype(np.float16) if one.dtype.kind == "f" else one for name, one in tensors.items()}
    save_file({name: np.ascontiguousarray(one) for name, one in halves.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # save_file writes for the owner alone
