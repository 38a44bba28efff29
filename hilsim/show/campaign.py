"""A campaign on the terminal and as a document: the verdict, which fault costs what, and which policy survives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hilsim.describe.campaign import Campaign
from hilsim.describe.campaign_load import POLICY
from hilsim.describe.faults import PHASES
from hilsim.measure.injected import INJECTED
from hilsim.show.numbers import byte_count, clean, counted, duration, percent, shortened
from hilsim.show.table import Table
from hilsim.study.campaign import CampaignResult, Group, Miss
from hilsim.study.points import label_text

if TYPE_CHECKING:
    from rich.console import Console

LOST, SILENT, NEVER = "✗", "≠", "·"
LEGEND = f"{LOST} in some runs not survived, {SILENT} text wrong and nothing noticed it, {NEVER} it changed nothing."
RANKED = (
    "Each policy, ranked by the shares of all its runs that are lost (not survived), wrong (another text) and late "
    "(not in time), then by the mean added latency."
)
MOST_NAMES = 4
BROAD = 132  # columns of text that hold times and effects
LABEL, GAP = 26, 2  # columns of text: of a fault's name, between numbers
MOST_MISSES = 12


def verdict(found: CampaignResult) -> str:
    """What was survived, what was not, what it cost and which policy stands it best, in a few sentences."""
    whole = found.whole
    hit, unchanged = len(whole.hit), len(whole.began) - len(whole.hit)
    if not hit:
        return (
            f"No fault hit anything: in {unchanged} of {counted(len(whole.rows), 'run')} it began and changed nothing, "
            f"in the others it never began."
        )
    text = f"The fault hit {hit} of {counted(len(whole.rows), 'run')}"
    text += f"; in {unchanged} more it began and changed nothing. " if unchanged else ". "
    if whole.good == hit:
        text += "Wherever it hit it was survived, with the target's own text."
    else:
        text += f"In {whole.good} of the {hit} it was survived with the target's own text."
    if whole.lost:
        text += f" In {whole.lost} it was not survived ({blamed(found, lambda group: group.lost)})."
    if whole.wrong:
        silent = whole.count("silent")
        unnoticed = "unnoticed" if silent == whole.wrong else f"in {silent} of them unnoticed"
        text += f" In {whole.wrong} the text is wrong, {unnoticed} ({blamed(found, lambda group: group.wrong)})."
    costly = max(found.faults, key=lambda group: group.percentile("added_ms", "p99") or 0.0)
    if (most := costly.percentile("added_ms", "p99")) is not None and most > 0:
        text += f" The costliest is {costly.fault}: an answer takes {duration(most)} longer (p99)."
    return text + ranking(found)


def ranking(found: CampaignResult) -> str:
    """Which policy stands the faults best, and which of those that speculate, with what that gains."""
    ranked, short = [group for group in found.policies if group.done], shortened_policies(found)
    if len(ranked) < 2:
        return ""
    best = ranked[0]
    text = f" {short[best.policy]} stands them best: {standing(best)}."
    named = [best]
    fastest = next((group for group in ranked if group.policy in found.speculating), None)
    if fastest is not None and fastest is not best:
        text += f" Of the policies that speculate {short[fastest.policy]} does: {standing(fastest)}."
        named.append(fastest)
    soonest = min(ranked, key=mean_answer)
    if soonest not in named:
        named.append(soonest)
    answers = [f"{duration(mean_answer(one))} with {short[one.policy]}" for one in named if mean_answer(one) < math.inf]
    return f"{text} With faults an answer takes {', '.join(answers)} on average." if answers else text


def standing(group: Group) -> str:
    """How often faults hit a policy, and what they add to an answer of it."""
    text = f"they hit {len(group.hit)} of its {counted(len(group.done), 'run')}"
    added = group.over_all("added_ms", "mean")
    return text if added is None else f"{text} and add {duration(added)} to an answer, on average over all"


def mean_answer(group: Group) -> float:
    """The mean request latency over all runs that are done, in ms; infinite without any."""
    answer = group.over_all("request_latency_ms", "mean")
    return math.inf if answer is None else answer


def blamed(found: CampaignResult, how_many: Callable[[Group], int]) -> str:
    """The faults with so many bad runs, and the policies they happened under where not under all."""
    names, short = [], shortened_policies(found)
    for group in found.faults:
        cells = [cell for cell in found.cells if cell.fault == group.fault and cell.hit]
        under = [short[cell.policy] for cell in cells if how_many(cell)]
        if under:
            names.append(group.fault if len(under) == len(cells) else f"{group.fault} under {', '.join(under)}")
    left = len(names) - MOST_NAMES
    return "; ".join(names[:MOST_NAMES]) + (f"; and {counted(left, 'more fault')}" if left > 0 else "")


def shortened_policies(found: CampaignResult) -> dict[str, str]:
    """What tables call each policy."""
    policies = found.names(POLICY)
    return dict(zip(policies, short_names(policies), strict=True))


def short_names(names: Sequence[str]) -> list[str]:
    """Policies without their parameters where that tells them apart."""
    heads = [name.split(",")[0] for name in names]
    return [head if heads.count(head) == 1 else name for head, name in zip(heads, names, strict=True)]


def costs_tables(found: CampaignResult, width: int) -> Iterator[Table]:
    """Faults by policies: how much longer an answer takes at p99, with marks of what is worse than that.

    As many policies stand beside each other as there is room for in so many columns of text.
    """
    policies = [group.policy for group in found.policies]
    short = shortened_policies(found)
    names = [short[policy].replace(", ", "\n") for policy in policies]
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
        str(len(group.began) - hit),
        None if (again := group.most("recomputed_tokens")) is None else f"{again:.0f}",
        None if resent is None else byte_count(resent),
        None if in_time is None else percent(in_time),
        percent(group.count("exact") / hit) if hit else None,
        percent(group.count("survived") / hit) if hit else None,
    ]


def group_tables(found: CampaignResult, groups: Sequence[Group], width: int) -> Iterator[Table]:
    """Times and effects of some groups: one table where there is room, else two."""
    short = shortened_policies(found)
    head = "fault under policy" if groups[0].policy else "fault"
    names = [f"{group.fault} under {short[group.policy]}" if group.policy else group.fault for group in groups]
    times, effects = [times_of(group) for group in groups], [effects_of(group) for group in groups]
    caption = "times in ms: median and longest, of the added latency median and p99"
    if width >= BROAD:
        rows = [[name, *one, *other] for name, one, other in zip(names, times, effects, strict=True)]
        yield Table([head, *TIMES, *EFFECTS], rows, caption=caption)
        return
    yield Table([head, *TIMES], [[name, *one] for name, one in zip(names, times, strict=True)], caption=caption)
    yield Table([head, *EFFECTS], [[name, *one] for name, one in zip(names, effects, strict=True)])


def policies_table(found: CampaignResult) -> Table:
    """Policies in their order, with the shares that make it, of all runs, and then the passenger's times."""
    short = shortened_policies(found)
    columns = ("policy", "hit", "lost", "wrong", "late", "added", "p99", "answer", "no faults")
    rows = []
    for group in found.policies:
        shares = [None] * 3 if group.bad_shares is None else [percent(share) for share in group.bad_shares]
        times = [group.over_all("added_ms", which) for which in ("mean", "p99")]
        means = [group.over_all(f"request_latency{which}_ms", "mean") for which in ("", "_without")]
        rows.append([short[group.policy], f"{len(group.hit)}/{len(group.rows)}", *shares, *times, *means])
    return Table(columns, rows, caption="times in ms, over all runs: added mean and p99, then the mean answer")


