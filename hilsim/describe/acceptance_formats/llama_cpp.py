"""llama.cpp: the end of `llama-speculative`, and the lines that its server prints after each request.

| n_draft, n_predict, n_drafted, n_accept               | the most drafts a round, tokens, drafted and accepted ones   |
| draft acceptance rate = 0.57 ( 171 accepted / 297 ..) | accepted over drafted tokens of a request (until 2026-05)    |
| draft acceptance = .., acceptance rate per position = | with the share of rounds that accept each position: marginal |

Of `llama-speculative` every round makes its accepted tokens and one more, so there are n_predict - n_accept rounds.
"""

from __future__ import annotations

import re

from hilsim.describe.acceptance_formats.logged import DRAFTED, Found, LoggedFile, mean_by
from hilsim.describe.json_text import CUT

COUNT = re.compile(r"\bn_(draft|predict|drafted|accept)\s*=\s*(\d{1,15})\b")
RATE = re.compile(r"draft acceptance(?: rate)? = [\d.]+ \(\s*(\d{1,15}) accepted /\s*(\d{1,15}) generated\)([^\n]*)")
BY_POSITION = re.compile(r"mean (?:acceptance length|len) =\s*([\d.]+), acceptance rate per position = \(([\d., ]+)\)")
FEWER = 0.95  # rounds that draft less than this share of n_draft end early, by the draft's confidence


def is_counts(logged: LoggedFile) -> bool:
    """Whether it is the end of `llama-speculative`."""
    return bool({name for name, _ in COUNT.findall(logged.text)} & {"drafted", "accept"})


def read_counts(logged: LoggedFile) -> Found:
    """Tokens a round of one run."""
    counts = {name: int(count) for name, count in COUNT.findall(logged.text)}
    missing = [f"n_{name}" for name in ("predict", "drafted", "accept") if name not in counts]
    if missing:
        logged.refuse("top level", f"no {missing[0]}", "n_predict, n_drafted and n_accept", CUT)
    predicted, drafted, accepted = counts["predict"], counts["drafted"], counts["accept"]
    rounds = predicted - accepted
    if not accepted + rounds > 0 or rounds < 1 or accepted > drafted:
        found = f"{accepted} accepted of {drafted} drafted in {predicted} tokens"
        logged.refuse("n_accept", found, "at most n_drafted, and fewer than n_predict")
    most = counts.get("draft")
    whole = float(most) if most is not None and drafted >= FEWER * most * rounds else drafted / rounds
    return Found(logged.tokens("n_drafted", predicted / rounds, whole), rounds)


def is_server(logged: LoggedFile) -> bool:
    """Whether it has lines of the server."""
    return RATE.search(logged.text) is not None


def read_server(logged: LoggedFile) -> Found:
    """Accepted over drafted of all requests, by position where every line has it."""
    lines = RATE.findall(logged.text)
    accepted, drafted = (sum(int(line[part]) for line in lines) for part in (0, 1))
    by_position = [BY_POSITION.search(rest) for _, _, rest in lines]
    rows = [one for one in by_position if one is not None]
    if len(rows) == len(lines):
        place = "acceptance rate per position"
        shares = [[logged.figure(share, place) for share in one[2].split(",")] for one in rows]
        # The printed mean is rounded, the sum of the shares is one below it.
        rounds = [int(line[0]) / sum(row) if sum(row) else 0.0 for line, row in zip(lines, shares, strict=True)]
        if sum(rounds):
            return Found(logged.accept(place, {"marginal": mean_by(rounds, shares)}), round(sum(rounds)))
    if rows:
        logged.refuse("draft acceptance", "some lines by position and some without", "all of one release", CUT)
    if logged.drafted is None:
        logged.refuse("draft acceptance rate", "no number of drafts a round", "rounds of as many", DRAFTED)
    if not drafted:
        logged.refuse("draft acceptance rate", "no drafted tokens", "rounds that draft")
    given = {"accepted_over_drafted": accepted / drafted, "drafted": logged.drafted}
    return Found(logged.accept("draft acceptance rate", given), round(drafted / logged.drafted))
