"""A campaign on the terminal and as a document: the verdict, which fault costs what, and which policy survives it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.describe.campaign import Campaign
from hilsim.describe.faults import PHASES
from hilsim.files import written
from hilsim.measure.injected import INJECTED
from hilsim.show.numbers import byte_count, clean, counted, duration, percent, shortened
from hilsim.show.results import write_points
from hilsim.show.table import Table
from hilsim.study.campaign import CampaignResult, Group, Miss

if TYPE_CHECKING:
    from rich.console import Console

LOST, SILENT, NEVER = "✗", "≠", "·"
LEGEND = f"{LOST} in some runs not survived, {SILENT} text wrong and nothing noticed it, {NEVER} never hit."
MOST_NAMES = 4
BROAD = 132  # columns of text that hold times and effects
LABEL, GAP = 26, 2  # columns of text: of a fault's name, between numbers
MOST_MISSES = 12


def verdict(found: CampaignResult) -> str:
    """What was survived, what was not, what it cost and which policy stands it best, in a few sentences."""
    whole = found.whole
    hit = len(whole.hit)
    if not hit:
        return "No fault hit anything: every instant lies beyond the runs, or every point was refused."
    lost, wrong = whole.lost, whole.wrong
    good = whole.good
    if good == hit:
        text = f"Every one of {counted(hit, 'fault')} was survived, with the target's own text."
    else:
        text = f"{good} of {counted(hit, 'fault')} were survived with the target's own text."
    if lost:
        text += f" {lost} {was(lost)} not survived ({blamed(found, lambda group: group.lost)})."
    if wrong:
        silent = whole.count("silent")
        unnoticed = "unnoticed" if silent == wrong else f"{silent} of them unnoticed"
        text += f" {wrong} left a wrong text, {unnoticed} ({blamed(found, lambda group: group.wrong)})."
    costly = max(found.faults, key=lambda group: group.percentile("added_ms", "p99") or 0.0)
    if (most := costly.percentile("added_ms", "p99")) is not None and most > 0:
        text += f" The costliest is {costly.fault}: an answer takes {duration(most)} longer (p99)."
    if len(found.policies) > 1:
        text += f" {found.policies[0].policy} survives best"
        added = found.policies[0].percentile("added_ms", "p99")
        text += "." if added is None else f": an answer takes {duration(added)} longer (p99 over all faults)."
    return text


def was(number: int) -> str:
    """The verb of a number of things."""
    return "was" if number == 1 else "were"


def blamed(found: CampaignResult, how_many: Callable[[Group], int]) -> str:
    """The faults with so many bad runs, and the policies they happened under where not under all."""
    names = []
    for group in found.faults:
        under = [cell.policy for cell in found.cells if cell.fault == group.fault and how_many(cell)]
        if under:
            able = [cell for cell in found.cells if cell.fault == group.fault and cell.hit]
            names.append(group.fault if len(under) == len(able) else f"{group.fault} under {', '.join(under)}")
    left = len(names) - MOST_NAMES
    return "; ".join(names[:MOST_NAMES]) + (f"; and {counted(left, 'more fault')}" if left > 0 else "")


def short_names(names: Sequence[str]) -> list[str]:
    """Policies without their parameters where that tells them apart."""
    heads = [name.split(",")[0] for name in names]
    return [head if heads.count(head) == 1 else name for head, name in zip(heads, names, strict=True)]


def costs_tables(found: CampaignResult, width: int) -> Iterator[Table]:
    """Faults by policies: how much longer an answer takes at p99, with marks of what is worse than that.

    As many policies stand beside each other as there is room for in so many columns of text.
    """
    policies = [group.policy for group in found.policies]
    names = [name.replace(", ", "\n") for name in short_names(policies)]
    cells = {(group.fault, group.policy): cost_text(group) for group in found.cells}
    shown = [[cells[group.fault, policy] for group in found.faults] for policy in policies]
    wide = [GAP + max(map(len, [*name.split("\n"), *column])) for name, column in zip(names, shown, strict=True)]
    begin = 0
    while begin < len(policies):
        end = begin + 1
        while end < len(policies) and LABEL + sum(wide[begin : end + 1]) <= width:
            end += 1
        rows = [
            [group.fault, *(column[place] for column in shown[begin:end])] for place, group in enumerate(found.faults)
        ]
        yield Table(["added latency, p99", *names[begin:end]], rows)
        begin = end


def cost_text(group: Group) -> str:
    """The added latency of one field, with its marks."""
    if not group.hit:
        return NEVER
    added = group.percentile("added_ms", "p99")
    return ("" if added is None else duration(added)) + marks(group)


def marks(group: Group) -> str:
    """What is worse than a late answer."""
    return (f" {LOST}" if group.lost else "") + (f" {SILENT}" if group.count("silent") else "")


TIMES = ("detected", "max", "reacted", "max", "recovered", "max", "added", "p99")
EFFECTS = ("hit", "no effect", "read again", "resent", "in time", "own text", "survived")


def times_of(group: Group) -> list[Any]:
    """Median and longest detection, reaction and recovery, then median and p99 of the added latency, in ms."""
    spent = [
        value
        for name in ("detection_ms", "reaction_ms", "recovery_ms")
        for value in (group.median(name), group.most(name))
    ]
    return [*spent, group.median("added_ms"), group.percentile("added_ms", "p99")]


def effects_of(group: Group) -> list[Any]:
    """Runs hit, the most work done again, and shares of the runs that were hit."""
    resent, in_time = group.most("resent_bytes"), group.share("in_time")
    hit = len(group.hit)
    return [
        f"{hit}/{len(group.rows)}",
        str(group.values("changed").count(0.0)),
        None if (again := group.most("recomputed_tokens")) is None else f"{again:.0f}",
        None if resent is None else byte_count(resent),
        None if in_time is None else percent(in_time),
        percent(group.count("exact") / hit) if hit else None,
        percent(group.count("survived") / hit) if hit else None,
    ]


def group_tables(groups: Sequence[Group], width: int) -> Iterator[Table]:
    """Times and effects of some groups: one table where there is room, else two."""
    heads = [head for head in ("fault", "policy") if getattr(groups[0], head)]
    head = " under ".join(heads)
    names = [" under ".join(getattr(group, head) for head in heads) for group in groups]
    times, effects = [times_of(group) for group in groups], [effects_of(group) for group in groups]
    caption = "times in ms: median and longest, of the added latency median and p99"
    if width >= BROAD:
        rows = [[name, *one, *other] for name, one, other in zip(names, times, effects, strict=True)]
        yield Table([head, *TIMES, *EFFECTS], rows, caption=caption)
        return
    yield Table([head, *TIMES], [[name, *one] for name, one in zip(names, times, strict=True)], caption=caption)
    yield Table([head, *EFFECTS], [[name, *one] for name, one in zip(names, effects, strict=True)])


def policies_table(found: CampaignResult) -> Table:
    """Policies, the one that survives best first: shares of the runs hit, then the passenger's times."""
    columns = ("policy", "hit", "survived", "own text", "in time", "added", "p99", "answer", "without")
    rows = []
    for group in found.policies:
        effects = dict(zip(EFFECTS, effects_of(group), strict=True))
        times = [group.median("added_ms"), group.percentile("added_ms", "p99")]
        means = [group.mean(f"request_latency{which}_ms") for which in ("", "_without")]
        rows.append([group.policy, *(effects[name] for name in columns[1:5]), *times, *means])
    return Table(columns, rows, caption="times in ms: added median and p99, mean answer with and without a fault")


