"""Random modules against every profile, and rule profiles broken by the hundred: judged or refused, none breaks."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from hilsim.compiler.choose import CompileSite, plan_graph
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rules import RuleBook
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from hilsim.places import CODE as PROJECT
from tests.mutations import changed_bytes, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

NAMES = ("sa8295_2023", "sa8295_today", "hexagon_v73", "orin_trt_8_6", "orin_trt_10", "orin_dla")
TYPES = (
    torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8,
    torch.int16, torch.int32, torch.int64, torch.complex64,
)  # fmt: skip
CHAINS = 20  # random chains of operators in a module
Step = tuple[int, int, int]


def step(x: Tensor, how: Step) -> Tensor:
    """One random operator on a tensor of any type and rank."""
    kind, a, b = how
    rank = max(x.dim(), 1)
    dim, other = a % rank, b % rank
    choices: tuple[Any, ...] = (
        lambda: x.to(TYPES[a % len(TYPES)]),
        lambda: x.transpose(dim, other),
        lambda: x.unsqueeze(a % (x.dim() + 1)),
        lambda: x.permute([(axis + a) % rank for axis in range(rank)]),
        lambda: x.reshape(-1),
        lambda: x + (2**40, -1e38, 3, 0.5, 1e-12)[a % 5],
        lambda: x * x.flip(dim),
        lambda: ~x,
        lambda: x ^ x.flip(dim),
        lambda: x & x,
        lambda: torch.cat((x, x), dim),
        lambda: x.narrow(dim, 0, max(x.shape[dim] - 1, 1)),
        lambda: torch.softmax(x, dim),
        lambda: x.sum(dim),
        lambda: x.amax(dim, keepdim=True),
        lambda: torch.where(x > 0, x, x.flip(dim)),
        lambda: x.masked_fill(x == 0, (-1e38, 7, float("-inf"))[a % 3]),
        lambda: torch.view_as_real(torch.complex(x, x)),
        lambda: torch.view_as_complex(torch.stack((x, x), -1)).conj().real,
        lambda: x.reshape(*x.shape, 1, 1).expand(*x.shape, 2, 2),
        lambda: x.topk(1, dim).values,
        lambda: x.argmax(dim),
        lambda: x.fmod(3),
        lambda: x.cumsum(dim),
        lambda: nn.functional.gelu(x),
        lambda: x - x[..., :1],
    )
    found: Tensor = choices[kind % len(choices)]()
    return found


class Chains(nn.Module):
    """Several chains of random operators; those that PyTorch itself refuses are left out."""

    def __init__(self, seed: int, x: Tensor):
        super().__init__()
        chance = random.Random(seed)
        self.chains: list[list[Step]] = []
        for _ in range(CHAINS):
            now, chain = x, []
            for _ in range(chance.randint(1, 4)):
                how = (chance.randrange(1 << 16), chance.randrange(1 << 16), chance.randrange(1 << 16))
                try:
                    then = step(now, how)
                except (RuntimeError, TypeError, IndexError, ValueError):
                    continue
                if then.numel() and then.dim() <= 8 and then.numel() < 5000:
                    now = then
                    chain.append(how)
            self.chains.append(chain)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made = []
        for chain in self.chains:
            now = x
            for how in chain:
                now = step(now, how)
            made.append(now)
        return tuple(made)


def judged(path: Path) -> None:
    """A module from the seed in a file, held against every profile and planned under one of two."""
    seed = int(path.read_text())
    x = torch.randn([(2, 3, 1, 4)[(seed >> place) % 4] for place in range(seed % 5 + 1)])
    program = exported(Subject(f"chains {seed}", Chains(seed, x), (x,)))
    for name in NAMES:
        for one in RuleBook(load_profile(name, PROJECT / "scenarios"), "fp16").findings(program, "g"):
            assert one.reason
            assert one.source
    name, chip, unit = (("sa8295_today", "sa8295p", "npu"), ("orin_trt_8_6", "drive-orin-x", "gpu"))[seed % 2]
    record = load_chip(chip, path).units[unit]
    site = CompileSite(record, next(iter(record.precisions.values())), load_profile(name, path), Compile())
    plan_graph("g", 1, copied(program), site)


@cache
def small() -> ExportedProgram:
    """A module with something for every kind of rule."""
    x = torch.ones(2, 3, 1, 2)
    return exported(Subject("small", Chains(3, x), (x,)))


def ruled(path: Path) -> None:
    """A profile of one's own, loaded and applied."""
    RuleBook(load_profile(str(path), path), "fp16").findings(small(), "g")


def test_no_module_breaks_the_rules_or_the_plan(tmp_path: Path) -> None:
    survive(judged, [(f"{seed}.txt", str(seed).encode()) for seed in range(15)], tmp_path)


def test_no_broken_profile_breaks_the_program(tmp_path: Path) -> None:
    chance = random.Random(20_261_129)
    good = [(PROJECT / f"chips/profiles/{name}.yaml").read_bytes() for name in NAMES]
    files = [(f"{place}.yaml", changed_bytes(good[place % len(good)], chance)) for place in range(300)]
    refusals = survive(ruled, files, tmp_path)
    assert refusals
