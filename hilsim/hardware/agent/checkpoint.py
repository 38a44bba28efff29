"""The built-in engine: a Hugging Face folder of the Llama family in PyTorch, float32, on a CPU or a CUDA device.

Every number of rows goes through PyTorch, though NumPy is quicker at one row on a CPU: a chip has one way to compute,
and a time that jumps between two programs would not measure it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hilsim.errors import Fault, InputError
from hilsim.files import weights_digest
from hilsim.hardware.agent.digests import tokenizer_digest
from hilsim.hardware.agent.engine import EngineFacts, Output
from hilsim.networks.config import load_config
from hilsim.networks.network import KVCache, Network, load_network

MOST_CONTEXT = 8192  # the cache is allocated at once, and some networks would reach 131,072 positions
WARM_ROWS = (64, 8, 2, 1)  # first passes load kernels and touch memory, which must not be timed


class Checkpoint:
    """A network with its cache, allocated once. `device` is cpu, cuda or cuda:N; `context` limits the cache."""

    def __init__(self, folder: Path, *, device: str = "cpu", threads: str = "1", context: str | None = None):
        faults = [*device_faults(device), *number_faults("threads", threads), *number_faults("context", context)]
        try:
            self.config = load_config(folder)
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(faults)
        self.folder, self.threads = folder, int(threads)
        self.context = min(self.config.max_positions, MOST_CONTEXT if context is None else int(context))
        self.place = torch.device(device)
        self.on_cuda = self.place.type == "cuda"
        self.device = f"{device} ({torch.cuda.get_device_name(self.place)})" if self.on_cuda else device
        self.network: Network
        self.cache: KVCache

    def load(self) -> EngineFacts:
        """Weights to the device, the whole cache allocated, every kind of pass run once."""
        torch.set_num_threads(self.threads)
        self.network = load_network(self.folder).to(self.place)
        self.network.rotary(self.context, self.context)  # a table that grows in a pass would be timed with it
        with self.place:
            self.cache = KVCache(self.config, self.context)
        # The system maps zeroed memory lazily; writing to it allocates it now.
        self.cache.keys.fill_(0)
        self.cache.values.fill_(0)
        if self.on_cuda:
            self._began, self._ended = torch.cuda.Event(True), torch.cuda.Event(True)  # type: ignore[no-untyped-call]
        for rows in WARM_ROWS:
            rows = min(rows, self.context)
            self.cache.rewind(0)
            self._pass([0] * rows, rows)
        self.cache.rewind(0)
        return EngineFacts(
            vocabulary=self.config.vocab_size,
            context=self.context,
            tokenizer=tokenizer_digest(self.folder),
            digest=weights_digest(self.folder),
        )

    def prefill(self, tokens: Sequence[int]) -> Output:
        """Read a prompt into the empty cache."""
        self.cache.rewind(0)
        return self._pass(tokens, 1)

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        """Append tokens to the cache."""
        return self._pass(tokens, wanted)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.cache.rewind(length)

    def close(self) -> None:
        """Nothing to release but memory."""

    @torch.inference_mode()
    def _pass(self, tokens: Sequence[int], wanted: int) -> Output:
        """Logits of the last `wanted` rows, on the CPU. On CUDA the device's own events time the network alone."""
        rows = torch.tensor([tokens], device=self.place)
        if not self.on_cuda:
            return Output(logits=flat(self.network(rows, self.cache, last_rows=wanted)))
        self._began.record()
        logits = self.network(rows, self.cache, last_rows=wanted)
        self._ended.record()
        self._ended.synchronize()
        duration_ns = max(1, round(self._began.elapsed_time(self._ended) * 1e6))
        return Output(logits=flat(logits.cpu()), duration_ns=duration_ns)


def flat(logits: Tensor) -> object:
    """Logits (1, wanted, vocabulary) as an array (wanted, vocabulary)."""
    return logits[0].contiguous().numpy()


def device_faults(device: str) -> list[Fault]:
    """What keeps a device from being used."""
    kind, colon, number = device.partition(":")
    if device != "cpu" and (kind != "cuda" or (colon and not number.isdecimal())):
        return [Fault("--device", device, "no such device", "cpu, cuda or cuda:N")]
    if kind == "cuda" and not torch.cuda.is_available():
        remedy = "Is the driver installed, and PyTorch a build for CUDA?"
        return [Fault("--device", device, "no CUDA device that PyTorch can use", "one", remedy)]
    if number and int(number) >= torch.cuda.device_count():
        return [Fault("--device", device, f"{torch.cuda.device_count()} CUDA devices", "one with that number")]
    return []


def number_faults(name: str, text: str | None) -> list[Fault]:
    """What is wrong with a whole number given as text."""
    if text is None or (text.isdecimal() and 1 <= int(text) <= 2**22):
        return []
    return [Fault(f"--{name}" if name == "threads" else f"--option {name}", text, "no such number", "1 or more")]
