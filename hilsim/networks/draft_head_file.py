"""Folders of draft heads: `config.json` with the head's shape and the digest of its target, `model.safetensors`.

A head reads the hidden states of the very network that it was trained for, so another target is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hilsim.describe.config_json import CONFIG, HEAD_TYPE, Fields, read_object, require_folder
from hilsim.errors import CheckpointError, Fault
from hilsim.files import WEIGHTS, weights_digest
from hilsim.networks.checkpoint import check_tensors
from hilsim.networks.draft_head import CLASSES, DraftHead, HeadConfig
from hilsim.networks.network import Network, arrays_of
from hilsim.networks.tensors import StoredTensor, load_tensors, save_folder

IDS = "tokens"
RUNNING = ("eagle", "eagle3", "mtp")  # kinds without a number of positions
TRAIN = "Choose the head that was trained for this target, or train one (`hilsim train`)."


def load_draft_head(folder: Path, target: Network, cache: str | None = None) -> DraftHead:
    """The head of a folder over a loaded target, computing in the target's numbers, ready to draft.

    `cache` is the number format of its own keys and values. Raises `CheckpointError` with every fault found.
    """
    require_folder(folder)
    fields = Fields(read_object(folder / CONFIG), str(folder / CONFIG))
    config = replace(parsed(fields, target), cache=cache)
    if fields.faults:
        raise CheckpointError(fields.faults)
    head, tensors = CLASSES[config.kind](config, target), load_tensors(folder)
    ids = {} if config.entries is None else {IDS: checked_ids(tensors, head, folder)}
    shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items() if name != IDS}
    check_tensors(tensors, shapes, folder, f"a draft head ({config.kind})")
    head.load_state_dict({name: tensor.as_tensor() for name, tensor in tensors.items()} | ids, strict=True)
    return head.to(target.cos.dtype).eval().requires_grad_(False)


def parsed(fields: Fields, target: Network) -> HeadConfig:
    """The shape in a config.json; what is wrong is left in `fields.faults`."""
    fields.choice("model_type", None, (HEAD_TYPE,), "Draft heads are written by `hilsim train`.")
    kind = fields.choice("head_kind", None, tuple(CLASSES))
    own = fields.document.get("target_digest")
    if target.folder is not None and own != (theirs := weights_digest(target.folder)):
        found = own[:16] if isinstance(own, str) else repr(own)
        expected = f"{str(theirs)[:16]}, the weights of {target.folder}: a head reads the states of one target alone"
        fields.faults.append(Fault(fields.file, "target_digest", found, expected, TRAIN))
    sizes = target.config
    for name, size in (("hidden_size", sizes.hidden_size), ("vocab_size", sizes.vocab_size)):
        if fields.whole(name) != size:
            fields.fault(name, f"{size}, the target's", TRAIN)
    read = fields.document.get("layers_read")
    if not isinstance(read, list) or not read or not all(isinstance(i, int) and 0 <= i < sizes.layers for i in read):
        fields.fault("layers_read", f"a list of layers from 0 to {sizes.layers - 1}, the target's")
        read = [0]
    given = fields.document.get("head_entries") is not None
    return HeadConfig(
        kind=next(one for one in CLASSES if one == kind),
        read=tuple(read),
        layers=fields.whole("num_hidden_layers", least=0, most=1024),
        intermediate_size=fields.whole("intermediate_size", least=0),
        entries=fields.whole("head_entries", most=sizes.vocab_size) if given else None,
        positions=None if kind in RUNNING else fields.whole("positions", most=1024),
    )


def checked_ids(tensors: dict[str, StoredTensor], head: DraftHead, folder: Path) -> Tensor:
    """The ids that a trimmed head proposes, taken out of its tensors: distinct ids of the target, in their order."""
    given, size = tensors.pop(IDS, None), head.target.config.vocab_size
    found = "no such tensor" if given is None else f"{given.kind} {given.shape}"
    if given is not None and given.kind == "int64" and given.shape == tuple(head.tokens.shape):
        ids = given.numbers
        ascending = bool((ids[1:] > ids[:-1]).all())
        if ascending and int(ids[0]) >= 0 and int(ids[-1]) < size:
            return given.as_tensor()
        found = f"ids from {int(ids.min())} to {int(ids.max())}{'' if ascending else ', not in ascending order'}"
    expected = f"{len(head.tokens)} distinct ids below {size}, the target's, as int64 in ascending order"
    raise CheckpointError([Fault(str(folder / WEIGHTS), IDS, found, expected, TRAIN)])


def save_draft_head(head: DraftHead, folder: Path) -> None:
    """Write a head; weights as float16, to which they should have been rounded before it was judged."""
    config, target = head.config, head.target
    assert target.folder is not None, "a head belongs to a target that is on disk"
    document: dict[str, Any] = {
        "model_type": HEAD_TYPE,
        "head_kind": config.kind,
        "target_digest": weights_digest(target.folder),
        "hidden_size": target.config.hidden_size,
        "vocab_size": target.config.vocab_size,
        "layers_read": list(config.read),
        "num_hidden_layers": config.layers,
        "intermediate_size": head.network_config.intermediate_size,
        "head_entries": config.entries,
        "positions": config.positions,
    }
    save_folder(folder, document, arrays_of(head))
