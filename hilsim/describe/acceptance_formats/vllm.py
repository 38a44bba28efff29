"""vLLM: its Prometheus counters, the lines of its log, and the report of its serving benchmark.

| spec_decode_num_drafts_total, .._draft_tokens_total     | rounds, drafted tokens                                    |
| spec_decode_num_accepted_tokens_per_pos_total{position} | rounds that accept this position: over rounds, marginal   |
| SpecDecoding metrics: .. Per-position acceptance rate   | the same shares of an interval, weighted by its rounds    |
| spec_decode_per_position_acceptance_rates (benchmark)   | the same shares of the whole run                          |

The counters are vLLM's with the prefix `vllm:`; llama.cpp's server has the same under its own.
"""

from __future__ import annotations

import re
from collections import defaultdict

from hilsim.describe.acceptance_formats.logged import Found, LoggedFile, mean_by
from hilsim.describe.json_text import CUT

SAMPLE = re.compile(r"^(?:\w+:)?spec_decode_num_(\w+?)(?:_total)?(\{[^}]*\})?\s+(\S+)", re.M)
LABEL = re.compile(r'(\w+)="([^"]*)"')
LINE = re.compile(
    r"SpecDecoding metrics:.*?Accepted: \d{1,15} tokens, Drafted: (?P<drafted>\d{1,15}) tokens, "
    r"Per-position acceptance rate: (?P<rates>[\d., ]+?), Avg Draft acceptance rate"
)
CUT_LINE = "SpecDecoding metrics:"
RATES = "spec_decode_per_position_acceptance_rates"


def is_counters(logged: LoggedFile) -> bool:
    """Whether it has the counters."""
    return SAMPLE.search(logged.text) is not None


def read_counters(logged: LoggedFile) -> Found:
    """Shares by position from counters; several engines of one model are added."""
    counts: dict[str, float] = defaultdict(float)
    positions: dict[int, float] = defaultdict(float)
    models: set[str] = set()
    for name, labels, value in SAMPLE.findall(logged.text):
        given = dict(LABEL.findall(labels))
        models |= {given["model_name"]} if "model_name" in given else set()
        count = logged.figure(value, f"spec_decode_num_{name}")
        if name == "accepted_tokens_per_pos":
            positions[round(logged.figure(given.get("position", ""), "position"))] += count
        elif not name.endswith("_created"):
            counts[name] += count
    if len(models) > 1:
        logged.refuse("model_name", ", ".join(sorted(models)), "the counters of one model", "Keep the lines of one.")
    drafts = counts.get("drafts", 0.0)
    if drafts < 1:
        logged.refuse("spec_decode_num_drafts", f"{drafts:g}" if "drafts" in counts else "nothing", "rounds", CUT)
    model = models.pop() if models else ""
    if positions:
        if sorted(positions) != list(range(len(positions))):
            logged.refuse("position", ", ".join(map(str, sorted(positions))), "every position from 0", CUT)
        shares = [positions[place] / drafts for place in range(len(positions))]
        return Found(
            logged.accept("spec_decode_num_accepted_tokens_per_pos", {"marginal": shares}), round(drafts), model
        )
    if "accepted_tokens" not in counts:
        logged.refuse("spec_decode_num_accepted_tokens", "nothing", "how many tokens were accepted", CUT)
    drafted = counts["draft_tokens"] / drafts if "draft_tokens" in counts else None
    tokens = 1 + counts["accepted_tokens"] / drafts
    return Found(logged.tokens("spec_decode_num_draft_tokens", tokens, drafted), round(drafts), model)


def is_log(logged: LoggedFile) -> bool:
    """Whether it has vLLM's lines."""
    return CUT_LINE in logged.text


def read_log(logged: LoggedFile) -> Found:
    """Shares by position of all intervals; an interval's rounds are its drafted tokens over the positions."""
    found = list(LINE.finditer(logged.text))
    whole, begun = len(found), logged.text.count(CUT_LINE)
    if whole < begun:
        places = [n for n, line in enumerate(logged.lines, 1) if CUT_LINE in line and not LINE.search(line)]
        logged.refuse(f"line {places[0]}", "a line without shares by position", "a whole line of SpecDecoding", CUT)
    place = "Per-position acceptance rate"
    rows = [[logged.figure(rate, place) for rate in one["rates"].split(",")] for one in found if int(one["drafted"])]
    rounds = [int(one["drafted"]) / len(row) for one, row in zip(found, rows, strict=False) if int(one["drafted"])]
    if not rows:
        logged.refuse("SpecDecoding metrics", "no drafted tokens", "rounds that draft")
    return Found(logged.accept(place, {"marginal": mean_by(rounds, rows)}), round(sum(rounds)))


def is_benchmark(logged: LoggedFile) -> bool:
    """Whether it is a benchmark's report of a server that speculated."""
    return any(key.startswith("spec_decode_") for key in logged.first)


def read_benchmark(logged: LoggedFile) -> Found:
    """Shares by position of one report."""
    ((_, report), *rest) = logged.objects
    if rest:
        logged.refuse(f"line {rest[0][0]}", "a second report", "one report a file")
    model = str(report.get("model_id") or "")
    rounds = round(logged.number(report, "spec_decode_num_drafts", "")) if "spec_decode_num_drafts" in report else None
    if report.get(RATES):
        return Found(logged.accept(RATES, {"marginal": list(logged.shares(report, RATES))}), rounds, model)
    tokens = logged.number(report, "spec_decode_acceptance_length", "", least=1, most=1001)
    drafted = logged.number(report, "spec_decode_draft_tokens", "") / rounds if rounds else None
    return Found(logged.tokens("spec_decode_draft_tokens", tokens, drafted), rounds, model)
