"""Forecast tokens: the network's own rows stay what they were, and theirs are those of a vocabulary that has them."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hilsim.errors import CheckpointError
from hilsim.files import weights_digest
from hilsim.networks.config import NetworkConfig
from hilsim.networks.decoder import Decoder
from hilsim.networks.forecasts import ForecastingDecoder, Forecasts, load_forecasts, save_forecasts
from hilsim.networks.network import Embedding, Network, load_network, weights_of
from hilsim.places import DATA
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer
from hilsim.training.corpus import read_dialogues, stream
from hilsim.training.forecasts import PREFIX, QUICK, forecast_loss, train_forecasts
from tests.networks.test_decoder import SHAPES, randomised

TOKENS = [3, 1, 4, 1, 5]
NODES, PARENTS = [9, 2, -1, -2, -1, -2, -1, -2], [-1, 0, -1, 2, 0, 4, 1, 6]  # 9, 2 below it, and forecasts after all


def drawn(network: Network, prefix: int) -> Forecasts:
    """Forecast tokens and a prefix that say something."""
    forecasts = Forecasts(network, 2, prefix).to(network.cos.dtype).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in forecasts.parameters():
        parameter.normal_(0.0, 0.5, generator=generator)
    return forecasts


def with_them(network: Network, forecasts: Forecasts) -> Network:
    """A copy of the network whose vocabulary has the forecast tokens too, as ids after all others."""
    larger = copy.copy(network)
    larger._modules = dict(network._modules)
    rows = torch.cat((network.embedding.weight, forecasts.embeddings))
    larger.embedding = Embedding(*rows.shape, _weight=rows)
    return larger


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("already", [0, 3])
def test_rows_of_forecast_tokens_are_those_of_a_larger_vocabulary(config: NetworkConfig, already: int) -> None:
    network = randomised(config)
    forecasts = drawn(network, prefix=0)
    decoder = ForecastingDecoder(weights_of(network), 10, forecasts)
    decoder.feed(TOKENS[:already], 1) if already else None
    rows = decoder.feed_tree(TOKENS[already:], NODES, PARENTS)
    assert decoder.length == len(TOKENS)
    size = config.vocab_size
    for place, row in enumerate(rows, start=-1):
        path = [NODES[node] if NODES[node] >= 0 else size - 1 - NODES[node] for node in path_of(place)]
        plain = Decoder(weights_of(with_them(network, forecasts)), 20).feed([*TOKENS, *path])[0]
        np.testing.assert_allclose(row, plain, atol=1e-9)
    # What comes after is as if there had been no tree.
    np.testing.assert_allclose(decoder.feed([7])[0], Decoder(weights_of(network), 20).feed([*TOKENS, 7])[0], atol=1e-9)


def path_of(place: int) -> list[int]:
    return [] if place < 0 else [*path_of(PARENTS[place]), place]


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_the_prefix_changes_forecasts_alone(config: NetworkConfig) -> None:
    network = randomised(config)
    without, with_prefix = (
        ForecastingDecoder(weights_of(network), 20, drawn(network, prefix)).feed_tree(TOKENS, NODES, PARENTS)
        for prefix in (0, 3)
    )
    for token, a, b in zip([5, *NODES], without, with_prefix, strict=True):
        assert np.allclose(a, b, atol=1e-9) == (token >= 0)


def test_places_of_a_text_are_learned_as_they_are_decoded() -> None:
    """The pass that training makes at places of a text gives the rows that a tree below each place gives."""
    network = randomised(SHAPES[next(iter(SHAPES))])
    forecasts = drawn(network, prefix=3)
    at = np.array([1, 2, 4])
    reader = Decoder(weights_of(network), 10)
    reader.feed(TOKENS, 1)
    x = forecasts.embedded([-1, -2]).repeat(len(at), 1)
    with torch.inference_mode():
        logits, _ = forecasts.through(x, reader.cache, forecasts.layout_at(len(TOKENS), at))
    for number, place in enumerate(at.tolist()):
        decoder = ForecastingDecoder(weights_of(network), 10, forecasts)
        rows = decoder.feed_tree(TOKENS[: place + 1], [-1, -2], [-1, 0])
        np.testing.assert_allclose(logits[0, 2 * number : 2 * number + 2], np.array(rows[1:]), atol=1e-9)


def saved(folder: Path, network: Network) -> Path:
    """Forecast tokens in a folder, for a target beside it."""
    (folder / "target").mkdir()
    (folder / "target" / "model.safetensors").write_bytes(b"some weights")
    save_forecasts(drawn(network, prefix=1), folder / "ssd", folder / "target")
    return folder / "ssd"


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    network = randomised(SHAPES[next(iter(SHAPES))])
    found = load_forecasts(saved(tmp_path, network), network, tmp_path / "target")
    for ours, theirs in zip(found.parameters(), drawn(network, prefix=1).parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert found.embeddings.dtype == network.cos.dtype


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder.parent / "target" / "model.safetensors").write_bytes(b"others"), "of another target"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "no complete safetensors file"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), "model_type 'llama'"),
        (lambda folder: reshaped(folder, prefix=2), "tensors of shapes"),
        (lambda folder: reshaped(folder, prefix="two"), "two numbers up to 64"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path: Path, change: object, words: str) -> None:
    network = randomised(SHAPES[next(iter(SHAPES))])
    folder = saved(tmp_path, network)
    assert callable(change)
    change(folder)
    with pytest.raises(CheckpointError, match=words):
        load_forecasts(folder, network, tmp_path / "target")


def reshaped(folder: Path, prefix: object) -> None:
    """Another size in config.json than in the tensors."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prefix": prefix}))


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_the_target_alone(tmp_path: Path) -> None:
    """A few steps from nothing learned; what is written is what was trained, and the target is not touched."""
    torch.set_num_threads(1)
    shutil.copytree(DATA / "models" / "target", tmp_path / "target")
    before = weights_digest(tmp_path / "target")
    train_forecasts(DATA / "models/corpus", tmp_path, tmp_path / "work", seed=1, recipe=QUICK, notify=print)
    assert weights_digest(tmp_path / "target") == before
    network = load_network(tmp_path / "target")
    trained = load_forecasts(tmp_path / "ssd", network, tmp_path / "target")
    text = torch.from_numpy(stream(read_dialogues(DATA / "models/corpus/valid.jsonl.gz")[:1], tokenizer())[0])[None]
    with torch.no_grad():
        first, last = (
            float(forecast_loss(each, text, 16, torch.Generator().manual_seed(1)))
            for each in (Forecasts(network, trained.tokens, PREFIX), trained)
        )
    assert last < first - 0.5


def tokenizer() -> ChatTokenizer:
    return load_tokenizer(DATA / "models" / "target")
