"""One training loop for all stand-ins: learning-rate schedule, gradient step, checkpoints that survive Ctrl-C, log.

What is learned - next tokens, or another network's distributions - is the caller's: a function from a batch to losses.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from hilsim.files import written
from hilsim.networks.draft_head import DraftHead
from hilsim.networks.network import Network
from hilsim.training.corpus import Tokens, rows

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Schedule:
    """How long, how wide and how fast to learn."""

    epochs: int
    row_tokens: int
    batch_rows: int
    peak_rate: float
    warmup_steps: int = 100
    final_share: float = 0.05

    def rate(self, step: int, steps: int) -> float:
        """Linear warm-up, then a cosine down to `final_share` of the peak."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.peak_rate * (self.final_share + (1.0 - self.final_share) * cosine)


def initialise(network: Network | DraftHead, seed: int) -> None:
    """Normal(0, 0.02) matrices, residual outputs scaled down by depth (GPT-2), norms at one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() < 2:
                continue
            scale = 0.02
            if name.endswith(("attention.output.weight", "down.weight")):
                scale /= math.sqrt(2 * max(1, network.config.layers))
            parameter.normal_(0.0, scale, generator=generator)


def fit(
    name: str,
    networks: Sequence[nn.Module],
    losses: Callable[[Tensor], list[Tensor]],
    sequences: list[Tokens],
    schedule: Schedule,
    *,
    seed: int,
    work: Path,
    validate: Callable[[], list[float]],
) -> None:
    """Train `networks` side by side on the same rows, each on its own loss.

    `losses` maps a batch (rows, row_tokens + 1) to one loss per network. The state is saved in `work` about once a
    minute and on Ctrl-C; a second call takes up where the first stopped. Losses go to `work`/`name`.csv.
    """
    epochs = [
        rows(sequences, schedule.row_tokens, np.random.default_rng([seed, epoch])) for epoch in range(schedule.epochs)
    ]
    per_epoch = min(len(epoch) for epoch in epochs) // schedule.batch_rows
    steps = per_epoch * schedule.epochs
    optimizers = [
        torch.optim.AdamW(decay_groups(network), lr=schedule.peak_rate, betas=(0.9, 0.95), fused=True)
        for network in networks
    ]
    state_file, log_file = work / f"{name}.state.pt", work / f"{name}.csv"
    step, elapsed, log = 0, 0.0, list[list[str]]()
    if state_file.is_file():
        # Our own file, written below; weights_only keeps even a swapped one from running code.
        state = torch.load(state_file, weights_only=True)
        step, elapsed, log = state["step"], state["elapsed"], state["log"]
        for network, optimizer, ours, theirs in zip(
            networks, optimizers, state["networks"], state["optimizers"], strict=True
        ):
            network.load_state_dict(ours)
            optimizer.load_state_dict(theirs)

    def save() -> None:
        state = {
            "step": step,
            "elapsed": elapsed,
            "log": log,
            "networks": [network.state_dict() for network in networks],
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        }
        with written(state_file) as path:
            torch.save(state, path)
        with written(log_file) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = [f"{kind}_{index}" for kind in ("train", "valid") for index in range(len(networks))]
            writer.writerow(["step", "tokens", "seconds", "learning_rate", *columns])
            writer.writerows(log)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[loss]}")) as progress:
        task = progress.add_task(name, total=steps, completed=step, loss="")
        saved = began = time.monotonic()
        before = elapsed
        means = [0.0] * len(networks)
        try:
            while step < steps:
                epoch, index = divmod(step, per_epoch)
                batch = epochs[epoch][index * schedule.batch_rows : (index + 1) * schedule.batch_rows]
                results = losses(torch.from_numpy(batch))
                for slot, (network, optimizer, loss) in enumerate(zip(networks, optimizers, results, strict=True)):
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    for group in optimizer.param_groups:
                        group["lr"] = schedule.rate(step, steps)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                    means[slot] = loss.item() if step == 0 else 0.95 * means[slot] + 0.05 * loss.item()
                step += 1
                elapsed = before + time.monotonic() - began
                progress.update(task, completed=step, loss=" ".join(f"{mean:.3f}" for mean in means))
                if step % 100 == 0 or step == steps:
                    checked = validate() if step % 500 == 0 or step == steps else []
                    texts = [f"{mean:.4f}" for mean in means] + [f"{loss:.4f}" for loss in checked]
                    tokens = step * schedule.batch_rows * schedule.row_tokens
                    log.append([str(step), str(tokens), f"{elapsed:.0f}", f"{schedule.rate(step, steps):.2e}", *texts])
                if time.monotonic() - saved > SAVE_EVERY_S:
                    save()
                    saved = time.monotonic()
        finally:
            save()


def decay_groups(network: nn.Module) -> list[dict[str, object]]:
    """Weight decay on matrices, none on norms."""
    matrices = [parameter for parameter in network.parameters() if parameter.dim() >= 2]
    norms = [parameter for parameter in network.parameters() if parameter.dim() < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": norms, "weight_decay": 0.0}]


def round_to_half(network: nn.Module) -> None:
    """Round every weight to what float16 can hold, so that the stored checkpoint is exactly this network."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
