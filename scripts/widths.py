#!/usr/bin/env python3
"""Which widths should the target be compiled for? Sets of widths, each with every policy at its best setting.

python scripts/widths.py [SCENARIO] [--set PATH=VALUE]... [--widths 1-128,1-8-128,...] [--policies sync,adaptive,...]
                         [--plot FILE] [--csv FILE]

A step runs the narrowest graph that is wide enough, so a wide verify is dear and every graph more takes memory: all of
the weights again where graphs do not share them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.extra import extra_at
from hilsim.cost.memory import ledgers
from hilsim.describe.chip import Ability
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Policy
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, HilsimError, InputError, ScenarioError
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of
from hilsim.show.comparison import plain
from hilsim.show.grid_tables import (
    marked,
    plain_table,
    print_cautions,
    print_refused,
    shown,
    telling,
    terminal,
    write_csv,
)
from hilsim.show.numbers import duration
from hilsim.show.plots.curves import BLACK_AND, MARKS, finished, level_line, sheet
from hilsim.study.space import chain_policies
from hilsim.study.sweeps import Point, best, drafting, over_one_baseline, point, reason, with_policy
from hilsim.units import GIB, ms
from scripts.arguments import names, question, width_sets

SETS = "1-128,1-4-128,1-8-128,1-16-128,1-32-128,1-4-8-128,1-4-16-128,1-8-16-128,1-8-32-128"
CLOSE = 0.02  # of the fastest, where fewer bytes are the better choice
SHARED = Ability(value=True, kind="assumed", source="what-if: graphs share their weights")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--widths", type=width_sets, default=SETS, help="sets of rising widths")
    parser.add_argument(
        "--policies", type=names, default="sync,adaptive,pearl,async,pipelined", help="each at its best"
    )
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    if setup.target.widths is None:
        found = f"{setup.target.track}, which takes any width"
        raise ScenarioError([Fault(setup.file, "target", found, "a target on a unit of compiled widths")])
    policies = known(options.scenario, options.set, options.policies)
    points: list[Point] = []
    for widths in counting("sets of widths", options.widths, len(options.widths)):
        points += at(widths, options.scenario, options.set, policies)
    own = Point({}, numbers_of(setup, telling("recording what the scenario's models say")))
    points = over_one_baseline(points, own.alone_ms)
    console = terminal()
    console.print(table_of(points, options.policies))
    console.print(
        f"speed-up by policy, each at its best setting, over the scenario's target alone ({duration(own.alone_ms)});\n"
        "GiB: of the target's chip, weights in every graph, or shared; gate: what the compile gate adds to a verify",
        style="dim",
        soft_wrap=True,
    )
    print_cautions(console, points)
    print_refused(console, points[:: len(policies)], ["widths"])
    console.print(f"\n{answer(points)}")
    title = f"{setup.scenario.name}: which widths should {setup.target.model.name} be compiled for?"
    write_outputs(
        options,
        lambda path, kind: draw(points, options.policies, title, path, kind),
        lambda file: write_csv(points, file, "own_gib", "shared_gib"),
    )
    return 0


def known(file: Path, overrides: Sequence[str], asked: Sequence[str]) -> dict[str, list[tuple[str, Policy]]]:
    """The settings of every policy that was asked for, by policy."""
    found: dict[str, list[tuple[str, Policy]]] = {}
    for choice in chain_policies():
        if choice.parts["name"] in asked:
            policy = load_setup(file, [*overrides, *choice.overrides]).scenario.policy
            found.setdefault(choice.parts["name"], []).append((choice.name, policy))
    if strange := [name for name in asked if name not in found]:
        there = ", ".join(dict.fromkeys(choice.parts["name"] for choice in chain_policies()))
        raise InputError([Fault("--policies", "", ", ".join(map(repr, strange)), f"among {there}")])
    return found


def at(
    widths: tuple[int, ...], file: Path, overrides: Sequence[str], policies: dict[str, list[tuple[str, Policy]]]
) -> list[Point]:
    """A set of widths under every policy at its best, with the bytes that its graphs take."""
    place = {"widths": " ".join(map(str, widths))}
    try:
        setup = load_compiled(file, [*overrides, f"target.widths={list(widths)}"])
    except HilsimError as error:
        return [Point({**place, "policy": name}, {}, reason(error, file)) for name in policies]
    own, shared = held_gib(setup, None), held_gib(setup, SHARED)
    cap = setup.target.chip.memory.si / GIB
    if own > cap:
        why = f"{own:.1f} GiB with weights in every graph, of {cap:.1f} GiB"
        why += f"; with shared ones {shared:.1f}" + ("" if shared <= cap else ", too much as well")
        return [Point({**place, "policy": name}, {"own_gib": own, "shared_gib": shared}, why) for name in policies]
    say = telling("recording what the scenario's models say")
    extras = {f"gate_ms.{width}": extra_ms(setup, width) for width in widths if width > 1}
    found = []
    for name, settings in policies.items():
        tried = [
            point({**place, "policy": name, "setting": said}, with_policy(setup, policy), lambda s: numbers_of(s, say))
            for said, policy in settings
        ]
        found.append(best(tried).adding(own_gib=own, shared_gib=shared, **extras))
    return found


def held_gib(setup: Setup, shared: Ability | None) -> float:
    """What lies on the target's chip: as its unit says, or as if graphs shared weights."""
    target = setup.target
    if shared is not None:
        setup = replace(setup, target=replace(target, unit=target.unit.model_copy(update={"shared_weights": shared})))
    return ledgers(setup)[target.chip.name].used_bytes / GIB


