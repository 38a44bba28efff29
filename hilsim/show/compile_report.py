"""Compile plans as `check` prints them, in full: graphs, findings, rewrites, what leaves the unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from hilsim.compiler.findings import Finding
from hilsim.compiler.plan import Plan
from hilsim.cost.extra import ACTIVATION_BITS
from hilsim.describe.compiled import Work
from hilsim.show.compile import first_uses, key_of, target_of
from hilsim.show.kinds import BAD, GOOD
from hilsim.show.numbers import counted, duration, mebibytes
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME

EXACT = {
    "bits": "the same bits",
    "values": "the same values, among equal ones perhaps others",
    "rounding": "the same up to rounding",
}
SEVERITIES = {"error": ("refused", BAD), "warning": ("unsure", "#e69f00"), "note": ("note", FRAME)}


def render_plans(plans: Iterable[Plan], console: Console, *, notes: bool = True) -> None:
    """Every plan in full: graphs, findings with places, rewrites with costs, operators that leave the unit."""
    page = Page(console)
    for plan in plans:
        opening(page, plan)
        for group in grouped(plan):
            if notes or group.first.severity != "note":
                finding(page, group)
        rewrites(page, plan)
        ending(page, plan)


def opening(page: Page, plan: Plan) -> None:
    """The unit, precision and rule profile of a plan, its outcome, and a line for each graph."""
    page.line()
    colour = {"refused": BAD, "in pieces": "#e69f00"}.get(plan.outcome, GOOD)
    page.paragraph(
        Text.assemble(
            (plan.subject, "bold"),
            f" on {plan.unit}, {plan.precision}, {plan.activations} activations: ",
            (plan.outcome, f"bold {colour}"),
            unsure(plan),
        )
    )
    page.paragraph(f"profile {plan.profile}, {plan.title}; what it refuses runs {where(plan)}", 2)
    counts = f"{'nodes':>7}{'refused':>9}{'rewritten':>11}{'off unit':>10}{'pieces':>8}"
    page.line((f"  {'graph':<14}{counts}{'added time':>12}", FRAME))
    for graph in plan.graphs:
        errors = len({(found.node, found.module) for found in graph.findings if found.severity == "error"})
        rewritten = sum(use.nodes for use in graph.chosen)
        more = plan.more_seconds(graph)
        page.line(
            f"  {graph.name:<14}{graph.nodes:>7}{errors:>9}{rewritten:>11}{len(graph.away):>10}{graph.pieces:>8}"
            f"{duration(more * 1000):>12}"
        )
    if plan.load is not None:
        size = f"{round(plan.load.params_b * 1e9):,} parameters read a pass, {plan.load.gmacs:.3g} GMACs"
        page.paragraph(f"{size}, {plan.load.operators} operators", 2)
    if plan.items:
        page.paragraph("memory: " + ", ".join(f"{what} {mebibytes(nbytes)}" for what, nbytes in plan.items), 2)


def unsure(plan: Plan) -> str:
    """How many of its statements are assumed."""
    found = {one.operator for graph in plan.graphs for one in graph.findings if one.severity == "warning"}
    return f", {counted(len(found), 'operator')} unsure" if found else ""


def where(plan: Plan) -> str:
    """Where refused operators run, as the end of a sentence."""
    return {"cpu": "on the CPU", "gpu": "on the GPU"}.get(plan.elsewhere, "nowhere, so the build fails")


@dataclass(frozen=True)
class Group:
    """The same rule against the same operator at several nodes."""

    first: Finding
    nodes: int
    graphs: tuple[str, ...]


def grouped(plan: Plan) -> list[Group]:
    """Findings by rule and operator, errors first."""
    found: dict[tuple[str, str, str], list[Finding]] = {}
    for graph in plan.graphs:
        for one in graph.findings:
            found.setdefault((one.severity, one.rule, one.operator or one.module), []).append(one)
    groups = [
        Group(same[0], len({(one.graph, one.node) for one in same}), tuple(dict.fromkeys(one.graph for one in same)))
        for same in found.values()
    ]
    return sorted(groups, key=lambda group: list(SEVERITIES).index(group.first.severity))


def finding(page: Page, group: Group) -> None:
    """One finding with its place, reason, source and remedy; notes in short."""
    one = group.first
    severity, colour = SEVERITIES[one.severity]
    what = one.operator or one.module or "the whole graph"
    if one.severity == "note":
        page.paragraph(Text(f"{one.rule}, {what}: {one.reason}", FRAME), 10, f"{severity:<10}")
        return
    several = f"  {counted(group.nodes, 'node')} in {', '.join(group.graphs)}" if group.nodes > 1 else ""
    page.line()
    page.paragraph(Text.assemble((what, f"bold {colour}"), f"  {one.rule}", (several, FRAME)), 10, f"{severity:<10}")
    if one.place:
        page.paragraph(f"at {one.place}", 10)
    page.paragraph(one.reason, 10)
    page.paragraph(Text(f"[{one.evidence}] {one.source}", FRAME), 10)
    if one.remedy:
        page.paragraph(f"remedy: {one.remedy}", 10)


def rewrites(page: Page, plan: Plan) -> None:
    """Every rewrite that is used: its cost a graph, how exact it is, and the alternatives."""
    for use in first_uses(plan):
        prices = [
            f"{graph.name} {duration(same.seconds * 1000)}"
            for graph in plan.graphs
            for same in graph.chosen
            if key_of(same) == key_of(use)
        ]
        page.line()
        head = Text.assemble((use.name, f"bold {GOOD}"), f" for {target_of(use)}: {use.title}")
        page.paragraph(head, 10, "rewrite   ")
        most = max(same.bytes for graph in plan.graphs for same in graph.chosen if key_of(same) == key_of(use))
        memory = f"; up to {mebibytes(most)} of memory" if most else ""
        page.paragraph(f"{', '.join(prices)}{memory}; {EXACT[use.exactness]}", 10)
        if use.work != Work():
            page.paragraph(f"a pass of {plan.graphs[0].name}: {work_text(use.work, plan.activations)}", 10)
        if use.caveat:
            page.paragraph(f"caveat: {use.caveat}", 10)
        for option in use.others:
            price = f"{duration(option.seconds * 1000)}, {mebibytes(option.bytes)}"
            page.paragraph(Text(f"alternative: {option.name} {price}, {EXACT[option.exactness]}", FRAME), 10)


def work_text(work: Work, activations: str) -> str:
    """Launches, bytes and operations more, or less."""
    moved = mebibytes(abs(work.numbers) * ACTIVATION_BITS[activations] / 8)
    sign = "-" if work.numbers < 0 else "+"
    return f"{work.launches:+,} launches, {sign}{moved} moved, {work.operations:+,} operations"


def ending(page: Page, plan: Plan) -> None:
    """What leaves the unit, what refuses it, remarks."""
    for graph in plan.graphs:
        if graph.crossings:
            known = graph.crossing_s > 0
            ways = counted(graph.crossings, "crossing") + (f" {duration(graph.crossing_s * 1000)}" if known else "")
            work = f", the work there {duration(graph.away_s * 1000)}" if known else ", at an unknown cost"
            verb = "would be" if plan.refusals else "are"
            left = f"{graph.name}: {', '.join(graph.away_operators)} {verb} {where(plan)}; {ways}{work}"
            page.paragraph(left, 10, "leaves    ")
    for reason in plan.refusals:
        page.paragraph(Text(reason, BAD), 10, "refused   ")
    for note in plan.notes:
        page.paragraph(Text(note, FRAME), 2)
