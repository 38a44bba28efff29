"""The final report on the terminal, made from a run's JSON document alone and named by its keys.

Plain text where there is no terminal, ASCII where the encoding has no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hilsim.cost.caveats import is_against
from hilsim.describe.backend import SIMULATED
from hilsim.measure.formulas import STATISTICS
from hilsim.measure.parts import LOSSES
from hilsim.show.break_even import break_even_sentence
from hilsim.show.caveats import caveats, chip_notes
from hilsim.show.cockpit_report import render_cockpit
from hilsim.show.distributed import sentences, table_of
from hilsim.show.faults import render_faults
from hilsim.show.faults_on_boards import fault_table
from hilsim.show.hardware import cautions, render_hardware, render_shadow
from hilsim.show.kinds import BAD, DRAFT, GOOD, TARGET
from hilsim.show.numbers import (
    clean,
    counted,
    described,
    duration,
    gibibytes,
    mebibytes,
    milliseconds,
    percent,
    shortened,
    three_digits,
)
from hilsim.show.sentences import (
    faster_export_sentence,
    headline,
    hidden_sentence,
    is_as_wanted,
    lossless_sentence,
    missing,
    outside_sentence,
    remedy_sentence,
    rows_sentences,
    wanted_sentence,
    where_it_went,
)
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME, bar
from hilsim.show.uncertainty import error_bars

Block = dict[str, Any]
NAME, FIGURE = 26, 8
TIMES = (
    "time_to_first_token_ms",
    "time_to_first_clause_ms",
    "inter_token_latency_ms",
    "round_gap_ms",
    "time_per_output_token_ms",
    "request_latency_ms",
)
PLACES_SHOWN, ASSUMPTIONS_SHOWN = 8, 6
INSIDE = {"verify": ("reading",), "waste": ("unused_rows", "thrown_away"), "wait": ("between_passes",)}


def render(document: Block, console: Console) -> None:
    """Print the report of one run."""
    page = Page(console)
    opening(page, document)
    render_cockpit(page, document)
    if document.get("faults") is not None:
        render_faults(page, document["faults"])
    times(page, document)
    speculative = document.get("speculative")
    if speculative is not None:
        acceptance(page, speculative)
        if document.get("hidden_states") is not None:
            page.title("hidden states", "what the draft head is sent, as it is not on the target's chip")
            page.paragraph(hidden_sentence(document["hidden_states"]), 2)
        losses(page, document, speculative)
        held_against(page, document)
    if document.get("break_even") is not None:
        page.title("does it pay", "tokens a round at which it breaks even, and those of this run")
        page.paragraph(Text(break_even_sentence(document["break_even"]), "bold"), 2)
    if document.get("lossless") is not None:
        page.title("lossless")
        sentence, good = lossless_sentence(document["lossless"])
        page.paragraph(Text(sentence, "" if good else f"bold {BAD}"), 2)
    if document.get("uncertainty") is not None:
        error_bars(page, document["uncertainty"])
    if document.get("realtime") is not None:
        realtime(page, document["realtime"])
    if document.get("hardware") is not None:
        render_hardware(page, document["hardware"])
    if document.get("shadow") is not None:
        render_shadow(page, document["shadow"])
    if document.get("distributed") is not None:
        page.title(
            "distributed run", "the same policy with its steps executed on the boards, its messages sent over a link"
        )
        if "lost" in document["distributed"]:
            page.paragraph(Text(clean(document["distributed"]["lost"]), f"bold {BAD}"), 2)
        else:
            page.console.print(table_of(document["distributed"]))
            if "faults" in document["distributed"]:
                page.console.print(fault_table(document["distributed"]["faults"]["faults"]))
            for sentence in sentences(document["distributed"]):
                page.paragraph(sentence, 2)
    compilation(page, document.get("compile", []))
    memory(page, document["memory"])
    chip_notes(page, document.get("chip_notes", {}))
    assumptions(page, document["assumptions"])
    if document.get("notes"):
        page.title("notes")
        for note in document["notes"]:
            page.paragraph(note, 2)
    page.line()
    page.paragraph(answer_of(document))


def answer_of(document: Block) -> Text:
    """The answer in a line or two; printed first, and last, just above the terminal's prompt."""
    return Text(headline(document), f"bold {GOOD if answer_good(document) else BAD}")


def answer_good(document: Block) -> bool:
    """Whether the answer is good news: as fast as wanted, nothing exceeded or in doubt, all in time."""
    against = is_against([one["kind"] for one in document.get("caveats", ())])
    in_time = document.get("turns", {}).get("within_budget", True) and not missing(document.get("background", {}))
    fast = document["speculative"] is None or is_as_wanted(document["speedup"], document.get("wanted_speedup"))
    return fast and not against and in_time


