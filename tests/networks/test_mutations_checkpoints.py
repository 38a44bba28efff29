"""Broken checkpoint folders by the hundred: config.json, generation_config.json, safetensors, their index, shapes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hilsim.describe.catalogue import load_named
from hilsim.describe.model import Model
from hilsim.networks.checkpoint import load_network, save_network
from hilsim.networks.network import Network, NetworkConfig
from hilsim.places import CODE as PROJECT
from hilsim.text.tokenizer import load_tokenizer
from hilsim.training.fitting import initialise, round_to_half
from tests import mutations

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

COUNT = 300
SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4, "kv_heads": 2}


def read_folder(path: Path) -> None:
    """A whole stand-in of which one file is broken, and its logits."""
    network = load_network(path.parent)
    with torch.inference_mode():
        network(torch.zeros(1, 3, dtype=torch.int64) % network.config.vocab_size)


def read_ends(path: Path) -> None:
    """What a generation_config.json says of ends."""
    load_tokenizer(path.parent)


def read_model(path: Path) -> None:
    """A deployed model's shape."""
    load_named("model", Model, str(path), path)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    network = Network(NetworkConfig(**SIZES, head_dim=8, max_positions=64)).eval().requires_grad_(False)
    initialise(network, 5)
    round_to_half(network)
    save_network(network, folder, end_token=2, begin_token=1, pad_token=0)
    document = json.loads((folder / "config.json").read_text())
    document["rope_scaling"] = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "attention_factor": 1.1,
        "beta_fast": 32,
        "beta_slow": 1,
        "truncate": True,
    }
    (folder / "config.json").write_text(json.dumps(document, indent=1))
    return folder


def mixed(good: bytes, chance: random.Random) -> list[bytes]:
    """A third with bytes changed, the rest with values or keys changed."""
    document = json.loads(good)
    texts = [mutations.changed_bytes(good, chance) for _ in range(COUNT // 3)]
    values = [mutations.changed_tree(document, chance) for _ in range(COUNT - len(texts))]
    return texts + [mutations.json_bytes(value) for value in values]


def inputs(folder: Path, good: Path, name: str, broken: list[bytes]) -> list[tuple[str, bytes]]:
    """One folder for each broken file, the others linked from the good one."""
    found = []
    for number, data in enumerate(broken):
        place = folder / str(number)
        place.mkdir()
        for file in good.iterdir():
            if file.name != name:
                (place / file.name).symlink_to(file)
        found.append((f"{number}/{name}", data))
    return found


READERS: dict[str, Callable[[Path], None]] = {"stand-in": read_folder, "deployed": read_model}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_config_json_breaks_the_program(reader: Callable[[Path], None], good: Path, tmp_path: Path) -> None:
    broken = mixed((good / "config.json").read_bytes(), random.Random(1))
    mutations.survive(reader, inputs(tmp_path, good, "config.json", broken), tmp_path, accepted=range(20, 250))


def test_no_generation_config_breaks_the_program(tmp_path: Path) -> None:
    source = PROJECT / "models/target"
    broken = mixed((source / "generation_config.json").read_bytes(), random.Random(2))
    mutations.survive(read_ends, inputs(tmp_path, source, "generation_config.json", broken), tmp_path)


def test_no_safetensors_break_the_program(good: Path, tmp_path: Path) -> None:
    """Bytes anywhere, and in the header alone."""
    chance, whole = random.Random(3), (good / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    broken = [mutations.changed_bytes(whole, chance) for _ in range(COUNT // 2)]
    broken += [mutations.changed_bytes(whole[:length], chance) + whole[length:] for _ in range(COUNT // 2)]
    mutations.survive(read_folder, inputs(tmp_path, good, "model.safetensors", broken), tmp_path)


def test_no_index_breaks_the_program(good: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for file in good.iterdir():
        (sharded / file.name.replace("model.safetensors", "part.safetensors")).symlink_to(file)
    names = [name for name, _ in Network(NetworkConfig(**SIZES, head_dim=8, max_positions=64)).named_parameters()]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "part.safetensors")}
    broken = mixed(json.dumps(index).encode(), random.Random(4))
    mutations.survive(read_folder, inputs(tmp_path, sharded, "model.safetensors.index.json", broken), tmp_path)
