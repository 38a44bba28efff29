"""Trains the forecast tokens of self-speculative decoding for a target that stays as it is.

The i-th forecast token after a place of a text learns the target's distribution i places after its next token, as
the target has it where it reads the text itself. The text is read once, then forecast tokens at many places of it in a
second pass, which attend to the text before their place, to each other and to the forecast prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hilsim.networks.forecasts import Forecasts, save_forecasts
from hilsim.networks.network import KVCache, load_network
from hilsim.progress import Notify
from hilsim.text.tokenizer import load_tokenizer
from hilsim.training.corpus import read_dialogues, stream
from hilsim.training.fitting import Schedule, fit, round_to_half
from hilsim.training.recipe import distillation_loss

FOLDER = "ssd"
TOKENS, PREFIX = 3, 16  # forecast tokens, and positions of the prefix that they alone attend to


@dataclass(frozen=True)
class ForecastRecipe:
    """The knobs: dialogues to read, schedule, and places of each row of text that are learned from."""

    dialogues: int | None
    schedule: Schedule
    places: int


FULL = ForecastRecipe(1200, Schedule(1, row_tokens=256, batch_rows=2, peak_rate=1e-2, warmup_steps=20), places=64)
QUICK = ForecastRecipe(60, Schedule(1, row_tokens=32, batch_rows=4, peak_rate=1e-2, warmup_steps=2), places=8)


def train_forecasts(corpus: Path, out: Path, work: Path, *, seed: int, recipe: ForecastRecipe, notify: Notify) -> None:
    """Train forecast tokens for the target in `out`/target into `out`/ssd. Ctrl-C loses at most a minute."""
    work.mkdir(parents=True, exist_ok=True)
    network, tokenizer = load_network(out / "target"), load_tokenizer(out / "target")
    sequences = stream(read_dialogues(corpus / "train.jsonl.gz")[: recipe.dialogues], tokenizer)
    valid = torch.from_numpy(stream(read_dialogues(corpus / "valid.jsonl.gz", "in")[:1], tokenizer)[0])[None]
    forecasts = Forecasts(network, TOKENS, PREFIX)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # near the embeddings of tokens, and keys and values that say little
        for parameter in forecasts.parameters():
            parameter.normal_(0.0, 0.02, generator=generator)
        forecasts.embeddings.add_(network.embedding.weight.mean(0))
    notify(f"forecast tokens: {sum(parameter.numel() for parameter in forecasts.parameters()):,} parameters")

    def losses(batch: Tensor) -> list[Tensor]:
        return [forecast_loss(forecasts, batch, recipe.places, generator)]

    fit(
        FOLDER,
        [forecasts],
        losses,
        sequences,
        recipe.schedule,
        seed=seed,
        work=work,
        validate=lambda: [float(without_gradient(lambda: losses(valid)[0]))],
    )
    round_to_half(forecasts)
    save_forecasts(forecasts, out / FOLDER, out / "target")


@torch.no_grad()
def without_gradient(function: Callable[[], Tensor]) -> Tensor:
    """What a function returns, computed without gradients."""
    return function()


def forecast_loss(forecasts: Forecasts, batch: Tensor, places: int, generator: torch.Generator) -> Tensor:
    """Mean distillation loss of the forecast tokens at random places of texts (rows, tokens)."""
    network, count, length = forecasts.network, forecasts.tokens, batch.shape[1]
    cache = KVCache(network.config, length, batch=len(batch))
    with torch.no_grad():
        wanted = network(batch, cache).log_softmax(-1)
    at = torch.randperm(length - count - 1, generator=generator)[:places].sort().values
    ahead = (at[:, None] + torch.arange(1, count + 1)).flatten()  # the row that each forecast stands in for
    x = forecasts.embedded([-1 - number for number in range(count)]).repeat(len(batch) * len(at), 1)
    logits, _ = forecasts.through(x, cache, forecasts.layout_at(length, at.numpy()))
    return distillation_loss(logits, wanted[:, ahead].flatten(0, 1), batch[:, ahead + 1])
