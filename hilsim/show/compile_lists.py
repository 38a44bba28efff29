"""How a check ends: what is refused, slow and fine, and the time of one pass as it is and as it could be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from hilsim.compiler.findings import Finding, SlowFinding
from hilsim.compiler.plan import GraphPlan, Plan
from hilsim.show.compile_report import EXACT
from hilsim.show.kinds import BAD, GOOD
from hilsim.show.numbers import counted, duration
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME

UNSURE = "#e69f00"
LEAVES = {"cpu": "runs on the CPU", "gpu": "runs on the GPU"}


@dataclass(frozen=True)
class Refused:
    """One operator, or one rule about a whole graph, that a compiler refuses, and what became of it."""

    subject: str
    what: str
    rule: str
    places: int
    then: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slow:
    """The same slow pattern in several graphs of one model."""

    subject: str
    graphs: tuple[SlowFinding, ...]

    @property
    def first(self) -> SlowFinding:
        return self.graphs[0]


def refused_in(plan: Plan) -> list[Refused]:
    """What a plan's compiler refuses, each operator and rule once."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for graph in plan.graphs:
        for one in graph.findings:
            if one.severity == "error":
                found.setdefault((one.operator or one.module or "the whole graph", one.rule), []).append(one)
    return [
        Refused(
            plan.subject,
            what,
            rule,
            len({(one.graph, one.node) for one in same}),
            outcome(plan, same),
            # An operator is found by its places above; an input is known by its name.
            tuple(dict.fromkeys(one.reason for one in same)) if rule == "dynamic-shape" else (),
        )
        for (what, rule), same in found.items()
    ]


def outcome(plan: Plan, same: Sequence[Finding]) -> str:
    """What became of refused nodes: a rewrite, another unit, or the build fails."""
    first = same[0]
    used = [use for graph in plan.graphs for use in graph.chosen]
    names = [use.name for use in used if use.operator == first.operator or use.name in first.rewrites]
    names += [use.name for use in used if use.operator == "module call" and use.module == first.module]
    if any(first.operator in graph.away_operators for graph in plan.graphs):
        return LEAVES.get(plan.elsewhere, "the build fails")
    if names and plan.outcome != "refused":
        return f"rewritten by {', '.join(dict.fromkeys(names))}"
    return "the build fails" if plan.refusals else "rewritten"


def slow_in(plan: Plan) -> list[Slow]:
    """What is slow in a plan, the same pattern of several graphs together, the dearest first."""
    found: dict[tuple[str, tuple[str, ...]], list[SlowFinding]] = {}
    for graph in plan.graphs:
        for one in graph.slow:
            found.setdefault((one.name, one.operators), []).append(one)
    entries = [Slow(plan.subject, tuple(same)) for same in found.values()]
    return sorted(entries, key=lambda entry: -max(one.factor for one in entry.graphs))


def fine_in(plan: Plan) -> list[str]:
    """How much of a plan is fine, and what could have been doubted."""
    if not any(graph.operators for graph in plan.graphs):
        return []
    most = max(graph.operators for graph in plan.graphs)
    bad = {one.operator for graph in plan.graphs for one in graph.findings if one.severity == "error" and one.operator}
    slow = {name for graph in plan.graphs for one in graph.slow for name in one.operators}
    text = f"{most - len(bad)} of {counted(most, 'kind')} of operators" if bad else f"all {most} kinds of operators"
    nodes = max(graph.nodes for graph in plan.graphs)
    lines = [f"{text} in {counted(len(plan.graphs), 'graph')} of up to {nodes} nodes{' compile' if slow else ''}"]
    return [*lines, *dict.fromkeys(sentence for graph in plan.graphs for sentence in graph.fine)]


def factor_text(found: SlowFinding | GraphPlan) -> str:
    """How many times as long, with the range that assumed rates leave."""
    if isinstance(found, GraphPlan):
        low, high = (end / found.could_s if found.could_s else 1.0 for end in (found.pass_low_s, found.pass_high_s))
    else:
        low, high = found.factor_low, found.factor_high
    ranged = high - low > 0.02 * found.factor
    return f"{found.factor:.3g}x" + (f" ({low:.3g} to {high:.3g})" if ranged else "")


def lists_as_json(plans: Iterable[Plan]) -> dict[str, Any]:
    """The three lists and the passes as plain data; times in milliseconds."""
    plans = list(plans)
    return {
        "refused": [vars(one) for plan in plans for one in refused_in(plan)],
        "slow": [slow_as_json(entry, one) for plan in plans for entry in slow_in(plan) for one in entry.graphs],
        "fine": [{"subject": plan.subject, "unit": plan.unit, "text": fine_in(plan)} for plan in plans],
        "passes": [
            {
                "subject": plan.subject,
                "unit": plan.unit,
                "graph": graph.name,
                "rows": graph.rows,
                "as_it_is_ms": 1000 * graph.pass_s,
                "as_it_is_range_ms": [1000 * graph.pass_low_s, 1000 * graph.pass_high_s],
                "as_it_could_be_ms": 1000 * graph.could_s,
                "factor": graph.factor,
                "compiles": plan.outcome != "refused",
            }
            for plan in plans
            if plan.outcome != "refused" or example_times(plan)
            for graph in plan.graphs
        ],
    }