def extra_ms(setup: Setup, width: int) -> float:
    """Milliseconds that the gate adds to a pass of one width."""
    target = setup.target
    if target.compiled is None:
        return 0.0
    return ms(1e9 * extra_at(target.compiled.extras, width, target.unit, target.unit.precisions[target.precision]))


def table_of(points: Sequence[Point], policies: Sequence[str]) -> Table:
    """A row a set of widths, a column a policy."""
    table = plain_table("widths", *policies, "setting", "GiB", "shared", "gate, ms", left=1)
    for row in rows_of(points):
        top = best(row)
        gate = [
            f"{value:.2g}" for name, value in top.numbers.items() if name.startswith("gate_ms.") and value is not None
        ]
        table.add_row(
            str(top.place["widths"]), *(marked(each.speedup, top.speedup) for each in row),
            str(top.place.get("setting", "-")),
            shown(top.numbers, "own_gib", ".2f"), shown(top.numbers, "shared_gib", ".2f"), " ".join(gate) or "-",
        )  # fmt: skip
    return table


def rows_of(points: Sequence[Point]) -> list[list[Point]]:
    """Points by their set of widths."""
    rows: dict[object, list[Point]] = {}
    for each in points:
        rows.setdefault(each.place["widths"], []).append(each)
    return list(rows.values())


def answer(points: Sequence[Point]) -> str:
    """The set with the fewest bytes among those next to the fastest."""
    tops = [best(row) for row in rows_of(points)]
    top = best(tops)
    if top.why:
        return "No set of widths runs here."
    close = [other for other in tops if (1 - CLOSE) * other.latency_ms <= top.latency_ms]
    choice = min(close, key=lambda other: (other.number("own_gib"), other.latency_ms))
    told = f"compile {listed(choice)}: {choice.speedup:.2f}x by {choice.place['setting']}"
    told += f", {choice.number('own_gib'):.2f} GiB"
    if choice is not top:
        told += f" ({listed(top)} would be {top.speedup:.2f}x in {top.number('own_gib'):.2f} GiB)"
    return f"{told}."


def listed(chosen: Point) -> str:
    """Widths as a person says them."""
    *most, last = str(chosen.place["widths"]).split()
    return f"{', '.join(most)} and {last}" if most else last


def draw(points: Sequence[Point], policies: Sequence[str], title: str, path: Path, kind: str) -> None:
    """Left, a mark a policy over the sets; right, speed-up against memory."""
    figure, panels = sheet(1, 2, 13, 5.2)
    left, right = panels[0]
    rows = rows_of(points)
    for number, name in enumerate(policies):
        speeds = [next(each.speedup for each in row if each.place["policy"] == name) for row in rows]
        left.plot(range(len(rows)), speeds, MARKS[number % len(MARKS)], color=BLACK_AND[number % len(BLACK_AND)],
                  markersize=8, label=name, linestyle="")  # fmt: skip
    left.set_xticks(range(len(rows)), [str(row[0].place["widths"]) for row in rows], rotation=30, ha="right")
    for place, row in enumerate(rows):
        if row[0].why:
            left.annotate("does not run", (place, 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="center",
                          fontsize=8, color="0.4")  # fmt: skip
    left.set(xlabel="compiled widths of the target", ylabel="speed-up over the scenario's target alone")
    level_line(left, 1.0)
    plain(left, "both")
    alike: dict[tuple[float, float], list[str]] = {}
    for top in (best(row) for row in rows):
        if not top.why:
            ends = [top.number("shared_gib"), top.number("own_gib")]
            right.plot(ends, [top.speedup] * 2, color="0.7", linewidth=1.2, zorder=1)
            right.plot(ends[:1], [top.speedup], "o", color="white", markeredgecolor="black", zorder=2)
            right.plot(ends[1:], [top.speedup], "o", color="black", zorder=2)
            alike.setdefault((round(ends[1], 2), round(top.speedup, 2)), []).append(str(top.place["widths"]))
    for spot, sets in alike.items():
        above = any(0 < other[1] - spot[1] < 0.08 for other in alike)  # then there is no room on that side
        right.annotate(", ".join(sets), spot, (0, -13 if above else 6), textcoords="offset points", fontsize=8,
                       ha="center")  # fmt: skip
    right.plot([], [], "o", color="white", markeredgecolor="black", label="graphs share their weights", linestyle="")
    right.plot([], [], "o", color="black", label="weights in every graph", linestyle="")
    right.set(xlabel="memory in use on the target's chip, GiB", ylabel="speed-up, best policy")
    right.margins(x=0.2, y=0.1)
    plain(right, "both")
    handles = [axes.get_legend_handles_labels() for axes in (left, right)]
    figure.legend(
        [*handles[0][0], *handles[1][0]], [*handles[0][1], *handles[1][1]], loc="outside lower center", ncols=7,
        frameon=False, fontsize=9,
    )  # fmt: skip
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
