"""SGLang: the lines of its log and its Prometheus gauges.

| accept len: 2.92 (log), sglang:spec_accept_length | tokens a verify step, the target's own among them  |
| sglang:spec_num_steps                             | drafted tokens a round                             |
| accept rate, sglang:spec_accept_rate              | not read: what it is over differs between releases |

A log has no weights: its lines, each of as many decode batches, count alike.
"""

from __future__ import annotations

import re

from hilsim.describe.acceptance_formats.logged import Found, LoggedFile
from hilsim.describe.json_text import CUT

LINE = re.compile(r"Decode batch.*?accept len: ([\d.]+)")
GAUGE = re.compile(r"^sglang:spec_(accept_length|num_steps)(\{[^}]*\})?\s+(\S+)", re.M)


def is_log(logged: LoggedFile) -> bool:
    """Whether it has lines with an accepted length."""
    return "accept len: " in logged.text


def read_log(logged: LoggedFile) -> Found:
    """The mean of its lines, those without a request left out."""
    lengths = [length for text in LINE.findall(logged.text) if (length := logged.figure(text, "accept len")) > 0]
    if not lengths:
        logged.refuse(
            "accept len", "no line of a decode batch above 0", "lines Decode batch, .. accept len: 2.50, ..", CUT
        )
    tokens = sum(lengths) / len(lengths)
    remark = f"The mean of {len(lengths)} lines of a log, each counted alike."
    return Found(logged.tokens("accept len", tokens), notes=remark)


def is_gauges(logged: LoggedFile) -> bool:
    """Whether it has SGLang's gauges."""
    return "sglang:spec_accept_length" in logged.text


def read_gauges(logged: LoggedFile) -> Found:
    """The last interval's accepted length."""
    values: dict[str, list[float]] = {}
    for name, _, value in GAUGE.findall(logged.text):
        values.setdefault(name, []).append(logged.figure(value, f"sglang:spec_{name}"))
    lengths = sorted(set(values.get("accept_length", [])))
    if len(lengths) != 1:
        found = ", ".join(f"{length:g}" for length in lengths) or "nothing"
        logged.refuse("sglang:spec_accept_length", found, "one value", "Keep the line of one server.")
    steps = values.get("num_steps")
    remark = "A gauge: the tokens a round of the server's last interval."
    return Found(logged.tokens("sglang:spec_num_steps", lengths[0], steps[0] if steps else None), notes=remark)
