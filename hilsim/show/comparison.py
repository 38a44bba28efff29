"""Versions of one scenario side by side: figures, a CSV, bars of where the time goes, speed over links."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from hilsim.describe.write import typed
from hilsim.measure.metrics import speculation, speedup, timing
from hilsim.measure.parts import LOSSES
from hilsim.show.kinds import DRAFT, READING, TARGET
from hilsim.show.plots.canvas import canvas
from hilsim.study.variants import Ran

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In the order in which they lie in a bar; orange is the draft's and blue the target's, as everywhere.
COLOURS = {"verify": TARGET, "draft": DRAFT, "waste": "#c0392b", "transfer": READING, "wait": "#b8bcc2"}
LOSSY = "(lossy)"


@dataclass(frozen=True)
class Line:
    """The figures of one version, times as means a request."""

    name: str
    group: str
    claim: str
    speedup: float
    first_clause_ms: float | None
    request_ms: float
    tokens_a_round: float
    acceptance: float
    bytes_up: float  # a round
    bytes_down: float
    energy_j: float
    lost_ms: dict[str, float]
    total_variation: float | None
    overrides: str

    @property
    def label(self) -> str:
        """The name, with a warning where the distribution is not the target's."""
        return f"{self.name} {LOSSY}" if self.claim == "none" else self.name


def line_of(ran: Ran) -> Line:
    """A version's figures from its two runs."""
    setup, ours = ran.setup, ran.ours
    found, counts = timing(ours, setup.chips, setup.link), speculation(ours)
    requests, rounds = max(1, len(ours.requests)), max(1, counts["num_drafts"])
    link = next(iter(found["links"].values()), {"bytes_up": 0, "bytes_down": 0})
    distances = [distance for closed in ours.rounds for distance in closed.distances]
    return Line(
        name=ran.variant.name,
        group=ran.variant.group,
        claim=setup.guarantee.level,
        speedup=speedup(ran.baseline, ours),
        first_clause_ms=None if found["time_to_first_clause_ms"] is None else found["time_to_first_clause_ms"]["p50"],
        request_ms=sum(found["lost_ms"].values()) / requests,
        tokens_a_round=counts["tokens_per_round"],
        acceptance=counts["draft_acceptance_rate"],
        bytes_up=link["bytes_up"] / rounds,
        bytes_down=link["bytes_down"] / rounds,
        energy_j=found["energy_j"],
        lost_ms={name: value / requests for name, value in found["lost_ms"].items()},
        total_variation=sum(distances) / len(distances) if distances else None,
        overrides=typed(ran.variant.overrides),
    )


def best_of_each(lines: Sequence[Line]) -> list[Line]:
    """The fastest of every group, fastest first."""
    best: dict[str, Line] = {}
    for line in lines:
        if line.group not in best or line.speedup > best[line.group].speedup:
            best[line.group] = line
    return sorted(best.values(), key=lambda line: -line.speedup)


def write_csv(rows: Sequence[tuple[str, Line]], file: TextIO) -> None:
    """One row a version and link; means a request in milliseconds, bytes a round."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["link", "variant", "group", "claim", "speedup", "first_clause_p50_ms", "request_mean_ms", "tokens_per_round",
         "draft_acceptance_rate", "bytes_up_per_round", "bytes_down_per_round", "energy_j",
         *(f"{name}_ms" for name in LOSSES), "total_variation_mean", "set"]
    )  # fmt: skip
    for link, line in rows:
        cells = [
            link, line.name, line.group, line.claim, line.speedup, line.first_clause_ms, line.request_ms,
            line.tokens_a_round, line.acceptance, line.bytes_up, line.bytes_down, line.energy_j,
            *(line.lost_ms[name] for name in LOSSES), line.total_variation, line.overrides,
        ]  # fmt: skip
        writer.writerow(["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])


def draw_policies(lines: Sequence[Line], title: str, path: Path, kind: str) -> None:
    """A bar a policy: the mean request time by what it was spent on; the speed-up at its end."""
    figure = canvas(10, 1.8 + 0.42 * len(lines))
    axes = figure.subplots()
    rows = range(len(lines))
    left = [0.0] * len(lines)
    for name, colour in COLOURS.items():
        widths = [line.lost_ms[name] / 1000 for line in lines]
        axes.barh(rows, widths, left=left, color=colour, label=name, height=0.66, edgecolor="white", linewidth=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, (end, line) in enumerate(zip(left, lines, strict=True)):
        axes.annotate(
            f"{line.speedup:.2f}x", (end, row), (6, 0), textcoords="offset points", va="center", fontsize=9, color="0.2"
        )
    axes.set_yticks(rows, [line.label for line in lines], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("mean time of a request, s, by what was going on", fontsize=9)
    axes.set_xlim(0, 1.1 * max(left, default=1.0))
    axes.set_title(title, fontsize=10, loc="left")
    plain(axes, "x")
    figure.legend(loc="outside upper center", ncols=len(COLOURS), frameon=False, fontsize=9)
    figure.savefig(path, dpi=120, format=kind)


def draw_payloads(by_link: dict[str, list[Line]], rates: dict[str, float], title: str, path: Path, kind: str) -> None:
    """Left, what a round carries against the tokens it brings; right, the speed-up over the links' rates."""
    figure = canvas(14, 6.4)
    left, right = figure.subplots(1, 2)
    links = sorted(by_link, key=lambda link: rates[link])
    lines = by_link[links[0]]
    from matplotlib import colormaps

    alike: dict[tuple[int, float], list[tuple[int, float, float]]] = {}
    colours = [colormaps["tab20"](index % 20) for index in range(len(lines))]
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True), start=1):
        lossy = line.claim == "none"
        nbytes = line.bytes_up + line.bytes_down
        left.scatter(
            [nbytes], [line.tokens_a_round], s=70, marker="X" if lossy else "o", color=colour, edgecolor="0.3",
            linewidth=0.6, zorder=3,
        )  # fmt: skip
        # Schemes of the same bytes lie on each other; one label has the numbers of all that lie there.
        alike.setdefault((round(8 * math.log10(max(nbytes, 1))), round(line.tokens_a_round, 1)), []).append(
            (number, nbytes, line.tokens_a_round)
        )
        speeds = [next(other.speedup for other in by_link[link] if other.name == line.name) for link in links]
        right.plot(
            [rates[link] for link in links], speeds, marker="X" if lossy else "o", linestyle="--" if lossy else "-",
            color=colour, linewidth=1.6, markersize=5, label=f"{number:>2} {line.label}",
        )  # fmt: skip
    for numbers in alike.values():
        place = max(nbytes for _, nbytes, _ in numbers), max(height for *_, height in numbers)
        left.annotate(", ".join(str(number) for number, *_ in numbers), place, (7, 4), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    left.set(xscale="log", xlabel="bytes a round, up and down", ylabel="tokens a round")
    right.set(
        xscale="log", xlabel="rate of the link, GB/s", ylabel="speed-up over the target alone, same link and rule"
    )
    if any(line.speedup < 1.2 for lines in by_link.values() for line in lines):
        right.axhline(1, color="0.5", linewidth=0.8)
    above = right.secondary_xaxis("top")
    above.set_xticks([rates[link] for link in links], links, rotation=20, ha="left", fontsize=8, color="0.35")
    above.minorticks_off()
    for axes in (left, right):
        plain(axes, "both")
    left.margins(0.1)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=120, format=kind)


def plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    """Light grid, no frame."""
    axes.grid(True, axis=grid, color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
