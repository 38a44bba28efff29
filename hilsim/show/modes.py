"""Ways of speculation on one target as a table, a picture and records: what each brings, and why others do not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hilsim.compiler.plan import Plan
from hilsim.describe.setup import Setup
from hilsim.show.compile import first_uses, refused_operators
from hilsim.show.numbers import counted, duration, gibibytes
from hilsim.show.plots.curves import draw_series
from hilsim.show.sentences import EVEN
from hilsim.show.table import Table
from hilsim.study.modes import ModeResult


def modes_table(results: Sequence[ModeResult]) -> Table:
    """One row a mode that ran, the fastest first."""
    ran = sorted((one for one in results if one.record), key=lambda one: -speedup_of(one))
    columns = [
        "mode",
        "offered by",
        "speedup",
        "tok/round",
        "even at",
        "first clause",
        "memory, GiB",
        "energy",
        "compiles",
    ]
    sizes = batches_of(results)
    columns[3:3] = [f"of {size} at once" for size in sizes]
    rows = []
    for one in ran:
        record = one.record
        assert record is not None
        clause = record["first_clause_p50_ms"]
        row: list[Any] = [
            one.mode.choice.name,
            ", ".join(one.runtimes) or "any",
            f"{record['speedup']:.2f}",
            record["tokens_per_round"] if one.mode.drafting else None,
            one.break_even,
            None if clause is None else duration(clause),
            gibibytes(one.memory_bytes),
            f"{record['energy_j']:.0f} J",
            "; ".join(dict.fromkeys(compile_note(plan) for plan in one.plans)) or "no rules",
        ]
        row[3:3] = [None if (gain := one.at_once[size]) is None else f"{gain:.2f}" for size in sizes]
        rows.append(row)
    return Table(columns, rows, left=2)


def batches_of(results: Sequence[ModeResult]) -> tuple[int, ...]:
    """The sizes of batches that modes were held against."""
    return next((tuple(one.at_once) for one in results if one.record), ())


def draw_batches(results: Sequence[ModeResult], title: str, path: Path, kind: str) -> None:
    """The speed-up of each mode over the sizes of a batch, for modes that have one at every size."""
    sizes = batches_of(results)
    drawn: dict[str, list[float]] = {}
    for one in results:
        gains = [gain for gain in one.at_once.values() if gain is not None]
        if gains and len(gains) == len(sizes):
            drawn[one.mode.choice.name] = gains
    label = "sequences computed together, and as many by the target alone"
    draw_series(sizes, drawn or {"the target alone": [1.0] * len(sizes)}, label, title, path, kind)


def speedup_of(one: ModeResult) -> float:
    """The speed-up of a mode that ran."""
    assert one.record is not None
    return float(one.record["speedup"])


def compile_note(plan: Plan) -> str:
    """What the compiler did with a part, in a few words."""
    refused, rewritten = refused_operators(plan), len(first_uses(plan))
    words: list[str] = [plan.outcome]
    words += [counted(rewritten, "rewrite")] if rewritten else []
    words += [f"refused {', '.join(refused)}"] if refused else []
    return ", ".join(words)


def verdict(results: Sequence[ModeResult], setup: Setup) -> str:
    """Speculate or not, and how, in one sentence."""
    ran = [one for one in results if one.record and one.mode.drafting]
    if not ran:
        return "Do not speculate: no mode runs on this target."
    best = max(ran, key=speedup_of)
    name, gain = best.mode.choice.name, speedup_of(best)
    text = acceptance_of(setup)
    if gain > 1 + EVEN:
        return f"Speculate: {name} is the fastest, {gain:.2f} times the target alone, with {text}."
    if gain >= 1 - EVEN:
        return f"It makes no difference: {name}, the fastest mode, is at {gain:.2f} of the target alone, with {text}."
    return f"Do not speculate: {name}, the fastest mode, is at {gain:.2f} of the target alone, with {text}."


def acceptance_of(setup: Setup) -> str:
    """Whose acceptance the modes were run with."""
    if setup.profile is not None:
        return f"the acceptance of {setup.profile.title}"
    return (
        "the acceptance of the stand-in models" if setup.scenario.logits.source != "synthetic" else "a given acceptance"
    )


def as_records(results: Sequence[ModeResult]) -> list[dict[str, Any]]:
    """Every mode as a record for JSON and CSV; those that do not run have a reason alone."""
    sizes = batches_of(results)
    return [
        {
            "mode": one.mode.choice.name,
            "drafting": one.mode.drafting or "none",
            "runtimes": " ".join(one.runtimes),
            **{name: (one.record or {}).get(name) for name in KEYS},
            "break_even_tokens_per_round": one.break_even,
            "memory_bytes": one.memory_bytes or None,
            **{f"speedup_of_{size}": one.at_once.get(size) for size in sizes},
            "compile": "; ".join(compile_note(plan) for plan in one.plans),
            "set": " ".join(f"--set '{override}'" for override in one.mode.choice.overrides),
            "why_not": one.why,
        }
        for one in results
    ]


KEYS = ("speedup", "tokens_per_round", "first_clause_p50_ms", "request_mean_ms", "energy_j", "claim")


def reasons(results: Sequence[ModeResult]) -> dict[str, list[str]]:
    """The names of modes that do not run by why they do not."""
    found: dict[str, list[str]] = {}
    for one in results:
        if one.why:
            found.setdefault(one.why, []).append(one.mode.choice.name)
    return found


def render(results: Sequence[ModeResult], setup: Setup, console: Console) -> None:
    """The table, the modes that do not run, and the verdict."""
    modes_table(results).print(console)
    for why, names in reasons(results).items():
        console.print(f"not here, {'; '.join(names)}: {why}", style="dim", soft_wrap=True)
    console.print(f"\n{verdict(results, setup)}", soft_wrap=True)