def opening(page: Page, document: Block) -> None:
    """The question, the answer in a sentence, and which model ran on which unit."""
    if document.get("question"):
        page.paragraph(Text(clean(document["question"]), "italic"))
    page.paragraph(answer_of(document))
    outside = outside_sentence(document.get("talk_leaves_car", ()))
    for caution in filter(None, (outside, *cautions(document.get("hardware", [])))):
        page.paragraph(Text(clean(caution), f"bold {BAD}"))
    if (whose := document.get("acceptance")) is not None:
        page.paragraph(f"Acceptance as of {clean(whose['title'])} over {clean(whose['text'])}, {whose['kind']}.")
    caveats(page, document.get("caveats", []))
    for name, role in document["roles"].items():
        if role is None:
            continue
        where = f"{role['model']} {role['precision']} on {role['chip']}.{role['unit']}"
        widths = "" if not role["widths"] else f", widths {' '.join(map(str, role['widths']))}"
        own = role["stand_in"] if role["words"] == "stand_in" else "the board"
        text_source = f", text from {own}" if role["stand_in"] else ""
        if name == "draft" and document["speculative"] is None:
            page.paragraph(f"{where}, not used by this policy", 8, name)
            continue
        if role["backend"] != SIMULATED:
            page.paragraph(f"{where}{widths}{text_source}, executed by {role['backend']}", 8, name)
        else:
            step = f", one decode step {duration(role['decode_step_ms'])} bound by {role['decode_bound_by']}"
            page.paragraph(f"{where}{widths}{text_source}{step}", 8, name)
        page.paragraph(clean(role["quality"]["text"]), 8)
    for network in document.get("networks", []):
        where = f"{network['precision']} on {network['chip']}.{network['unit']}"
        page.paragraph(
            f"{network['module']} {where}, {duration(network['pass_ms'])} a question", 8, network["name"][:7]
        )
    policy = described(document["policy"], "name")
    drafts = document["speculative"] is not None and document["roles"]["draft"] is not None
    link = f", link {document['link']}" if document.get("link") else ", nothing crosses a link" if drafts else ""
    page.paragraph(f"{policy}{link}, seed {document['seed']}, digest {document['digest']}", 8, "policy")
    if drafts:
        at = ", verified on the draft's chip" if document["verify_at"] == "draft" else ""
        rules = f"{described(document['accept'], 'rule')}, payload {described(document['payload'], 'scheme')}{at}"
        page.paragraph(rules, 8, "accept")


def realtime(page: Page, found: Block) -> None:
    """How fast each run was against the wall clock, and whether what the passenger saw came when it should."""
    pace_text = f"requested {three_digits(found['asked_real_time_factor'])}x"
    page.title("real time", f"simulated time over wall time; {pace_text}")
    for name, pace in (("target_only", found["baseline"]), ("speculative", found["speculative"])):
        if pace is None:
            continue
        took = f"{duration(1000 * pace['simulated_s'])} simulated in {duration(1000 * pace['wall_s'])}"
        late = f"{pace['overruns']} of {counted(pace['events'], 'event')} over {found['late_limit_ms']:g} ms late"
        most = f"{duration(pace['max_lateness_ms'])} at most"
        text = f"{name} {three_digits(pace['real_time_factor'])}x: {took}; {late}, {most}"
        page.paragraph(Text(text, f"bold {BAD}" if pace["overruns"] else ""), 2)


def compilation(page: Page, plans: Sequence[Block]) -> None:
    """How each model compiles: its outcome, the rewrites used, and the time and memory they cost."""
    if not plans:
        return
    page.title("compile", "python -m hilsim check SCENARIO has all findings")
    for plan in plans:
        page.paragraph(f"{plan['subject']} on {plan['unit']}, {plan['profile']}: {plan['outcome']}", 2)
        if plan["refused_operators"]:
            page.paragraph(f"refused: {', '.join(plan['refused_operators'])}", 4)
        if plan["rewrites"]:
            used = ", ".join(f"{use['name']} for {use['for']}" for use in plan["rewrites"])
            page.paragraph(f"rewritten: {used}", 4)
        costs = {graph["name"]: graph["costs_ms"] for graph in plan["graphs"]}
        more = ", ".join(f"{name} +{duration(cost)}" for name, cost in costs.items() if abs(cost) >= 0.005)
        held = plan["rewrite_bytes"]
        if more or held:
            page.paragraph(f"costs {more or 'no time'}{f', {mebibytes(held)} of memory' if held else ''}", 4)
        for note in plan["notes"]:
            if "are given" in note or "ends in" in note:
                page.paragraph(note, 4)
        crossings = max(graph["crossings"] for graph in plan["graphs"])
        if crossings:
            page.paragraph(f"leaves the unit {counted(crossings, 'time')} a pass", 4)