def coverage_table(found: CampaignResult) -> Table:
    """Faults by phases: runs in which the fault began in that phase and hit, of those that were to."""
    rows = [
        [fault, *(None if not aimed else f"{hits}/{aimed}" for hits, aimed in phases.values())]
        for fault, phases in found.coverage.items()
    ]
    return Table(["hit, of runs aimed at it", *PHASES], rows)


def miss_text(miss: Miss, short: Mapping[str, str]) -> str:
    """Why runs were not hit, and which."""
    policies = named([short[policy] for policy in miss.policies], "policy")
    aims = named(miss.aims, "instant")
    which = f"{named(miss.faults, 'fault')} {aims if aims.startswith('at ') else f'at {aims}'} under {policies}"
    return f"{counted(miss.runs, 'run')}: {clean(shortened(miss.reason, 300))} ({which})"


def lost_lines(found: CampaignResult) -> Iterator[str]:
    """What was lost, a line a fault, with its first example."""
    short = shortened_policies(found)
    for group in found.faults:
        if rows := [row for row in group.hit if row.outcome.reason]:
            policy, _, instant = map(label_text, rows[0].labels)
            example = f"{instant} under {short[policy]}: {clean(rows[0].outcome.reason)}"
            yield f"{group.fault}, {counted(len(rows), 'run')}, such as {example}"


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
    for table in group_tables(found, found.faults, console.width):
        table.print(console)
    write(f"\n{RANKED}")
    policies_table(found).print(console)
    if details:
        write("\nEach fault under each policy.")
        for table in group_tables(found, found.cells, console.width):
            table.print(console)
    write("\nPhases that were hit.")
    coverage_table(found).print(console)
    if found.misses:
        write("\nNot hit, and why:")
    short = shortened_policies(found)
    for miss in found.misses[:MOST_MISSES]:
        write(f"  {miss_text(miss, short)}", "dim")
    if (left := len(found.misses) - MOST_MISSES) > 0:
        write(f"  and {counted(left, 'more reason')}; --json has all of them.", "dim")
    if lost := list(lost_lines(found)):
        write("\nLost:")
    for line in lost:
        write(f"  {line}", "dim")
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
        "runs": len(group.rows), "done": len(group.done), "began": len(group.began), "hit": len(group.hit),
        "survived": group.count("survived"), "exact": group.count("exact"), "silent": group.count("silent"),
        "late": group.late, "in_time": group.share("in_time"), **spread,
    }  # fmt: skip


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
