"""Ways of speculation as a page: which pays, what each brings and costs, why others do not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.describe.write import scenario_text, typed
from hilsim.show.document import assumptions as assumed
from hilsim.show.modes import batches_of, compile_note, modes_table, reasons, speedup_of, verdict
from hilsim.show.numbers import clean, counted, duration, gibibytes
from hilsim.show.page import many
from hilsim.show.page.frame import Page, Section, about, assumptions, caveats_of, measure_first, reproduce
from hilsim.show.sentences import EVEN, outside_sentence
from hilsim.show.table import Table
from hilsim.study.modes import ModeResult


def page_of(results: Sequence[ModeResult], setup: Setup, command: str) -> Page:
    """The page of a comparison of modes; `command` is what reproduces it."""
    scenario = setup.scenario
    gains = [speedup_of(one) for one in results if one.record and one.mode.drafting]
    roles = outside_car(setup)
    doubts, against = caveats_of(setups_of(results, setup))
    return Page(
        name=scenario.name,
        about=about("modes", {"scenario": scenario.name, "digest": setup.digest, "seed": scenario.seed}),
        question=clean(scenario.question) or "Which way of speculation pays on this target?",
        headline=verdict(results, setup),
        good=max(gains, default=0.0) > 1 + EVEN and not against,
        verdict=(f"The target is {setup.target}.",),
        caveats=(*([outside_sentence(roles)] if roles else []), *doubts),
        sections=tuple(sections_of(results, setup, command)),
    )


def setups_of(results: Sequence[ModeResult], setup: Setup) -> Iterator[tuple[str, Setup]]:
    """The setup of each mode that ran, by its name."""
    for one in results:
        if one.record:
            yield one.mode.choice.name, load_compiled(Path(setup.file), [*setup.overrides, *one.mode.choice.overrides])


def sections_of(results: Sequence[ModeResult], setup: Setup, command: str) -> Iterator[Section]:
    """The parts of the page, in the order in which they are read."""
    ran = sorted((one for one in results if one.record), key=lambda one: -speedup_of(one))
    if ran:
        yield speedups(ran)
        yield Section(
            "modes", ("Even at is the tokens a round from which a mode pays.",), tables=(modes_table(results),)
        )
        yield settings(ran)
    if len(batches_of(results)) > 1:
        yield together(ran)
    yield not_here(results)
    yield confidence(setup)
    yield assumptions(assumed(setup))
    yield reproduce(command, (scenario_text(Path(setup.file), setup.overrides, ()),))


def speedups(ran: Sequence[ModeResult]) -> Section:
    """A bar a mode that ran."""
    rows = [(one.mode.choice.name, speedup_of(one), facts(one)) for one in ran]
    sentence, hint = "The dashed line is the target alone.", "Point at a bar to read what a mode brings and costs."
    return Section("speed-ups", (sentence,), (hint,), (many.gains(rows),))


def facts(one: ModeResult) -> str:
    """What a mode brings and costs, in a line."""
    record = one.record
    assert record is not None
    parts = [f"offered by {', '.join(one.runtimes)}" if one.runtimes else "any runtime"]
    parts += [f"{record['tokens_per_round']:.2f} tokens a round"] if one.mode.drafting else []
    parts += [] if one.break_even is None else [f"even at {one.break_even:.2f}"]
    clause = record["first_clause_p50_ms"]
    parts += [] if clause is None else [f"first clause after {duration(clause)}"]
    parts += [f"{gibibytes(one.memory_bytes)} GiB of the target's chip", f"{record['energy_j']:.0f} J"]
    return "; ".join([*parts, *dict.fromkeys(map(compile_note, one.plans))])


def settings(ran: Sequence[ModeResult]) -> Section:
    """What makes the scenario each mode."""
    rows = [(one.mode.choice.name, typed(one.mode.choice.overrides) or "the scenario as it is") for one in ran]
    return Section("settings", tables=(Table(("mode", "as a change of the scenario"), rows, left=2),))


def together(ran: Sequence[ModeResult]) -> Section:
    """The speed-up of each mode over the number of sequences computed together."""
    sizes = batches_of(ran)
    series = []
    for one in ran:
        pairs = [(size, gain) for size in sizes if (gain := one.at_once[size]) is not None]
        gains = [gain for _, gain in pairs]
        about_them = [f"{counted(size, 'sequence')} together" for size, _ in pairs]
        if pairs:
            marks = [(gain, gain) for gain in gains]
            series.append(many.Series(one.mode.choice.name, [size for size, _ in pairs], gains, marks, about_them))
    axes = ("sequences together", "speed-up")
    sentence = (
        "Over as many sequences together of the target alone, of steady rounds; modes whose rounds differ in length, "
        "or cross a link, have none."
    )
    plots = (many.lines(series, axes, {size: str(size) for size in sizes}, joined=True),) if series else ()
    return Section("together", (sentence,), plots=plots)


def not_here(results: Sequence[ModeResult]) -> Section:
    """The modes that do not run, by reason."""
    rows = [("; ".join(names), clean(why)) for why, names in reasons(results).items()]
    if not rows:
        return Section("not here", ("Every mode runs on this target.",))
    return Section("not here", tables=(Table(("mode", "why not"), rows, left=2),))


def confidence(setup: Setup) -> Section:
    """What the ranking rests on, and what would narrow it."""
    sentences = (
        "Modes are compared at the nominal figures below; no error bars are drawn here. hilsim simulate with a mode's "
        "settings and --uncertainty 200 draws them.",
        f"Measure first: {measure_first(setup)}",
    )
    return Section("how sure", sentences)
