"""Lists of accepted lengths, request by request: JSON lines or a CSV, as a script writes them beside a runtime.

JSON lines have an object a request: `accepted` (drafted tokens that stood, of each round) or `emitted` (tokens of each
round, the target's own among them), and `drafted`, one number or one for each round. A CSV has a row a round, with
columns `request`, `accepted` or `emitted`, and `drafted`, with commas, semicolons or tabs between them.

`drafted` may be left out of the file where every round drafted as many and the user states it. Requests count in the
order in which they come. A list that does not say whether it counts the target's own token is refused.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hilsim.describe.acceptance_formats.logged import DRAFTED, Found, LoggedFile
from hilsim.describe.json_text import CUT

KINDS = {"accepted": 0, "emitted": 1}  # how many of a round's count are the target's own
EITHER = "accepted (drafted tokens that stood) or emitted (the target's own token among them)"
NEAR = ("acc_len", "accept_len", "accepted_len", "acceptance_len", "accepted_tokens")


def is_lists(logged: LoggedFile) -> bool:
    """Whether it has such a list or column, or a list that lacks the word."""
    keys = set(logged.first) | set(header(logged))
    bare = logged.text.lstrip()[:1] == "[" and not logged.first and bare_list(logged)
    return bool(keys & set(KINDS)) or bare or any(near in key for key in keys for near in NEAR)


def header(logged: LoggedFile) -> list[str]:
    """The columns of a CSV; none of other text."""
    if logged.is_json:
        return []
    first, separator = logged.text.lstrip("\ufeff").partition("\n")[0], separator_of(logged)
    return [name.strip().casefold() for name in first.split(separator)] if separator in first else []


def separator_of(logged: LoggedFile) -> str:
    """What stands between the cells of a CSV's first line most often: its cells are names and whole numbers."""
    return max(",;\t", key=logged.text.partition("\n")[0].count)


def bare_list(logged: LoggedFile) -> bool:
    """Whether the first line is a list of numbers."""
    try:
        found = json.loads(logged.text.lstrip().partition("\n")[0])
    except ValueError:
        return False
    return isinstance(found, list) and all(isinstance(one, int | list) for one in found)


def read(logged: LoggedFile) -> Found:
    """The rounds of every request."""
    requests = of_csv(logged) if header(logged) else of_json(logged)
    accepted, drafted = [one for one, _ in requests], [each for _, each in requests]
    if all(each is None for each in drafted):
        if logged.drafted is None:
            logged.refuse("top level", "no drafted", "how many tokens each round drafted", DRAFTED)
        given: object = logged.drafted
    elif any(each is None for each in drafted):
        logged.refuse("drafted", "some requests with it and some without", "it in all of them, or in none")
    elif logged.drafted is not None:
        logged.refuse("logits.drafted", str(logged.drafted), "nothing, as the file has drafted itself")
    else:
        flat = {count for each in drafted for count in each or ()}
        given = flat.pop() if len(flat) == 1 else [list(each or ()) for each in drafted]
    found = logged.accept("accepted", {"accepted": accepted, "drafted": given})
    return Found(found, sum(map(len, accepted)))


def of_json(logged: LoggedFile) -> list[tuple[list[int], list[int] | None]]:
    """Accepted and drafted tokens of each request."""
    if not logged.first:
        logged.refuse("line 1", "a list without a name", f"an object a request, with {EITHER}")
    requests = []
    for line, request in logged.objects:
        place = f"line {line}"
        kind = kind_of(logged, place, request)
        counts = wholes(logged, f"{place}.{kind}", request[kind])
        drafted = request.get("drafted")
        each = [drafted] * len(counts) if isinstance(drafted, int) else drafted
        checked = None if each is None else wholes(logged, f"{place}.drafted", each)
        requests.append((own_taken(logged, f"{place}.{kind}", counts, kind), checked))
    return requests


def of_csv(logged: LoggedFile) -> list[tuple[list[int], list[int] | None]]:
    """Accepted and drafted tokens of each request, from a row a round."""
    names = header(logged)
    kind = kind_of(logged, "line 1", dict.fromkeys(names))
    if "request" not in names:
        logged.refuse("line 1", f"columns {', '.join(names)}", "a column request, which rounds belong to")
    try:
        rows = list(csv.reader(io.StringIO(logged.text.lstrip("\ufeff")), delimiter=separator_of(logged)))
    except csv.Error as error:
        logged.refuse("", str(error), "a table that can be read", CUT)
    requests: dict[str, tuple[list[int], list[int]]] = {}
    for line, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != len(names):
            logged.refuse(f"line {line}", f"{len(row)} of {len(names)} cells", "a whole row", CUT)
        cells = dict(zip(names, row, strict=True))
        counts, drafts = requests.setdefault(cells["request"].strip(), ([], []))
        counts += own_taken(logged, f"line {line}, {kind}", [whole(logged, f"line {line}, {kind}", cells[kind])], kind)
        if "drafted" in names:
            drafts.append(whole(logged, f"line {line}, drafted", cells["drafted"]))
    if not requests:
        logged.refuse("line 2", "nothing", "a row for every round", CUT)
    return [(counts, drafts or None) for counts, drafts in requests.values()]


def kind_of(logged: LoggedFile, place: str, keys: Mapping[str, Any]) -> str:
    """Which of the two kinds of count a request has."""
    kinds = [kind for kind in KINDS if kind in keys]
    if len(kinds) != 1:
        found = " and ".join(kinds) or f"{', '.join(keys)[:60]}: counts that may or may not have the target's own token"
        logged.refuse(place, found, f"one of {EITHER}", "" if kinds else "Rename the list or column to what it is.")
    return kinds[0]


def own_taken(logged: LoggedFile, place: str, counts: Sequence[int], kind: str) -> list[int]:
    """Counts without the target's own token."""
    own = KINDS[kind]
    if any(count < own for count in counts):
        logged.refuse(place, "0 tokens of a round", "at least 1, as the target's own is counted; or the word accepted")
    return [count - own for count in counts]


def wholes(logged: LoggedFile, place: str, data: object) -> list[int]:
    """Whole numbers of a list."""
    if not isinstance(data, list):
        logged.refuse(place, json.dumps(data)[:40], "a list of whole numbers, one a round")
    return [whole(logged, f"{place}[{number}]", value) for number, value in enumerate(data)]


def whole(logged: LoggedFile, place: str, value: object) -> int:
    """A whole number of tokens."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    if isinstance(text, bool) or not isinstance(text, int) or not 0 <= text <= 10**6:
        logged.refuse(place, json.dumps(value)[:40], "a whole number of tokens")
    return text
