#!/usr/bin/env python3
"""How long a context can one afford? Memory, step time, first token and speed-up over context_tokens.

python scripts/context.py [SCENARIO] [--set PATH=VALUE]... [--contexts 256,512,1024,...] [--acceptance A]
                          [--lengths 1:10:1] [--requests N] [--plot FILE] [--csv FILE]

What is said would change with the context, so drafted tokens stand by chance here, as often as the scenario's
stand-ins reach at its own context (or --acceptance), and answers have their mean length.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import largest_context, ledgers
from hilsim.describe.acceptance import acceptance_of
from hilsim.describe.setup import Setup
from hilsim.errors import HilsimError
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of, talk_of
from hilsim.show.grid_tables import (
    plain_table,
    print_cautions,
    print_refused,
    shown,
    telling,
    terminal,
    times,
    write_csv,
)
from hilsim.show.plots.curves import finished, lines, sheet
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import (
    LENGTH,
    Point,
    best,
    drafting,
    loaded,
    over_lengths,
    reason,
    with_acceptance,
    with_length,
)  # fmt: skip
from hilsim.units import GIB
from scripts.arguments import numbers, one, question, whole

MEASURED_AT = 5  # drafted tokens at which the stand-ins' acceptance is read off
MORE = ("target_gib", "draft_gib", "target_ms", "verify_ms", "draft_ms")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--contexts", type=whole(2, 10**6), default="256,512,768,1024,1536,2048,3072,4096")
    parser.add_argument("--acceptance", type=numbers(0, 1), help="of a drafted token (default: the stand-ins')")
    parser.add_argument("--lengths", type=whole(1, 16), default="1:10:1", help="drafted tokens, the best counts")
    parser.add_argument("--requests", type=one(1, 5000), default="300", help="more of them, less chance (default 300)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    say = telling("recording what the scenario's models say")
    talk = talk_of(setup, options.requests, say)
    acceptance = options.acceptance[0] if options.acceptance else measured(setup)
    overrides = [*options.set, *talk.overrides()]
    points = [
        at(context, options.scenario, overrides, acceptance, options.lengths)
        for context in counting("contexts", options.contexts, len(options.contexts))
    ]
    console = terminal()
    console.print(table_of(points))
    console.print(
        f"by chance, acceptance {acceptance:.2f}; questions of {talk.prompt} tokens, answers of {talk.answer}",
        style="dim",
    )
    print_cautions(console, points)
    print_refused(console, points, ["context_tokens"])
    console.print(f"\n{answer(points, setup)}")
    title = f"{setup.scenario.name}: how long a context can one afford? (by chance, acceptance {acceptance:.2f})"
    write_outputs(
        options,
        lambda path, kind: draw(points, title, path, kind),
        lambda file: write_csv(points, file, *MORE),
    )
    return 0


def measured(setup: Setup) -> float:
    """The acceptance by chance that brings the `mean_acceptance_length` of the scenario's own draft."""
    tokens = numbers_of(with_length(setup, MEASURED_AT))["mean_acceptance_length"]
    assert tokens is not None
    return acceptance_of(tokens, MEASURED_AT)


def at(context: int, file: Path, overrides: Sequence[str], acceptance: float, lengths: Sequence[int]) -> Point:
    """One context at its best draft length; of one that compiles and does not fit, what it would need."""
    place = {"context_tokens": context}
    changed = [*overrides, f"context_tokens={context}"]
    setup = loaded(file, changed)
    if isinstance(setup, str):
        try:
            return costs(Point(place, {}, setup), load_compiled(file, changed), 1)
        except HilsimError as error:
            return Point(place, {}, reason(error, file))
    found = best(over_lengths(place, with_acceptance(setup, acceptance), lengths, numbers_of))
    return costs(found, setup, int(found.place[LENGTH]))


def costs(point: Point, setup: Setup, length: int) -> Point:
    """The point with memory and step times."""
    assert setup.draft is not None
    held, steps = ledgers(setup), steps_of(setup, length)
    return point.adding(
        target_gib=held[setup.target.chip.name].used_bytes / GIB,
        draft_gib=held[setup.draft.chip.name].used_bytes / GIB,
        target_ms=steps.target_ms,
        verify_ms=steps.verify_ms,
        draft_ms=steps.draft_ms,
    )


def table_of(points: Sequence[Point]) -> Table:
    """A row a context."""
    table = plain_table(
        "context", "target, GiB", "draft, GiB", "step, ms", "verify", "first token, ms", "length", "speed-up"
    )
    for point in points:
        table.add_row(
            str(point.place["context_tokens"]),
            shown(point.numbers, "target_gib", ".2f"),
            shown(point.numbers, "draft_gib", ".2f"),
            shown(point.numbers, "target_ms", ".1f"),
            shown(point.numbers, "verify_ms", ".1f"),
            shown(point.numbers, "time_to_first_token_ms.mean", ".0f"),
            str(point.place.get(LENGTH, "-")) if not point.why else "-",
            times(point.speedup) if not point.why else "not here",
        )
    return table


def answer(points: Sequence[Point], setup: Setup) -> str:
    """The longest context that runs, what it costs against the shortest, and what stops the next."""
    ran = [point for point in points if not point.why]
    limit = largest_context(setup)
    told = f"No more than {limit.tokens} go: {limit.stopped_by}."
    if not ran:
        return f"None of these contexts runs. {told}"
    first, last = ran[0], ran[-1]
    return (
        f"Up to {last.place['context_tokens']} tokens run: a target step grows from {first.number('target_ms'):.0f} to "
        f"{last.number('target_ms'):.0f} ms and the speed-up goes from {first.speedup:.2f}x to {last.speedup:.2f}x. "
        f"{told}"
    )


def draw(points: Sequence[Point], title: str, path: Path, kind: str) -> None:
    """Memory, times and speed-up over the context; grey where it cannot run."""
    figure, panels = sheet(1, 3, 14, 4.4)
    contexts = [float(point.place["context_tokens"]) for point in points]
    shown_as = [
        ({"target's chip": "target_gib", "draft's chip": "draft_gib"}, "memory in use, GiB"),
        ({"first token": "time_to_first_token_ms.mean", "verify": "verify_ms", "target step": "target_ms"}, "ms"),
        ({"best draft length": "speedup"}, "speed-up over the target alone"),
    ]
    for axes, (names, label) in zip(panels[0], shown_as, strict=True):
        lines(axes, contexts, {said: [point.number(name) for point in points] for said, name in names.items()})
        for place, point in enumerate(points):
            if point.why:
                begin = contexts[place - 1] if place else contexts[place] / 2
                axes.axvspan(begin, contexts[place], color="0.9", zorder=0, linewidth=0)
        axes.set(xlabel="context_tokens", ylabel=label, xscale="log")
        most = [point.number(name) for point in points for name in names.values() if name in point.numbers]
        axes.set_ylim(0, 1.15 * max(most, default=1.0))
        axes.set_xticks(contexts, [f"{context:g}" for context in contexts], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=9, loc="lower left" if label.startswith("speed") else "center left")
    finished(figure, f"{title}; grey: not here", path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))
