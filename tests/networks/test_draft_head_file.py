"""Folders of draft heads: what is written is read; what belongs to another target or is broken is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hilsim.describe.config_json import is_draft_head
from hilsim.errors import CheckpointError
from hilsim.files import weights_digest
from hilsim.networks.draft_head_file import load_draft_head, save_draft_head
from hilsim.networks.head_decoder import HeadDecoder
from hilsim.networks.network import Network, load_network, save_network
from hilsim.training.fitting import round_to_half
from tests.networks.test_decoder import BASE, randomised
from tests.networks.test_draft_head import CONFIGS, TOKENS, head_of, read_by


def target_at(folder: Path) -> Network:
    network = randomised(BASE)
    round_to_half(network)
    save_network(network, folder, end_token=2, begin_token=1, pad_token=0)
    return load_network(folder, "float64")


@pytest.fixture
def target(tmp_path: Path) -> Network:
    return target_at(tmp_path / "target")


@pytest.fixture
def folder(tmp_path: Path, target: Network) -> Path:
    """A trimmed head of three layers' states."""
    save_draft_head(head_of(CONFIGS["eagle3"], target), tmp_path / "head")
    return tmp_path / "head"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_head_that_was_saved_proposes_as_before(name: str, target: Network, tmp_path: Path) -> None:
    head = head_of(CONFIGS[name], target)
    round_to_half(head)
    save_draft_head(head, tmp_path / "head")
    assert is_draft_head(tmp_path / "head")
    assert not is_draft_head(tmp_path / "target")
    again = load_draft_head(tmp_path / "head", target, head.config.cache)
    assert (type(again), again.config.kind, again.config.read) == (type(head), head.config.kind, head.config.read)
    decoder = read_by(target, head.config.read)
    rows = [HeadDecoder(one, 40).row(TOKENS[:10], 9, decoder) for one in (head, again)]
    np.testing.assert_array_equal(rows[0], rows[1])
    document = json.loads((tmp_path / "head/config.json").read_text())
    assert document["target_digest"] == weights_digest(tmp_path / "target")


def test_a_head_of_another_target_is_refused(folder: Path, tmp_path: Path) -> None:
    """Of the same shape, so that nothing else could tell."""
    other = randomised(BASE)
    other.norm.mul_(2)
    save_network(other, tmp_path / "other", end_token=2, begin_token=1, pad_token=0)
    with pytest.raises(CheckpointError, match=r"target_digest: found \w{16}; expected \w{16}, the weights of .*other"):
        load_draft_head(folder, load_network(tmp_path / "other"))


Change = Callable[[dict[str, object]], object]
CONFIG_FAULTS: dict[str, tuple[Change, str]] = {
    "no kind": (
        lambda d: d.pop("head_kind"),
        "head_kind: found None; expected one of eagle, eagle3, mtp, medusa, block",
    ),
    "another kind": (lambda d: d.update(head_kind="hydra"), "head_kind: found 'hydra'"),
    "no digest": (lambda d: d.pop("target_digest"), "target_digest: found None"),
    "another width": (lambda d: d.update(hidden_size=64), "hidden_size: found 64; expected 32, the target's"),
    "another vocabulary": (lambda d: d.update(vocab_size=51), "vocab_size: found 51; expected 50, the target's"),
    "a layer that there is not": (lambda d: d.update(layers_read=[0, 2]), "layers_read: found .0, 2.; expected a list"),
    "no layers": (lambda d: d.update(layers_read=[]), "layers_read: found"),
    "more entries than ids": (lambda d: d.update(head_entries=51), "head_entries: found 51"),
    "no positions": (lambda d: d.update(head_kind="medusa"), "positions: found None"),
}


@pytest.mark.parametrize(("change", "words"), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS)
def test_a_broken_config_is_named(change: Change, words: str, folder: Path, target: Network) -> None:
    document = json.loads((folder / "config.json").read_text())
    change(document)
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=words):
        load_draft_head(folder, target)


Tensors = dict[str, torch.Tensor]
WEIGHT_FAULTS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda t: t.pop("norm"), "norm: found no such tensor .1 of"),
    "misshapen": (lambda t: t.update(norm=torch.ones(31)), r"norm: found shape .31,. .*expected shape .32,."),
    "unknown": (
        lambda t: t.update(more=torch.ones(1)),
        r"more: found 1 tensor.*expected the tensors of a draft head .eag",
    ),
    "no ids": (lambda t: t.pop("tokens"), "tokens: found no such tensor; expected 20 distinct ids below 50"),
    "ids of floats": (lambda t: t.update(tokens=t["tokens"].float()), "tokens: found float32"),
    "too few ids": (lambda t: t.update(tokens=t["tokens"][1:]), r"tokens: found int64 .19,."),
    "ids beyond": (lambda t: t.update(tokens=t["tokens"] + 40), "tokens: found ids from 41 to 79; expected"),
    "ids twice": (lambda t: t.update(tokens=t["tokens"] // 4), "tokens: found ids from 0 to 9, not in ascending order"),
}


@pytest.mark.parametrize(("change", "words"), WEIGHT_FAULTS.values(), ids=WEIGHT_FAULTS)
def test_broken_weights_are_named(
    change: Callable[[Tensors], object], words: str, folder: Path, target: Network
) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_draft_head(folder, target)


def test_a_truncated_file_is_named(folder: Path, target: Network) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="no complete safetensors file"):
        load_draft_head(folder, target)


def test_a_folder_that_is_not_there_is_named(target: Network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_draft_head(tmp_path / "nowhere", target)


def test_a_model_is_no_head(target: Network, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model_type: found 'llama'; expected one of hilsim_draft_head"):
        load_draft_head(tmp_path / "target", target)
