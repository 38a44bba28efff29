"""How fast does hilsim decode next to transformers? `python -m tests.bench_decode [FOLDER] [--threads N]`.

Both decode greedily with the same weights, prompt and threads, in turn (A B A B ...), so that whatever else the machine
does slows both. Times include the prompt's pass. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from hilsim.networks.checkpoint import load_config, load_network
from hilsim.networks.decoder import Decoder
from hilsim.places import CODE as PROJECT

PROMPT_TOKENS, NEW_TOKENS = 64, 128


def hilsim_decoder(folder: Path) -> Callable[[torch.Tensor], list[int]]:
    network = load_network(folder)

    def decode(prompt: torch.Tensor) -> list[int]:
        decoder, fed, tokens = Decoder(network, PROMPT_TOKENS + NEW_TOKENS), prompt[0].tolist(), list[int]()
        while len(tokens) < NEW_TOKENS:
            tokens.append(int(decoder.feed(fed)[-1].argmax()))
            fed = tokens[-1:]
        return tokens

    return decode


def transformers_decoder(folder: Path) -> Callable[[torch.Tensor], list[int]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None  # neither side stops early, nor pays for looking

    def decode(prompt: torch.Tensor) -> list[int]:
        told = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            min_new_tokens=NEW_TOKENS,
            max_new_tokens=NEW_TOKENS,
        )
        return told[0, prompt.shape[1] :].tolist()

    return decode


def measure(folder: Path = PROJECT / "models" / "target", repeats: int = 5) -> dict[str, float]:
    """Median tokens a second of both, and their ratio."""
    return summary(measured(folder, repeats))


def summary(rates: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The medians and their ratio."""
    found = {f"{name}_tokens_s": statistics.median(runs) for name, runs in rates.items()}
    return found | {"ratio": found["hilsim_tokens_s"] / found["transformers_tokens_s"]}


def measured(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Tokens a second of both, of every run."""
    disable_progress_bar()
    decoders = {"hilsim": hilsim_decoder(folder), "transformers": transformers_decoder(folder)}
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(load_config(folder).vocab_size, (1, PROMPT_TOKENS), generator=generator)
    tokens = {name: decode(prompt) for name, decode in decoders.items()}  # warms up, too
    assert all(len(found) == NEW_TOKENS for found in tokens.values()), tokens
    assert tokens["hilsim"] == tokens["transformers"], "a fast wrong decoder is no decoder"
    rates: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(repeats):
        for name, decode in decoders.items():
            began = time.perf_counter()
            found = decode(prompt)
            rates[name].append(NEW_TOKENS / (time.perf_counter() - began))
            assert found == tokens[name], f"{name} decoded something else than before"
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("models/target"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    blas = {"OPENBLAS_NUM_THREADS": str(options.threads)}
    if not blas.items() <= os.environ.items():  # NumPy reads it when it is loaded: start over with it
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench_decode", *sys.argv[1:]], os.environ | blas)
    torch.set_num_threads(options.threads)
    rates = measured(options.folder, options.repeats)
    print(f"{'tokens/s':<14}{'median':>8}{'lowest':>8}{'highest':>8}")
    for name, runs in rates.items():
        print(f"{name:<14}{statistics.median(runs):>8.0f}{min(runs):>8.0f}{max(runs):>8.0f}")
    result = {"folder": str(options.folder), "threads": options.threads, "repeats": options.repeats,
              "new_tokens": NEW_TOKENS}  # fmt: skip
    print(json.dumps(result | {name: round(figure, 2) for name, figure in summary(rates).items()}))


if __name__ == "__main__":
    main()