def slow_as_json(entry: Slow, found: SlowFinding) -> dict[str, Any]:
    """A slow finding as plain data."""
    return {
        "subject": entry.subject,
        "graph": found.graph,
        "name": found.name,
        "title": found.title,
        "module": found.module,
        "line": found.line,
        "operators": list(found.operators),
        "nodes": found.count,
        "factor": found.factor,
        "factor_range": [found.factor_low, found.factor_high],
        "takes_ms": 1000 * found.takes_s,
        "could_take_ms": 1000 * found.could_s,
        "gain_ms": 1000 * found.gain_s,
        "gain_range_ms": [1000 * found.low_s, 1000 * found.high_s],
        "figures": found.kind,
        "rewrite": found.rewrite,
        "exactness": found.exactness,
        "remedy": found.remedy,
        "source": found.source,
        "sources_of_figures": list(found.figures),
    }


def render_lists(plans: Sequence[Plan], console: Console) -> None:
    """The three lists and the time of one pass of every graph."""
    page = Page(console)
    page.title("Refused")
    refused = [one for plan in plans for one in refused_in(plan)]
    for one in refused:
        places = f" at {counted(one.places, 'place')}" if one.places > 1 else ""
        page.paragraph(Text.assemble((one.what, f"bold {BAD}"), f", {one.rule}{places}: {one.then}"), 2)
        for detail in one.details:
            page.paragraph(detail, 4)
        page.paragraph(Text(one.subject, FRAME), 4)
    if not refused:
        page.line("  nothing")
    page.title("Slow")
    slow = [entry for plan in plans for entry in slow_in(plan)]
    for entry in slow:
        slow_entry(page, entry)
    if not slow:
        page.line("  nothing")
    page.title("Fine")
    fine = [(plan, lines) for plan in plans if (lines := fine_in(plan))]
    for plan, lines in fine:
        page.paragraph(Text.assemble((plan.subject, GOOD), f" on {plan.unit}: {lines[0]}"), 2)
        for line in lines[1:]:
            page.paragraph(line, 4)
    if not fine:
        page.line("  nothing was checked")
    passes(page, plans)


def slow_entry(page: Page, entry: Slow) -> None:
    """One slow pattern: how slow in which graph, where, what to write instead, and on what evidence."""
    first = entry.first
    factors = ", ".join(f"{one.graph} {factor_text(one)}" for one in entry.graphs)
    page.paragraph(Text.assemble((first.name, f"bold {UNSURE}"), f" in {entry.subject}: {factors}"), 2)
    page.paragraph(first.title, 4)
    if first.place:
        several = f", {first.count} nodes over all layers" if first.count > 1 else ""
        page.paragraph(f"at {first.place}{several}", 4)
    times: dict[str, list[str]] = {}
    for one in entry.graphs:
        text = f"{duration(1000 * one.takes_s)} a pass, {duration(1000 * one.could_s)} instead"
        times.setdefault(text, []).append(one.graph)
    page.paragraph("; ".join(f"{', '.join(graphs)}: {text}" for text, graphs in times.items()), 4)
    proven = f" ({first.rewrite}: {EXACT[first.exactness]})" if first.rewrite and first.exactness in EXACT else ""
    page.paragraph(f"instead: {first.remedy}{proven}", 4)
    sources = dict.fromkeys((first.source, *first.figures[:1]))  # --json has all
    page.paragraph(Text(f"[{first.kind}] {'; '.join(sources)}", FRAME), 4)


def example_times(plan: Plan) -> bool:
    """Whether a refused plan is refused for lengths that vary alone, so that its times are those of its example."""
    return all(
        one.rule == "dynamic-shape" for graph in plan.graphs for one in graph.findings if one.severity == "error"
    ) and all(graph.pass_s for graph in plan.graphs)


def passes(page: Page, plans: Sequence[Plan]) -> None:
    """A line a graph: one pass as it is, as it could be, and how many times as long."""
    page.title("One pass")
    page.line((f"  {'':<34}{'as it is':>10}{'could be':>11}  times as long", FRAME))
    for plan in plans:
        page.line(f"  {plan.subject}")
        if plan.outcome == "refused":
            page.line(("    does not compile", BAD))
            if not example_times(plan):
                continue
            page.line("    at the lengths of the example inputs it would take")
        for graph in plan.graphs:
            times = factor_text(graph) if graph.slow else ""
            could = duration(1000 * graph.could_s)
            page.line(f"    {graph.name:<32}{duration(1000 * graph.pass_s):>10}{could:>11}  {times}")
