"""How soon is a change of `hilsim serve` answered? `python -m tests.bench_serve`. The last line is JSON.

Processor time on the server from a change of a control to the new text of the page, of choices that were tried before;
`figures` is what drawing the run takes afterwards, event by event, in pieces: further changes are answered between.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from bokeh.document import Document

from hilsim.places import CODE as PROJECT
from hilsim.show.page.by_hand import HandPage
from hilsim.study.by_hand import ByHand

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
SCREENED = ("link", "widths", "drafted")
BY_EVENTS = ("async", "pipelined")
REPEATS = 5


def measure() -> dict[str, float]:
    """Milliseconds by what was changed, the median of several, and the longest piece of the figures."""
    page = HandPage(ByHand(SCENARIO, []), Document())
    found = {f"screened_{key}_ms": median_ms(page, key, ("1", "2")) for key in SCREENED}
    policies = {name: place for place, name in page.controls["policy"].options}
    for name in BY_EVENTS:
        found[f"events_{name}_ms"] = median_ms(page, "policy", (policies[name], "0"), every=2)
    pieces = [timed_ms(page.draw)]
    while page.waiting is not None:
        pieces.append(timed_ms(page.go_on))
    return {**found, "figures_ms": sum(pieces), "longest_piece_ms": max(pieces)}


def median_ms(page: HandPage, key: str, values: tuple[str, str], every: int = 1) -> float:
    """The median time of changes to these values in turn; with `every` 2 of those to the first alone."""
    for value in (*values, "0"):
        choose(page, key, value)  # what is compiled, recorded or read once
    spent = []
    for _ in range(REPEATS):
        for value in values:
            spent.append(timed_ms(lambda value=value: choose(page, key, value)))
    choose(page, key, "0")
    return statistics.median(spent[::every])


def choose(page: HandPage, key: str, value: str) -> None:
    """Change a control, and wait for the answer."""
    page.controls[key].value = value
    if page.pending is not None:
        page.answer_now()


def timed_ms(call: Callable[[], object]) -> float:
    """Milliseconds of processor time of a call."""
    began = time.process_time()
    call()
    return 1000 * (time.process_time() - began)


def main() -> None:
    """The figures as a table, then as JSON."""
    found = measure()
    for name, value in found.items():
        print(f"{name:24s} {value:8.1f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
