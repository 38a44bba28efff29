"""A table that people made, CSV or Markdown, whose headers say what its figures are.

| header                                                 | here                                             |
| decode tok/s, generation (t/s), tg t/s                 | llm_decode, tok_s                                |
| TPOT ms, ms/token, inter-token latency (ms)            | llm_decode, latency_ms                           |
| prefill tok/s, prompt (tokens/s), pp t/s               | llm_prefill, tok_s                               |
| TTFT (ms), time to first token (s), prefill ms         | llm_prefill, ttft_ms                             |
| latency (ms), inference time (us)                      | network, latency_ms                              |
| prompt tokens, input tokens                            | context_len of the prompts                       |

Seconds and microseconds are converted, as the header states them. A table with the columns metric and value and none
for the kind is read by the same words in each row (decode_tok_s, ttft_ms), with its column unit where there is one.
Tables with all of device, model, kind, metric and value are figures already and need no conversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Log, number_in
from hilsim.fidelity.table import SYNONYMS, plain, ranges

RATE = re.compile(r"(?:^|_)(?:tok|tokens?|toks|t)_(?:s|sec|per_s|per_sec|per_second)(?:_|$)|tps")
# Names of times, whatever unit follows: "time to first token (s)" is no rate.
TIMES = re.compile(r"ttft|first_token|tpot|itl|per_token|inter_token|time|latency|duration")
TIME = re.compile(r"(?:^|_)(ms|milliseconds|us|microseconds|s|sec|seconds)(?:_|$)")
MILLISECONDS = {"m": 1.0, "u": 1e-3, "s": 1e3}  # by the first letter: ms and milliseconds, us, s
WHAT = {
    "llm_decode": "decode|decoding|generation|gen|tg|output|tpot|itl|per_token|inter_token|ms_tok(?:en)?",
    "llm_prefill": "prefill|prompt|pp|input|ttft|first_token",
    "network": "latency|inference|infer",
}
# Tokens in a cell of the context: 4096, "ctx 4096; warm", "2048-token prompt", "2048 tokens in cache".
CONTEXT = re.compile(r"^(\d+)(?: tokens)?$|\bctx (\d+)|\b(\d+)[- ]tokens? (?:prompt|in (?:the )?cache)")
PROMPT = ("prompt_tokens", "input_tokens", "prompt_length", "prompt_len", "input_length", "n_prompt")


def figure_of(header: str) -> tuple[str, str, float] | None:
    """Kind, metric and factor of a header that names a figure; None of any other header."""
    name = plain(header)
    kind = next((kind for kind, words in WHAT.items() if re.search(rf"(?:^|_)(?:{words})(?:_|$)", name)), None)
    if kind is None or name in PROMPT:
        return None
    if RATE.search(name) and not TIMES.search(name):
        return kind, "tok_s", 1.0
    if (unit := TIME.search(name)) is None:
        return None
    return kind, "ttft_ms" if kind == "llm_prefill" else "latency_ms", MILLISECONDS[unit[1][0]]


def is_plain_table(contents: Contents) -> bool:
    """Whether a header names a column of ours and a figure, or a metric and its value."""
    if contents.is_json:
        return False
    columns = set(contents.columns)
    if {"metric", "value"} <= columns:
        return "kind" not in columns and any(map(figure_of, contents.cells("metric")))
    return bool(columns & set(SYNONYMS)) and any(map(figure_of, contents.headers))


def read(log: Log) -> None:
    """A row a figure."""
    long = {"metric", "value"} <= set(log.contents.columns)
    needed = ["metric", "value"] if long else []
    table = log.contents.whole_table(needed) if log.contents.is_markdown else log.contents.table(needed)
    # A column "unit" stands beside "metric" or is a synonym of it; the table's reader decides which.
    figures = {} if long else {name: found for name in table.columns if (found := figure_of(name))}
    rest = [name for name in table.columns if name not in (*SYNONYMS, *figures, *PROMPT, "precision", "unit", "gmacs")]
    log.unread = tuple(rest)
    others: dict[str, list[int]] = {}
    for row in table.rows:
        if not long:
            for name, figure in figures.items():
                add(log, row.line, row.cells, figure, row.cells.get(name, ""), name)
            continue
        metric = row.cells.get("metric", "")
        named = figure_of(metric) or figure_of(f"{metric} {row.cells.get('unit', '')}")
        if named is None:
            others.setdefault(metric, []).append(row.line)
        else:
            add(log, row.line, row.cells, named, row.cells.get("value", ""), "value")
    for metric, lines in others.items():
        log.notes.append(f"{metric!r} is no rate or time of a model (lines {ranges(lines)})")
    if not log.rows and not log.faults:
        log.fault("", "no figure", "a column such as 'decode tok/s', 'TTFT (ms)' or 'latency (ms)'")


def add(log: Log, line: int, cells: Mapping[str, str], figure: tuple[str, str, float], text: str, column: str) -> None:
    """The row of one figure; an empty cell, or a dash, is none."""
    if text in ("", "-", "--", "n/a", "N/A"):
        return
    kind, metric, factor = figure
    value = number_in(text.partition("±")[0].strip())
    if value is None or value <= 0:
        log.fault(f"line {line}, {column}", repr(text), "a number above 0", "Write a decimal point, and no thousands.")
        return
    setting = cells.get("context_len", "")
    context = CONTEXT.search(setting)
    batch, requests = (stated(word, setting) for word in ("batch", "concurrency"))
    prompt = next((cells[name] for name in PROMPT if cells.get(name)), "") if kind == "llm_prefill" else ""
    known = {name: cells.get(name) for name in (*SYNONYMS, "precision", "gmacs") if cells.get(name)}
    note = "" if setting.isdecimal() else setting
    log.add(
        line,
        **known
        | {
            "kind": kind, "metric": metric, "value": value * factor, "batch": cells.get("batch") or batch,
            "context_len": prompt or (next(filter(None, context.groups())) if context else ""),
            "note": "; ".join(filter(None, (cells.get("note", ""), note))),
            "forbidden": f"{requests} requests shared its steps" if requests not in ("", "1") else "",
        },
    )  # fmt: skip


def stated(word: str, setting: str) -> str:
    """The number behind a word, or ""."""
    found = re.search(rf"\b{word} (\d+)\b", setting)
    return found[1] if found else ""
