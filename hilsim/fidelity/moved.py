"""What a calibration moved: each constant against its described range, and whether a runtime explains it as well.

A runtime that is not described and slows everything has one share: a factor on the speed of decoding and of prompts
alike. It explains the rows as well as the constants do where decode and prompts were slowed by the same factor, within
what rows of one kind of board differ by, and within the standard error, from the scatter of the rows about the fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hilsim.describe.figure import Figure
from hilsim.fidelity.cases import Case

NAMES = {"decode": "decode", "prefill": "prompts"}
RUNS = {"decode": "decode runs", "prefill": "prompts run"}
# Builds and boards of one kind differ by as much: smaller differences are treated as equal.
ALIKE = 0.05
# Standard errors of a difference from which on it is one; the scatter of a dozen rows is known to a fifth itself.
SURE = 2.5
# Rows further than this from any fit explain nothing.
FAR = 0.25


@dataclass(frozen=True)
class Moved:
    """One constant as it was described and as the rows have it."""

    path: str
    before: Figure
    after: Figure

    @property
    def factor(self) -> float:
        return self.after.si / self.before.si

    def __str__(self) -> str:
        value = f"{self.path} is {self.factor:.2f} of what is described: {self.after.value:.4g} {self.after.unit}, not"
        described = f"{self.before.si / self.after.si * self.after.value:.4g}"
        if self.before.range is None:
            return f"{value} {described}, which has no range."
        low, high = (end / self.after.si * self.after.value for end in self.before.ends)
        where = "inside" if self.before.ends[0] <= self.after.si <= self.before.ends[1] else "outside"
        return f"{value} {described}; {where} its range, {low:.4g} to {high:.4g}."


def account(
    rows: Sequence[Case],
    described: Sequence[float],
    residuals: Sequence[float],
    before: Mapping[str, Figure],
    after: Mapping[str, Figure],
) -> tuple[str, ...]:
    """Sentences on what moved. `described` are seconds by the chip as described, `residuals` those of the fit."""
    moved = [str(Moved(path, before[path], figure)) for path, figure in after.items()]
    speeds = [math.log(seconds / row.measured) for row, seconds in zip(rows, described, strict=True)]
    kinds = {kind: [speed for row, speed in zip(rows, speeds, strict=True) if row.kind == kind] for kind in NAMES}
    left = [residual for row, residual in zip(rows, residuals, strict=True) if row.kind in NAMES]
    measured = {kind: found for kind, found in kinds.items() if found}
    return (*moved, shared(measured, rms(left))) if measured else tuple(moved)


def shared(speeds: Mapping[str, Sequence[float]], fitted: float) -> str:
    """Whether one factor on all rows explains them as well as the constants, about which they scatter by `fitted`.

    `speeds`: by kind of row the logarithms of its speed over that of the chip as described.
    """
    shares = {kind: math.exp(fmean(found)) for kind, found in speeds.items()}
    each = ", ".join(f"{RUNS[kind]} at {share:.2f} of the described speed" for kind, share in shares.items())
    if fitted > FAR:
        return f"The rows scatter by {fitted:.0%} about the fit: no constant and no runtime explains them."
    if all(abs(math.log(share)) < ALIKE for share in shares.values()):
        return f"The chip as described meets the rows: {each}."
    if len(speeds) == 1:
        (only,) = speeds
        (other,) = set(NAMES) - {only}
        return (
            f"Only {NAMES[only]} was measured ({each}), where a runtime that is not described and a constant of the "
            f"chip that is wrong look alike. Add rows of {NAMES[other]}."
        )
    every = [speed for found in speeds.values() for speed in found]
    one = rms([speed - fmean(every) for speed in every])
    share = f"one factor of {math.exp(fmean(every)):.2f} on decode and prompts"
    against = f"(rows scatter by {one:.1%} about it, by {fitted:.1%} about the fit)"
    apart = abs(fmean(speeds["decode"]) - fmean(speeds["prefill"]))
    # The two rates took two degrees of freedom of the scatter.
    error = fitted * math.sqrt(len(every) / max(1, len(every) - 2) * sum(1 / len(found) for found in speeds.values()))
    if apart <= ALIKE:
        return (
            f"A runtime's share explains the rows as well: {share} {against}. So this is more likely a runtime that is "
            "not described than a chip that is wrong: measure another runtime here before the chip's file is changed."
        )
    if apart <= SURE * error:
        return (
            f"The rows scatter too much to tell a runtime's share from a constant that moved {against}: {each}, which "
            f"is {apart:.1%} apart, give or take {SURE * error:.1%}. Add rows."
        )
    off = [kind for kind, share in shares.items() if abs(math.log(share)) >= ALIKE]
    return f"A runtime's share does not explain the rows: {share} is worse {against}. Here {each}: {MOVED[tuple(off)]}."


MOVED = {
    ("decode",): "what reads the weights moved alone, the chip's memory rate or a runtime's memory_share",
    ("prefill",): "what multiplies moved alone, the chip's operation rate",
    ("decode", "prefill"): "reading and multiplying moved by different factors",
}


def rms(values: Sequence[float]) -> float:
    """The root mean square."""
    return math.sqrt(fmean(float(value) ** 2 for value in values))
