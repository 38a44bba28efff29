"""A run as one self-contained page of HTML: no network, light and dark, printable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.compiler.plan import Plan
from hilsim.describe.write import scenario_text
from hilsim.show.break_even import break_even_sentence
from hilsim.show.compile_report import SEVERITIES, Group, grouped
from hilsim.show.numbers import clean, counted, duration, duration_of_ns, gibibytes, milliseconds, percent
from hilsim.show.page import charts
from hilsim.show.page.frame import Page, Section, Turn, about, assumptions, caveat_line, measure_first, reproduce
from hilsim.show.report import TIMES, answer_good
from hilsim.show.sentences import (
    faster_export_sentence,
    headline,
    lossless_sentence,
    remedy_sentence,
    rows_sentences,
    wanted_sentence,
    where_it_went,
)
from hilsim.show.stretches import stretches
from hilsim.show.table import Table
from hilsim.sim.trace import Trace

if TYPE_CHECKING:
    from hilsim.show.run import Run

MOST_TURNS = 60
MOST_TOKENS = 8000  # of the answers that are shown; further answers are left out, which is said
STATISTICS = ("mean", "p50", "p90", "p99")


def page_of(run: Run, command: str) -> Page:
    """The page of a run that ended; `command` is what reproduces it."""
    document = run.report
    facts = {key: document[key] for key in ("scenario", "digest", "seed")}
    return Page(
        name=document["scenario"],
        about=about("run", facts),
        question=clean(document["question"]),
        headline=headline(document),
        good=answer_good(document),
        verdict=tuple(verdict(document)),
        caveats=tuple(caveat_line(one["kind"], one["text"]) for one in document["caveats"]),
        sections=tuple(sections_of(run, command)),
    )


def verdict(document: dict[str, Any]) -> Iterator[str]:
    """What a wanted speed-up takes, whether it pays, and whether the text is the target's."""
    if document.get("wanted") is not None:
        yield wanted_sentence(document["wanted"])
    if document["break_even"] is not None:
        yield break_even_sentence(document["break_even"])
    if document["lossless"] is not None:
        yield lossless_sentence(document["lossless"])[0]


def sections_of(run: Run, command: str) -> Iterator[Section]:
    """The parts of the page, in the order in which they are read."""
    document = run.report
    yield conversation(run)
    yield time_line(run)
    yield where_time_goes(document)
    yield times(document)
    if document["speculative"] is not None and document["speculative"]["num_accepted_tokens_per_pos"]:
        yield acceptance(document["speculative"], document["break_even"])
    yield memory(document)
    if run.plans:
        yield compilation(document, run.plans)
    yield confidence(document, measure_first(run.setup))
    yield assumptions(document["assumptions"])
    if document["notes"] or document["chip_notes"]:
        notes = [clean(note) for note in document["notes"]]
        chips = [f"{chip}: {clean(note)}" for chip, note in document["chip_notes"].items()]
        yield Section("notes", (*notes, *chips))
    yield Section("whole report", ("As the terminal has it.",), listings=(str(run),))
    yield reproduce(command, (scenario_text(Path(run.setup.file), run.setup.overrides, ()),))


def conversation(run: Run) -> Section:
    """What was asked and answered, with what was drafted in another colour."""
    trace = run.speculative or run.baseline
    rounds: dict[int, list[Any]] = {}
    for closed in trace.rounds:
        rounds.setdefault(closed.request, []).append(closed)
    before = accumulate((record.output_tokens for record in trace.requests), initial=0)
    shown = [
        record for record, tokens in zip(trace.requests[:MOST_TURNS], before, strict=False) if tokens < MOST_TOKENS
    ]
    turns = tuple(
        Turn(
            clean(record.user),
            tuple(
                (clean(text), drafted)
                for closed in rounds.get(record.number, ())
                for text, drafted in stretches(closed, run.text_of(closed.tokens), run.text_of)
                if text
            ),
            f"{duration_of_ns(record.finished_ns - record.arrived_ns)}, {counted(record.output_tokens, 'token')}",
        )
        for record in shown
    )
    sentences = ["Drafted and accepted tokens are orange, the target's own are blue and underlined."]
    if len(trace.requests) > len(shown):
        sentences.append(f"The first {len(shown)} of {counted(len(trace.requests), 'answer')} are shown.")
    return Section("conversation", tuple(sentences), turns=turns)


def time_line(run: Run) -> Section:
    """Both runs on their units and links."""
    shown, sentences = [], []
    hint = f"Point at a bar to read what it is, how long and why; {charts.ZOOM}, drag to move."
    traces = [trace for trace in (run.speculative, run.baseline) if trace is not None]
    until_s = max(map(first_answer_s, traces))
    for trace in traces:
        plot, left_out = charts.timeline(trace, run.setup, until_s)
        shown.append(plot)
        if left_out:
            sentences.append(f"{trace.policy}: the last {left_out} spans are left out; --trace FILE has all.")
    return Section("timeline", tuple(sentences), (hint,), tuple(shown))


def first_answer_s(trace: Trace) -> float:
    """When the first answer was finished, in seconds."""
    return 1.05 * trace.requests[0].finished_ns / 1e9 if trace.requests else 1.0