def coverage_table(found: CampaignResult) -> Table:
    """Faults by phases: runs in which the fault hit that phase, of those that were to."""
    rows = [
        [fault, *(None if not aimed else f"{hits}/{aimed}" for hits, aimed in phases.values())]
        for fault, phases in found.coverage.items()
    ]
    return Table(["hit, of runs aimed at it", *PHASES], rows)


def miss_text(miss: Miss) -> str:
    """Which runs a fault did not hit, and why."""
    faults = named(miss.faults, "fault")
    where = f"{counted(miss.runs, 'run')}, {faults} at {named(miss.aims, 'instant')}, {named(miss.policies, 'policy')}"
    return f"{where}: {clean(shortened(miss.reason, 300))}"


def named(names: Sequence[str], noun: str) -> str:
    """A few names, or how many there are."""
    if len(names) <= 2:
        return " and ".join(names)
    return f"{len(names)} {noun.removesuffix('y')}ies" if noun.endswith("y") else counted(len(names), noun)


def render(campaign: Campaign, found: CampaignResult, tolerance_ms: float, console: Console, *, details: bool) -> None:
    """All of it, the verdict first. With `details` also a row for each fault under each policy."""

    def write(text: str, style: str = "") -> None:
        console.print(text, style=style, highlight=False, markup=False)

    if campaign.question:
        write(clean(campaign.question), "bold")
    write(f"{verdict(found)}\n")
    for table in costs_tables(found, console.width):
        table.print(console)
    write(LEGEND, "dim")
    write(f"\nEach fault, over all policies; in time: detected and reacted to within {duration(tolerance_ms)}.")
    for table in group_tables(found.faults, console.width):
        table.print(console)
    write("\nEach policy, over all faults that hit it, the one that survives best first.")
    policies_table(found).print(console)
    if details:
        write("\nEach fault under each policy.")
        for table in group_tables(found.cells, console.width):
            table.print(console)
    write("\nPhases that were hit.")
    coverage_table(found).print(console)
    if found.misses:
        write("\nNot hit, and why:")
    for miss in found.misses[:MOST_MISSES]:
        write(f"  {miss_text(miss)}", "dim")
    if (left := len(found.misses) - MOST_MISSES) > 0:
        write(f"  and {counted(left, 'more reason')}; --json has all of them.", "dim")
    remarks = [row for row in found.whole.hit if row.outcome.reason]
    if remarks:
        write("\nLost:")
    for row in remarks[:MOST_MISSES]:
        policy, fault, instant = (str(label) for label in row.labels)
        write(f"  {fault}, {instant}, under {policy}: {clean(row.outcome.reason)}", "dim")
    if (left := len(remarks) - MOST_MISSES) > 0:
        write(f"  and {left} more; --csv has all of them.", "dim")
    if failed := found.count(lambda row: row.outcome.state == "failed"):
        write(f"{counted(failed, 'point')} failed unexpectedly; --retry-failed runs them again.", "bold red")


