"""Variants of one scenario as pictures: bars of where the time goes, and speed over links."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hilsim.show.kinds import CAUSES
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.curves import BLACK_AND, finished
from hilsim.study.variants import Record


def label(record: Record) -> str:
    """A variant's name, with a warning where its text has another distribution than the target's."""
    return f"{record['variant']} (lossy)" if record["claim"] == "none" else str(record["variant"])


def draw_policies(lines: Sequence[Record], title: str, path: Path, kind: str) -> None:
    """A bar a policy: the mean request time by what it was spent on; the speed-up at its end."""
    figure = canvas(10, 1.8 + 0.42 * len(lines))
    axes = figure.subplots()
    rows = range(len(lines))
    left = [0.0] * len(lines)
    for name, colour in CAUSES.items():
        widths = [line[f"{name}_ms"] / 1000 for line in lines]
        axes.barh(rows, widths, left=left, color=colour, label=name, height=0.66, edgecolor="white", linewidth=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, (end, line) in enumerate(zip(left, lines, strict=True)):
        axes.annotate(
            f"{line['speedup']:.2f}x", (end, row), (6, 0), textcoords="offset points", va="center", fontsize=9,
            color="0.2",
        )  # fmt: skip
    axes.set_yticks(rows, [label(line) for line in lines], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("mean time of a request, s, by cause", fontsize=9)
    axes.set_xlim(0, 1.1 * max(left, default=1.0))
    axes.set_title(title, fontsize=10, loc="left")
    plain(axes, "x")
    figure.legend(loc="outside upper center", ncols=len(CAUSES), frameon=False, fontsize=9)
    figure.savefig(path, dpi=120, format=kind)


def apart(nbytes: float, others: float) -> float:
    """Decades between two sizes."""
    return abs(math.log10(max(nbytes, 1) / max(others, 1)))


def together(spots: Sequence[tuple[float, float, int]]) -> list[list[tuple[float, float, int]]]:
    """Spots (bytes, tokens a round, number) whose labels would lie on each other, in groups that share one."""
    groups: list[list[tuple[float, float, int]]] = []
    for spot in sorted(spots):
        for group in groups:
            if apart(spot[0], group[-1][0]) < 0.15 and abs(spot[1] - group[-1][1]) < 0.15:
                group.append(spot)
                break
        else:
            groups.append([spot])
    return groups


def draw_payloads(
    by_link: Mapping[str, list[Record]], rates: dict[str, float], title: str, path: Path, kind: str
) -> None:
    """Left, what a round carries against the tokens it brings; right, the speed-up over the links' rates.

    A variant has a number, a colour, and from the ninth on hollow marks; a lossy one has crosses and broken lines.
    """
    figure = canvas(10.5, 7.4)
    left, right = figure.subplots(1, 2)
    links = sorted(by_link, key=lambda link: rates[link])
    lines = by_link[links[0]]
    spots: list[tuple[float, float, int]] = []
    for number, line in enumerate(lines, start=1):
        lossy, colour = line["claim"] == "none", BLACK_AND[(number - 1) % len(BLACK_AND)]
        fill = "white" if (number - 1) // len(BLACK_AND) % 2 else colour
        nbytes = line["bytes_up_per_round"] + line["bytes_down_per_round"]
        left.scatter(
            [nbytes], [line["tokens_per_round"]], s=55, marker="X" if lossy else "o", facecolor=fill,
            edgecolor=colour, linewidth=1.4, zorder=3,
        )  # fmt: skip
        spots.append((nbytes, line["tokens_per_round"], number))
        mine = [next(other for other in by_link[link] if other["variant"] == line["variant"]) for link in links]
        speeds = [other["speedup"] for other in mine]
        right.plot(
            [rates[link] for link in links], speeds, marker="X" if lossy else "o", linestyle="--" if lossy else "-",
            color=colour, markerfacecolor=fill, linewidth=1.4, markersize=6, label=f"{number:>2} {label(line)}",
        )  # fmt: skip
    above: list[tuple[float, float]] = []  # where labels are above their marks
    for group in together(spots):
        nbytes = math.prod(max(x, 1) for x, *_ in group) ** (1 / len(group))
        height = max(other for _, other, _ in group)
        covered = any(0 < other - height < 0.4 and apart(x, nbytes) < 0.35 for x, other, _ in spots)
        up = not covered and not any(apart(x, nbytes) < 0.45 and abs(other - height) < 0.1 for x, other in above)
        above += [(nbytes, height)] * up
        numbers = ", ".join(str(number) for number in sorted(spot[2] for spot in group))
        left.annotate(numbers, (nbytes, height), (0, 7 if up else -7),
                      textcoords="offset points", fontsize=9, ha="center", va="bottom" if up else "top")  # fmt: skip
    left.set(xscale="log", xlabel="bytes a round, up and down", ylabel="tokens a round")
    right.set(xscale="log", xlabel="rate of the link, GB/s", ylabel="speed-up over the target alone")
    if any(line["speedup"] < 1.2 for lines in by_link.values() for line in lines):
        right.axhline(1, color="0.5", linewidth=0.8)
    top = right.secondary_xaxis("top")
    top.set_xticks([rates[link] for link in links], links, rotation=35, ha="left", fontsize=9, color="0.35")
    top.minorticks_off()
    for axes in (left, right):
        plain(axes, "both")
    left.margins(0.1)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=9, frameon=False)
    finished(figure, title, path, kind)
