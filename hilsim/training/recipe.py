"""The recipe that made the shipped stand-ins, start to end: tokenizer, target, text by the target, distilled drafts.

Every stage writes its result into the work folder and is skipped when that is there, so a stopped run goes on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from hilsim.errors import Fault, InputError
from hilsim.files import WEIGHTS, written
from hilsim.networks.config import NetworkConfig
from hilsim.networks.draft_head_file import save_draft_head
from hilsim.networks.network import KVCache, Network, load_network, save_network
from hilsim.progress import Notify
from hilsim.text.tokenizer import load_tokenizer
from hilsim.training.corpus import Tokens, read_dialogues, stream
from hilsim.training.fitting import Schedule, fit, initialise, round_to_half
from hilsim.training.heads import FOLDER, HEADS, divergence, trained_heads
from hilsim.training.vocabulary import save_tokenizer, train_tokenizer

ENTRIES = 2048
POSITIONS = 1024
TARGET = "target"
DRAFTS = ("draft-2m", "draft-0.8m", "draft-0.2m")
# Weight of the target's distribution against the text itself when a draft is distilled.
DISTILLED_SHARE = 0.7


def shape(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int) -> NetworkConfig:
    """A stand-in's shape; head size 64 as in Llama 3.2 1B, tied head."""
    return NetworkConfig(
        vocab_size=ENTRIES,
        hidden_size=hidden,
        intermediate_size=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=64,
        max_positions=POSITIONS,
        tied=True,
    )


SHAPES = {
    "target": shape(256, 768, 6, 4, 2),
    "draft-2m": shape(192, 512, 4, 3, 3),
    "draft-0.8m": shape(128, 320, 3, 2, 2),
    "draft-0.2m": shape(64, 192, 1, 1, 1),
}


@dataclass(frozen=True)
class Recipe:
    """The knobs of a whole training; `QUICK` is a few steps of everything, to test the path."""

    dialogues: int | None
    target: Schedule
    drafts: Schedule
    heads: Schedule
    spoken_rows: int
    spoken_tokens: int
    distilled_corpus_share: float
    valid_dialogues: int
    bfloat16: bool


FULL = Recipe(
    dialogues=None,
    target=Schedule(epochs=2, row_tokens=1024, batch_rows=6, peak_rate=3e-3),
    drafts=Schedule(epochs=1, row_tokens=1024, batch_rows=2, peak_rate=3e-3),
    heads=Schedule(epochs=1, row_tokens=256, batch_rows=2, peak_rate=3e-3, warmup_steps=50),
    spoken_rows=1024,
    spoken_tokens=256,
    distilled_corpus_share=0.55,
    valid_dialogues=40,
    bfloat16=True,
)
QUICK = Recipe(
    dialogues=200,
    target=Schedule(epochs=1, row_tokens=128, batch_rows=8, peak_rate=3e-3, warmup_steps=5),
    drafts=Schedule(epochs=1, row_tokens=128, batch_rows=8, peak_rate=4e-3, warmup_steps=5),
    heads=Schedule(epochs=1, row_tokens=64, batch_rows=4, peak_rate=3e-3, warmup_steps=5),
    spoken_rows=16,
    spoken_tokens=32,
    distilled_corpus_share=0.5,
    valid_dialogues=4,
    bfloat16=False,
)


