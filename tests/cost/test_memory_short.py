"""Memory that runs out is told: what was needed, for what, and what would need less."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from hilsim.errors import memory_short
from hilsim.places import CODE as PROJECT

SHORT = """
import resource
from pathlib import Path
from hilsim.commands.main import guarded
from hilsim.networks.checkpoint import load_weights
from hilsim.sources.live import Clock, Passes
network = load_weights(Path("models/draft-0.8m"))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**26, held + 2**26))
raise SystemExit(guarded(lambda: Passes(network, 10**6, Clock()) and 0))
"""


def test_a_cache_that_does_not_fit_is_named_with_its_size() -> None:
    """Three layers of two key heads of 32 or so: a million positions are some hundred MiB beyond the limit."""
    done = subprocess.run([sys.executable, "-c", SHORT], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "memory: found no room for a stand-in's key/value cache of 1000000 positions" in done.stderr
    assert "1.43 GiB more were requested" in done.stderr
    assert "--set context_tokens=512" in done.stderr


def test_allocators_are_understood_and_other_errors_left_alone() -> None:
    with pytest.raises(RuntimeError) as by_torch:
        torch.empty(2**60)
    with pytest.raises(MemoryError) as by_numpy:
        np.empty(2**57)
    for caught in (by_torch, by_numpy):
        short = memory_short(caught.value, "a table")
        assert short is not None
        assert "found no room for a table (" in str(short)
        assert "more were requested" in str(short)
    assert memory_short(RuntimeError("shapes do not match"), "a table") is None
