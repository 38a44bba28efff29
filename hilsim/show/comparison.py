"""Variants of one scenario as pictures: bars of where the time goes, and speed over links."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hilsim.show.kinds import DRAFT, READING, TARGET
from hilsim.show.plots.canvas import canvas, plain
from hilsim.study.variants import Record

# In the order in which they lie in a bar; orange is the draft's and blue the target's, as everywhere.
COLOURS = {"verify": TARGET, "draft": DRAFT, "waste": "#c0392b", "transfer": READING, "wait": "#b8bcc2"}


def label(record: Record) -> str:
    """A variant's name, with a warning where its text has another distribution than the target's."""
    return f"{record['variant']} (lossy)" if record["claim"] == "none" else str(record["variant"])


def draw_policies(lines: Sequence[Record], title: str, path: Path, kind: str) -> None:
    """A bar a policy: the mean request time by what it was spent on; the speed-up at its end."""
    figure = canvas(10, 1.8 + 0.42 * len(lines))
    axes = figure.subplots()
    rows = range(len(lines))
    left = [0.0] * len(lines)
    for name, colour in COLOURS.items():
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
    figure.legend(loc="outside upper center", ncols=len(COLOURS), frameon=False, fontsize=9)
    figure.savefig(path, dpi=120, format=kind)


def draw_payloads(
    by_link: Mapping[str, list[Record]], rates: dict[str, float], title: str, path: Path, kind: str
) -> None:
    """Left, what a round carries against the tokens it brings; right, the speed-up over the links' rates."""
    figure = canvas(14, 6.4)
    left, right = figure.subplots(1, 2)
    links = sorted(by_link, key=lambda link: rates[link])
    lines = by_link[links[0]]
    from matplotlib import colormaps

    alike: dict[tuple[int, float], list[tuple[int, float, float]]] = {}
    colours = [colormaps["tab20"](index % 20) for index in range(len(lines))]
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True), start=1):
        lossy = line["claim"] == "none"
        nbytes = line["bytes_up_per_round"] + line["bytes_down_per_round"]
        left.scatter(
            [nbytes], [line["tokens_per_round"]], s=70, marker="X" if lossy else "o", color=colour, edgecolor="0.3",
            linewidth=0.6, zorder=3,
        )  # fmt: skip
        # Schemes of the same bytes lie on each other; one label has the numbers of all that lie there.
        alike.setdefault((round(8 * math.log10(max(nbytes, 1))), round(line["tokens_per_round"], 1)), []).append(
            (number, nbytes, line["tokens_per_round"])
        )
        mine = [next(other for other in by_link[link] if other["variant"] == line["variant"]) for link in links]
        speeds = [other["speedup"] for other in mine]
        right.plot(
            [rates[link] for link in links], speeds, marker="X" if lossy else "o", linestyle="--" if lossy else "-",
            color=colour, linewidth=1.6, markersize=5, label=f"{number:>2} {label(line)}",
        )  # fmt: skip
    for numbers in alike.values():
        place = max(nbytes for _, nbytes, _ in numbers), max(height for *_, height in numbers)
        left.annotate(", ".join(str(number) for number, *_ in numbers), place, (7, 4), textcoords="offset points",
                      fontsize=8)  # fmt: skip
    left.set(xscale="log", xlabel="bytes a round, up and down", ylabel="tokens a round")
    right.set(
        xscale="log", xlabel="rate of the link, GB/s", ylabel="speed-up over the target alone, same link and rule"
    )
    if any(line["speedup"] < 1.2 for lines in by_link.values() for line in lines):
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
