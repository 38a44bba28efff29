"""How far two programs agree over random inputs: floats by their largest relative difference, integers by count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hilsim.errors import CompileError

CASES = 32
CLOSE = 1e-3  # of the largest number: two float32 programs of the same sums in another order stay far below
NEAR_TIES = 0.01  # of integers may differ: tokens of which two are as likely as each other

Inputs = Callable[[int], tuple[Any, ...]]  # the inputs that belong to a seed
Outputs = Callable[[tuple[Any, ...]], Sequence[Tensor]]  # what a program makes of them


@dataclass(frozen=True)
class Agreement:
    """Two programs over `cases` inputs: the largest relative difference, and integers that differ of all."""

    cases: int
    relative: float
    different: int
    integers: int

    @property
    def good(self) -> bool:
        """Floats agree; integers may differ at near-ties alone."""
        return self.relative <= CLOSE and self.different <= NEAR_TIES * self.integers

    def __str__(self) -> str:
        tokens = f", {self.different} of {self.integers} integers differ" if self.integers else ""
        return f"{self.cases} random inputs: largest relative difference {self.relative:.1e}{tokens}"


def agreement_of(wanted: Outputs, found: Outputs, inputs: Inputs, cases: int = CASES) -> Agreement:
    """Run both over `inputs(seed)`, one difference each of its output's own largest number.

    Shapes that differ, and numbers that one of them lacks (NaN), count as an infinite difference.
    """
    relative, different, integers = 0.0, 0, 0
    with torch.no_grad():
        for seed in range(cases):
            given = inputs(seed)
            for ours, theirs in zip(wanted(given), found(given), strict=True):
                if ours.shape != theirs.shape:
                    relative = float("inf")
                elif ours.dtype.is_floating_point and ours.numel():
                    size = ours.double().abs().max().clamp_min(1e-9)
                    apart = ((ours.double() - theirs.double()).abs().max() / size).item()
                    relative = max(relative, apart if apart == apart else float("inf"))
                else:
                    different += int((ours != theirs).sum())
                    integers += ours.numel()
    return Agreement(cases, relative, different, integers)


def require_agreement(agreement: Agreement) -> Agreement:
    """The same, where it is good. Raises `CompileError` where it is not."""
    if not agreement.good:
        raise CompileError([f"the rewritten program disagrees with its original; {agreement}. Nothing was written."])
    return agreement