def train(corpus: Path, out: Path, work: Path, *, seed: int, recipe: Recipe, notify: Notify) -> None:
    """Train everything from `corpus` into checkpoint folders under `out`. Ctrl-C loses at most a minute."""
    if not (corpus / "train.jsonl.gz").is_file():
        raise InputError(
            [Fault(str(corpus), "", "no train.jsonl.gz", "the corpus folder", "The shipped one is models/corpus.")]
        )
    work.mkdir(parents=True, exist_ok=True)
    dialogues = read_dialogues(corpus / "train.jsonl.gz")[: recipe.dialogues]
    if not (work / "tokenizer" / "tokenizer.json").is_file():
        notify(f"tokenizer: byte-level BPE, {ENTRIES} entries, from {len(dialogues)} dialogues")
        save_tokenizer(train_tokenizer(dialogues, ENTRIES), work / "tokenizer", POSITIONS)
    tokenizer = load_tokenizer(work / "tokenizer")
    sequences = stream(dialogues, tokenizer)
    notify(f"corpus: {len(sequences)} dialogues, {sum(len(ids) for ids in sequences):,} tokens")
    valid = stream(read_dialogues(corpus / "valid.jsonl.gz", "in")[: recipe.valid_dialogues], tokenizer)

    def finish(name: str, network: Network) -> None:
        round_to_half(network)
        for file in (work / "tokenizer").iterdir():
            (out / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, out / name / file.name)
        ids = {mark: tokenizer.encode(f"<|{mark}|>")[0] for mark in ("begin", "end", "pad")}
        save_network(network, out / name, begin_token=ids["begin"], end_token=ids["end"], pad_token=ids["pad"])

    if not (out / TARGET / "model.safetensors").is_file():
        target = Network(SHAPES[TARGET])
        initialise(target, seed)
        notify(f"{TARGET}: {target.parameter_count:,} parameters")

        def next_token_loss(batch: Tensor) -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                logits = target(batch[:, :-1])
            return [F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())]

        fit(
            TARGET,
            [target],
            next_token_loss,
            sequences,
            recipe.target,
            seed=seed,
            work=work,
            validate=lambda: [mean_loss(target, valid)],
        )
        finish(TARGET, target)
    target = load_network(out / TARGET)
    if not (work / "spoken.npy").is_file():
        spoken = generate_text(target, sequences, recipe, seed)
        with written(work / "spoken.npy") as path, path.open("wb") as file:
            np.save(file, spoken)
    spoken = np.load(work / "spoken.npy")
    notify(f"text by the target: {spoken.size:,} tokens")
    if not all((out / name / "model.safetensors").is_file() for name in DRAFTS):
        drafts = [Network(SHAPES[name]) for name in DRAFTS]
        for index, draft in enumerate(drafts):
            initialise(draft, seed + 1 + index)
            notify(f"{DRAFTS[index]}: {draft.parameter_count:,} parameters")

        def distillation_losses(batch: Tensor) -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                with torch.no_grad():
                    wanted = target(batch[:, :-1]).float().log_softmax(-1).flatten(0, 1)
                return [distillation_loss(draft(batch[:, :-1]), wanted, batch[:, 1:]) for draft in drafts]

        share = int(len(sequences) * recipe.distilled_corpus_share)
        text = sequences[:share] + list(spoken)
        fit(
            "drafts",
            drafts,
            distillation_losses,
            text,
            recipe.drafts,
            seed=seed + 10,
            work=work,
            validate=lambda: [mean_loss(draft, valid) for draft in drafts],
        )
        for name, draft in zip(DRAFTS, drafts, strict=True):
            finish(name, draft)
    if not all((out / FOLDER / kind / WEIGHTS).is_file() for kind in HEADS):
        for head in trained_heads(target, list(spoken), valid, recipe.heads, recipe.bfloat16, seed + 20, work, notify):
            round_to_half(head)
            save_draft_head(head, out / FOLDER / head.config.kind)
    for log in (f"{TARGET}.csv", "drafts.csv", f"{FOLDER}.csv"):
        if (work / log).is_file():
            shutil.copyfile(work / log, out / f"training-{log}")


def distillation_loss(logits: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
    """Forward KL from the target's log-probabilities (tokens, vocabulary), mixed with the text's own tokens."""
    labelled = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
    return DISTILLED_SHARE * divergence(logits, wanted) + (1.0 - DISTILLED_SHARE) * labelled


@torch.inference_mode()
def mean_loss(network: Network, sequences: list[Tokens]) -> float:
    """Mean cross-entropy in nats per token over whole dialogues."""
    total = count = 0.0
    for ids in sequences:
        tokens = torch.from_numpy(ids[: network.config.max_positions])[None]
        logits = network(tokens[:, :-1])[0]
        total += F.cross_entropy(logits, tokens[0, 1:], reduction="sum").item()
        count += tokens.shape[1] - 1
    return total / count


@torch.inference_mode()
def generate_text(target: Network, sequences: list[Tokens], recipe: Recipe, seed: int) -> Tokens:
    """Sample continuations of real dialogues from the target, at temperature 1.

    Each batch cuts its openings at one random length, so that all rows stay equally long. Returns int64
    (spoken_rows, spoken_tokens), openings included.
    """
    rng = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(seed)
    length = recipe.spoken_tokens
    rows = min(128, recipe.spoken_rows)
    batches = []
    for _ in track(range(recipe.spoken_rows // rows), description="text by the target"):
        opening = int(rng.integers(8, length // 2))
        candidates = [ids for ids in sequences if len(ids) >= opening]
        chosen = rng.choice(len(candidates), rows, replace=False)
        tokens = torch.from_numpy(np.stack([candidates[index][:opening] for index in chosen]))
        cache = KVCache(target.config, length, batch=rows)
        feed = tokens
        while tokens.shape[1] < length:
            following = target(feed, cache, last_rows=1)[:, 0].softmax(-1)
            feed = torch.multinomial(following, 1, generator=generator)
            tokens = torch.cat((tokens, feed), 1)
        batches.append(tokens.numpy())
    return np.concatenate(batches)
