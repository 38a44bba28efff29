"""Quantised checkpoint folders: weights as they were stored, turned into floats, or refused by their format's name.

Formats whose packing is published are read: GPTQ, AWQ (gemm), FP8 and INT8 with scales, compressed-tensors (packed and
not), bitsandbytes (NF4, FP4, INT8). What comes out are exactly the values that a deployed kernel multiplies with, up to
its own rounding; what quantising took from the original weights is in no such folder, which the note states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.describe.config_json import CONFIG, Fields, read_object
from hilsim.errors import CheckpointError, Fault
from hilsim.networks.tensors import StoredTensor, converted

if TYPE_CHECKING:
    from hilsim.networks.quantised_folder import QuantisedFolder

BESIDE = ("quantize_config.json", "quant_config.json")  # where early tools of GPTQ and AWQ said what they had done
# Endings of tensors that only quantised folders have, and the method that leaves them.
TRACES = {
    ".qweight": "gptq or awq",
    ".weight_packed": "compressed-tensors",
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_scale_inv": "fp8",
    ".weight_scale": "fp8 or compressed-tensors",
}
RUNTIME = (".input_scale", ".activation_scale", ".output_scale", ".k_scale", ".v_scale")  # of activations and caches


def dequantised(
    tensors: dict[str, StoredTensor], document: Mapping[str, Any], folder: Path
) -> tuple[dict[str, StoredTensor], str]:
    """The tensors with float weights, and a note about what they were; as they came where they are no quantised ones.

    PyTorch turns quantised weights into floats; a folder of floats does without it.

    Raises `CheckpointError` that names a format which is not read, or what contradicts it.
    """
    found = settings_of(document, folder)
    if found is None:
        traces = {method: name for name in tensors for end, method in TRACES.items() if name.endswith(end)}
        if not traces:
            return tensors, ""
        method, name = next(iter(traces.items()))
        refused = f"quantised weights ({method}, as {name} shows), and no quantization_config"
        remedy = "Add the quantization_config that they were made with, or use the folder of float weights."
        raise CheckpointError([Fault(str(folder / CONFIG), "quantization_config", refused, "how to read them", remedy)])
    fields = found
    if fields.faults:
        raise CheckpointError(fields.faults)
    from hilsim.networks.quantised_folder import QuantisedFolder
    from hilsim.networks.quantised_formats import WAYS

    method = str(fields.document.get("quant_method") or guessed(tensors)).lower()
    way = WAYS.get(method)
    if way is None:
        raise CheckpointError([unread(fields, method, [*WAYS], folder)])
    work = QuantisedFolder(folder, fields, {name: tensor.as_tensor() for name, tensor in tensors.items()})
    format_name = way(work)
    if work.fields.faults or work.faults:
        raise CheckpointError([*work.fields.faults, *work.faults])
    runtime = [name for name in work.tensors if name.endswith(RUNTIME)]
    for name in runtime:
        del work.tensors[name]
    floats = {name: StoredTensor.of(tensor) for name, tensor in (work.tensors | work.made).items()}
    return floats, quantisation_note(format_name, work, len(runtime)) if work.made else ""


def settings_of(document: Mapping[str, Any], folder: Path) -> Fields | None:
    """A folder's quantisation settings: in config.json, or in a file of its own; None where it says nothing."""
    for name in ("quantization_config", "compression_config"):
        if document.get(name) is not None:
            return Fields(dict(document), str(folder / CONFIG)).object(name)
    for name in BESIDE:
        if (folder / name).is_file():
            return Fields(read_object(folder / name), str(folder / name))
    return None


def guessed(tensors: Mapping[str, StoredTensor]) -> str:
    """GPTQ packs along the inputs, AWQ along the outputs: the method of a file that does not name it."""
    for name, packed in tensors.items():
        if name.endswith(".qweight"):
            scales = tensors.get(f"{name.removesuffix('.qweight')}.scales")
            return "awq" if scales is not None and packed.shape[-1] != scales.shape[-1] else "gptq"
    return "unnamed"


def unread(fields: Fields, method: str, read: Sequence[str], folder: Path) -> Fault:
    """The fault of a format that is not read, with the command that makes floats of it where transformers can."""
    place = f"{fields.place}quant_method"
    found = f"weights quantised by {method!r}"
    expected = f"float weights, or one of {', '.join(read)}"
    return Fault(fields.file, place, found, expected, converted(folder))


def quantisation_note(format_name: str, work: QuantisedFolder, runtime: int) -> str:
    """What a reader must know of weights that were quantised."""
    note = f"{len(work.made)} matrices are {format_name}, dequantised on load: the stored values exactly, in float32."
    if work.steps:
        share = sum(work.steps) / len(work.steps)
        note += (
            f" A step of their grid is {share:.0%} of the weights' root mean square: where weights were rounded to the"
        )
        note += f" nearest step, that is an error of {share / 12**0.5:.1%} of it."
    if runtime:
        note += f" {runtime} scales of activations or caches are not used: activations stay floats here."
    return f"{note} How far its text lies from that of the original weights is unknown."