def runs_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Both runs with their names."""
    found = [("target alone", document["baseline"])]
    return found if document["speculative"] is None else [*found, (document["policy"]["name"], document["speculative"])]


def where_time_goes(document: dict[str, Any]) -> Section:
    """Seconds by cause, and what the speed-up owes to the link, and a faster export leaves of it."""
    sentences = [] if document["speculative"] is None else [where_it_went(document)]
    if (rows := document.get("rows_over_link")) is not None:
        sentences += rows_sentences(rows, document["speedup"])
    for export in document.get("faster_exports", ()):
        sentences.append(faster_export_sentence(export, document["roles"]["target"], document["speedup"]))
    if (found := document.get("remedy")) is not None:
        sentences.append(remedy_sentence(found))
    lost = [(name, block["lost_ms"]) for name, block in runs_of(document)]
    return Section("where time goes", tuple(filter(None, map(clean, sentences))), plots=(charts.where_time_goes(lost),))


def times(document: dict[str, Any]) -> Section:
    """Latencies of both runs."""
    runs = runs_of(document)
    heads = ("ms", *(f"{name}, {statistic}" for name, _ in runs for statistic in STATISTICS))
    rows = tuple(
        (
            metric.removesuffix("_ms").replace("_", " "),
            *(
                "-" if block[metric] is None else milliseconds(block[metric][statistic])
                for _, block in runs
                for statistic in STATISTICS
            ),
        )
        for metric in TIMES
    )
    return Section("times", tables=(Table(heads, rows),))


def acceptance(block: dict[str, Any], pays: dict[str, Any] | None) -> Section:
    """What was accepted, in all and by place; and the other number that is called acceptance, where a verdict `pays` on
    it.
    """
    sentence = (
        f"{percent(block['draft_acceptance_rate'])} of {block['num_draft_tokens']} drafted tokens were accepted in "
        f"{block['num_drafts']} drafts: {block['tokens_per_round']:.2f} tokens a round."
    )
    turned_by = None if pays is None else pays["turned_by"]["acceptance"]
    more = () if turned_by is None else (
        f"That is the share of all drafted tokens. The acceptance that would turn the verdict is another number: the "
        f"chance of each token where all before it were accepted, {turned_by['at_hand']:.2f} if it is the same at "
        "every place. Tokens behind a rejected one count in the first alone, as not accepted.",
    )  # fmt: skip
    plot = charts.acceptance(block["num_accepted_tokens_per_pos"], block["num_draft_tokens_per_pos"])
    return Section("acceptance", (sentence, *more), plots=(plot,))


def memory(document: dict[str, Any]) -> Section:
    """Each chip's ledger against its cap."""
    chips = document["memory"]
    rows = tuple(
        (chip, item["what"], gibibytes(item["bytes"])) for chip, found in chips.items() for item in found["items"]
    )
    sentences = tuple(clean(found["fit_in_words"]) for found in chips.values())
    return Section(
        "memory", sentences, plots=(charts.memory(chips),), tables=(Table(("chip", "what", "GiB"), rows, left=2),)
    )


def compilation(document: dict[str, Any], plans: Sequence[Plan]) -> Section:
    """How each model compiles, and every finding that refuses or may refuse an operator, with its remedy."""
    rows = tuple(
        (
            plan["subject"],
            f"{plan['unit']}, {plan['profile']}",
            plan["outcome"],
            ", ".join(plan["refused_operators"]) or "nothing",
            ", ".join(f"{use['name']} for {use['for']}" for use in plan["rewrites"]) or "nothing",
            ", ".join(
                f"{graph['name']} +{duration(graph['costs_ms'])}" for graph in plan["graphs"] if graph["costs_ms"]
            ),
        )
        for plan in document["compile"]
    )
    groups = [(plan, group) for plan in plans for group in grouped(plan)]
    found = tuple(finding_row(plan, group) for plan, group in groups if group.first.severity != "note")
    tables = [Table(("what", "for", "outcome", "refused", "rewritten", "costs a pass"), rows, left=6)]
    if found:
        tables.append(Table(("finding", "about", "why", "remedy", "source"), found, left=5))
    sentence = f"{counted(len(found), 'finding')} of the rule profiles; `hilsim check` has their nodes and places."
    return Section("compile", (sentence,), tables=tuple(tables))


def finding_row(plan: Plan, group: Group) -> tuple[str, ...]:
    """A finding: how grave, about what of which model, why, what to do, and who says so."""
    one = group.first
    where = f"{plan.subject}, {one.operator or one.module or 'the whole graph'}"
    remedy = clean(one.remedy) or (f"rewritten as {' or '.join(one.rewrites)}" if one.rewrites else "none known")
    return SEVERITIES[one.severity][0], where, clean(one.reason), remedy, clean(f"{one.evidence}: {one.source}")


def confidence(document: dict[str, Any], narrow: str) -> Section:
    """Error bars where they were asked for, and what would narrow them; `narrow` is how to find that out."""
    found = document.get("uncertainty")
    if found is None:
        drawn = "No error bars were drawn: --uncertainty 200 draws them, and names the figures that move the answer."
        return Section("how sure", (drawn, narrow))
    speed = found["headline"]["speedup"]
    rows = [("by the chips alone", speed["low"], speed["nominal"], speed["high"])]
    for key, words in (
        ("with_sampling", "and resampled requests"),
        ("with_other_pairs", "and other pairs' acceptance"),
    ):
        if key in speed:
            rows.append((words, speed[key]["low"], speed["nominal"], speed[key]["high"]))
    first = speed["moved_most_by"][:1]
    measure = [
        f"Measure first: {one['figure']}; over its range the speed-up goes from {one['at_low']:.2f} to "
        f"{one['at_high']:.2f}."
        for one in first
    ]
    movers = tuple((one["figure"], f"{one['at_low']:.2f}", f"{one['at_high']:.2f}") for one in speed["moved_most_by"])
    head = ("figure that moves the speed-up most", "at its low end", "at its high end")
    tables = (Table(head, movers),) if movers else ()
    interval = f"Intervals hold {found['interval']}, {found['draws']} of them."
    return Section("how sure", (interval, *measure, narrow), plots=(charts.intervals(rows, "speed-up"),), tables=tables)