def numbers_in(group: Group) -> dict[str, Any]:
    """A group as numbers: counts, then median, p99 and largest of every measure."""
    spread = {
        name: {"p50": group.median(name), "p99": group.percentile(name, "p99"), "max": group.most(name)}
        for name, measure in INJECTED.items()
        if measure.unit != "share"
    }
    return {
        "runs": len(group.rows), "hit": len(group.hit), "survived": group.count("survived"),
        "exact": group.count("exact"), "silent": group.count("silent"), "in_time": group.share("in_time"), **spread,
    }  # fmt: skip


def export(
    campaign: Campaign, found: CampaignResult, *, csv: Path | None, parquet: Path | None, plot: Path | None
) -> None:
    """Write the requested files, each whole or not at all."""
    write_points(found.rows, found.grid, list(INJECTED), csv=csv, parquet=parquet)
    if plot is not None:
        from hilsim.show.plots.campaign import draw_campaign

        with written(plot) as path:
            draw_campaign(found, campaign.question or campaign.name, path, plot.suffix[1:])


def document(campaign: Campaign, found: CampaignResult, tolerance_ms: float) -> dict[str, Any]:
    """The whole result: what `--json` prints."""
    return {
        "campaign": campaign.name,
        "scenario": campaign.scenario,
        "tolerance_ms": tolerance_ms,
        "verdict": verdict(found),
        "faults": [{"fault": group.fault, **numbers_in(group)} for group in found.faults],
        "policies": [{"policy": group.policy, **numbers_in(group)} for group in found.policies],
        "fault_under_policy": [
            {"fault": group.fault, "policy": group.policy, **numbers_in(group)} for group in found.cells
        ],
        "coverage": {
            fault: {phase: {"hit": hits, "aimed": aimed} for phase, (hits, aimed) in phases.items()}
            for fault, phases in found.coverage.items()
        },
        "not_hit": [
            {
                "reason": one.reason,
                "runs": one.runs,
                "policies": list(one.policies),
                "aims": list(one.aims),
                "faults": list(one.faults),
            }
            for one in found.misses
        ],
        "lost": [
            {**dict(zip(("policy", "fault", "instant"), map(str, row.labels), strict=True)), "what": row.outcome.reason}
            for row in found.whole.hit
            if row.outcome.reason
        ],
        "measures": {name: {"unit": one.unit, "definition": one.definition} for name, one in INJECTED.items()},
    }
