"""How fast does hilsim decode next to transformers? `python -m tests.bench_decode [FOLDER] [--threads N]`.

Both decode greedily with the same weights, prompt and threads, in turn (A B A B ...), so that whatever else the machine
does slows both. Times include the prompt's pass. Without FOLDER it is the shipped target, and a Llama of 160 million
parameters, a size that people bring, with random weights in a folder for this run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from hilsim.networks.checkpoint import load_weights
from hilsim.networks.config import NetworkConfig, load_config
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import Network, save_network
from hilsim.places import CODE as PROJECT

PROMPT_TOKENS = 64
TARGET, RANDOM = PROJECT / "models" / "target", "llama-160m"
NEW_TOKENS = {RANDOM: 32}  # 128 of all others
RANDOM_CONFIG = NetworkConfig(
    vocab_size=32_000, hidden_size=768, intermediate_size=3072, layers=12, heads=12, kv_heads=12, head_dim=64,
    max_positions=2048,
)  # fmt: skip


def hilsim_decoder(folder: Path) -> Callable[[torch.Tensor, int], list[int]]:
    weights = load_weights(folder)

    def decode(prompt: torch.Tensor, count: int) -> list[int]:
        decoder, fed, tokens = Decoder(weights, PROMPT_TOKENS + count), prompt[0].tolist(), list[int]()
        while len(tokens) < count:
            tokens.append(int(decoder.feed(fed)[-1].argmax()))
            fed = tokens[-1:]
        return tokens

    return decode


def transformers_decoder(folder: Path) -> Callable[[torch.Tensor, int], list[int]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # neither side stops early, nor pays for looking

    def decode(prompt: torch.Tensor, count: int) -> list[int]:
        found = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
        )
        tokens: list[int] = found[0, prompt.shape[1] :].tolist()
        return tokens

    return decode


def write_random(folder: Path) -> None:
    """A folder with random weights of a normal distribution, as a network before its training has them."""
    network = Network(RANDOM_CONFIG).requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, 0.02, generator=generator)
    save_network(network, folder, end_token=2, begin_token=1, pad_token=0)


def compared(folder: Path, repeats: int) -> dict[str, float]:
    """Median tokens a second of both, each repeat in turn, and their ratio; the tokens are held against each other."""
    decoders = {"hilsim": hilsim_decoder(folder), "transformers": transformers_decoder(folder)}
    count = NEW_TOKENS.get(folder.name, 128)
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(load_config(folder).vocab_size, (1, PROMPT_TOKENS), generator=generator)
    tokens = {name: decode(prompt, count) for name, decode in decoders.items()}  # warms up, too
    assert all(len(found) == count for found in tokens.values()), tokens
    assert tokens["hilsim"] == tokens["transformers"], "a fast wrong decoder is no decoder"
    rates: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(repeats):
        for name, decode in decoders.items():
            began = time.perf_counter()
            found = decode(prompt, count)
            rates[name].append(count / (time.perf_counter() - began))
            assert found == tokens[name], f"{name} found other tokens than before"
    hilsim, transformers = (statistics.median(rates[name]) for name in ("hilsim", "transformers"))
    return {"hilsim_tokens_s": hilsim, "transformers_tokens_s": transformers, "ratio": hilsim / transformers}


def measure(folder: Path | None = None, repeats: int = 5) -> dict[str, float]:
    """Figures of each folder, its name before them; with PyTorch's and OpenBLAS's threads as they are."""
    disable_progress_bar()
    if folder is not None:
        return named(folder.name, compared(folder, repeats))
    with tempfile.TemporaryDirectory(prefix="bench-decode-") as temporary:
        made = Path(temporary) / RANDOM
        write_random(made)
        return named(TARGET.name, compared(TARGET, repeats)) | named(RANDOM, compared(made, min(repeats, 3)))


def named(name: str, figures: dict[str, float]) -> dict[str, float]:
    """Figures under a name."""
    return {f"{name}, {what}": figure for what, figure in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    blas = {"OPENBLAS_NUM_THREADS": str(options.threads)}
    if not blas.items() <= os.environ.items():  # NumPy reads it when it is loaded: start over with it
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench_decode", *sys.argv[1:]], os.environ | blas)
    torch.set_num_threads(options.threads)
    figures = measure(options.folder, options.repeats)
    for name, figure in figures.items():
        print(f"{name:<36}{figure:>10.2f}")
    print(json.dumps({"threads": options.threads, "repeats": options.repeats, **figures}))


if __name__ == "__main__":
    main()