def times(page: Page, document: Block) -> None:
    """Latency statistics of both runs, then the figures that are single numbers."""
    runs = [("target_only", document["baseline"])]
    if document["speculative"] is not None:
        runs.append(("speculative", document["speculative"]))
    requests, tokens = runs[-1][1]["requests"], runs[-1][1]["output_tokens"]
    page.title("times in ms", f"{requests} requests, {tokens} output_tokens")
    count = max(1, min(4, (page.width - NAME) // FIGURE))
    side_by_side = len(runs) == 1 or page.width >= NAME + 2 * 4 * FIGURE + 3
    for group in [runs] if side_by_side else [[run] for run in runs]:
        gap = "   " if side_by_side else ""
        if len(runs) > 1:
            heads = gap.join(f"{name:>{count * FIGURE}}" for name, _ in group)
            page.line(" " * NAME, (heads, FRAME))
        page.line(" " * NAME, (gap.join(columns(STATISTICS[:count]) for _ in group), FRAME))
        for metric in TIMES:
            cells = [[figure(block[metric], name) for name in STATISTICS[:count]] for _, block in group]
            strong = "bold" if metric in ("request_latency_ms", "time_to_first_clause_ms") else ""
            page.line((f"  {metric:<{NAME - 2}}", strong), (gap.join(map(columns, cells)), strong))
    page.line()
    column = max(FIGURE - 2, min(13, (page.width - NAME) // len(runs)))
    page.line(" " * NAME, ("".join(f"{shortened(name, column - 1):>{column}}" for name, _ in runs), FRAME))
    for name, values in single_figures(runs):
        page.line(f"  {shortened(name, NAME - 3):<{NAME - 2}}", "".join(f"{value:>{column}}" for value in values))


def columns(cells: Iterable[str]) -> str:
    """Figures in columns of the same width."""
    return "".join(f"{cell:>{FIGURE}}" for cell in cells)


def figure(statistics: dict[str, float] | None, name: str) -> str:
    """One statistic, or a dash where nothing was measured."""
    return "–" if statistics is None else milliseconds(statistics[name])


def single_figures(runs: Sequence[tuple[str, Block]]) -> list[tuple[str, list[str]]]:
    """Throughput, energy and busy shares by run."""
    blocks = [block for _, block in runs]
    rows = [
        ("output_token_throughput", [f"{block['output_token_throughput']:.2f}" for block in blocks]),
        ("energy_j", [f"{block['energy_j']:.0f}" for block in blocks]),
        ("energy_j_per_answer", [three_digits(block["energy_j_per_answer"]) for block in blocks]),
    ]
    # Beside other work a share is of the whole run, as on the dashboard.
    of_run = any("busy_of_run" in unit for block in blocks for unit in block["units"].values())
    which = "busy_of_run" if of_run else "busy"
    if of_run:
        rows.append(("busy, share of the run:", ["" for _ in blocks]))
    for kind in ("units", "links"):
        for name in dict.fromkeys(name for block in blocks for name in block[kind]):
            shares = [percent(block[kind][name][which]) if name in block[kind] else "–" for block in blocks]
            rows.append((f"{name} busy", shares))
            between = [block[kind].get(name, {}).get("between") for block in blocks]
            for what, took in (("switches", "switch_ms"), ("wakes", "wake_ms")):
                if any(found and found[what] for found in between):
                    sums = [f"{found[what]}: {duration(found[took])}" if found else "–" for found in between]
                    rows.append((f"{name} {what}", sums))
    return rows


def acceptance(page: Page, block: Block) -> None:
    """How many drafted tokens were accepted, in all and by position in the draft."""
    page.title("acceptance")
    for names in (
        ("num_drafts", "num_draft_tokens", "num_accepted_tokens"),
        ("draft_acceptance_rate", "mean_acceptance_length", "tokens_per_round"),
    ):
        shown = [f"{name} {percent(block[name]) if name.endswith('_rate') else number(block[name])}" for name in names]
        page.paragraph(", ".join(shown), 2)
    standing, offered = block["num_accepted_tokens_per_pos"], block["num_draft_tokens_per_pos"]
    if not standing:
        return
    page.line("  num_accepted_tokens_per_pos")
    room = max(4, min(40, page.width - 34))
    for place, (stood, tried) in enumerate(zip(standing[:PLACES_SHOWN], offered, strict=False), start=1):
        share = stood / tried if tried else 0.0
        page.line(f"  {place:>4} ", bar(share, room, DRAFT), f" {percent(share):>5}  ", (f"{stood} of {tried}", FRAME))
    if len(standing) > PLACES_SHOWN:
        page.line((f"       {len(standing) - PLACES_SHOWN} more positions in --json", FRAME))


def number(value: float) -> str:
    """A count as it is, a mean with two decimals."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def losses(page: Page, document: Block, block: Block) -> None:
    """What the time of all requests was spent on, in bars on the scale of the target alone, and as text."""
    page.title("where the time went", "lost_ms: the time of all requests, by cause")
    alone = sum(document["baseline"]["lost_ms"].values())
    lost, inside = block["lost_ms"], block["of_which_ms"]
    total = sum(lost.values())
    scale = max(alone, total, 1e-9)
    room = max(4, min(40, page.width - 34))
    rows = [("target_only", alone, TARGET), ("speculative", total, GOOD if total <= alone else BAD)]
    for name in sorted(LOSSES, key=lambda name: -lost[name]):
        rows.append((f"  {name}", lost[name], TARGET if name == "verify" else BAD))
        rows += [(f"    {part}", inside[part], FRAME) for part in INSIDE.get(name, ()) if inside.get(part)]
    for name, value, style in rows:
        page.line(f"  {name:<20}{milliseconds(value):>8}  ", bar(value / scale, room, style, empty=" "))
    page.paragraph(where_it_went(document), 2)
    if document.get("remedy") is not None:
        page.paragraph(Text(remedy_sentence(document["remedy"]), "bold"), 2)


def held_against(page: Page, document: Block) -> None:
    """What the speed-up owes to the link, what a wanted one takes, and what a faster export of the target leaves."""
    rows, aim, exports = document.get("rows_over_link"), document.get("wanted"), document.get("faster_exports", [])
    if rows is not None:
        page.title("the link", "rows_over_link: distributions that crossed it")
        for sentence in rows_sentences(rows, document["speedup"]):
            page.paragraph(sentence, 2)
    if aim is not None or exports:
        page.title("the speedup", "what a wanted one takes; over a faster target")
    if aim is not None:
        page.paragraph(Text(wanted_sentence(aim), GOOD if aim["reached"] else BAD), 2)
    for export in exports:
        page.paragraph(faster_export_sentence(export, document["roles"]["target"], document["speedup"]), 2)


def memory(page: Page, chips: Block) -> None:
    """The ledger of each chip against its cap, and the most that the run held at once."""
    page.title("memory in GiB")
    room = max(4, min(24, page.width - 52))
    for name, chip in chips.items():
        used, cap = chip["used_bytes"], chip["cap_bytes"]
        style = TARGET if used <= cap else BAD
        head = f"{name}: {gibibytes(used)} of {gibibytes(cap)} planned, peak {gibibytes(chip['peak_bytes'])}"
        page.paragraph(Text(head, "bold"), 2)
        page.line(f"  {percent(used / cap):>7} ", bar(used / cap, room, style))
        if "fit_in_words" in chip:
            loading = f"while loading {gibibytes(chip['loading_bytes'])}; " if "loading_bytes" in chip else ""
            page.paragraph(f"{loading}{chip['fit_in_words']}", 2)
        for item in sorted(chip["items"], key=lambda item: -item["bytes"]):
            size = item["bytes"]
            page.line(f"  {gibibytes(size):>7} ", bar(size / cap, room, TARGET, empty=" "), f" {clean(item['what'])}")


def assumptions(page: Page, found: Sequence[Block]) -> None:
    """The assumed figures that the answer rests on, shortened."""
    assumed = [figure for figure in found if figure["kind"] == "assumed"]
    if not assumed:
        return
    page.title(f"assumptions: {len(assumed)}", "figures not measured for this case; sources in full in --json")
    for figure in assumed[:ASSUMPTIONS_SHOWN]:
        name = shortened(clean(figure["figure"]), max(16, page.width // 2 - 4))
        page.line(f"  {name} = {clean(str(figure['value']))}  ", (clean(figure["source"]), FRAME))
    if len(assumed) > ASSUMPTIONS_SHOWN:
        page.line((f"  and {len(assumed) - ASSUMPTIONS_SHOWN} more in --json", FRAME))
