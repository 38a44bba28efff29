#!/usr/bin/env python3
"""What should cross this link? Every accept rule with every payload it can use, over several links.

python scripts/payloads.py [SCENARIO] [--set PATH=VALUE]... [--links NAME,NAME] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from string import ascii_uppercase

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs
from hilsim.describe.catalogue import load_named
from hilsim.describe.link import Link
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.places import DATA
from hilsim.progress import counting
from hilsim.runs.run import replayer
from hilsim.show.comparison import Line, draw_payloads, line_of, write_csv
from hilsim.show.kinds import BAD
from hilsim.show.numbers import three_digits
from hilsim.show.sentences import outside_words
from hilsim.study.variants import Ran, Refused, Variant, payloads, tried

REMEDY = "Add --set sampling.temperature=0.7 --set accept=ratio --set payload=full_rows."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", type=Path, default=DATA / "scenarios" / "ethernet.yaml")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change one value; repeatable")
    parser.add_argument("--links", default="1000base-t1,2.5gbase-t1,10gbase-t1,pcie-gen3-x4")
    add_outputs(parser)
    options = parser.parse_args()
    require_outputs(options)
    setup, run = replayer(options.scenario, options.set)
    require_a_choice(setup)
    links = {name: load_named("link", Link, name, Path("--links")) for name in options.links.split(",")}
    # All links of a scheme one after the other: what is said does not depend on the link and is remembered.
    variants = [
        Variant(name, scheme.name, (*scheme.overrides, f"link={name}"))
        for scheme in payloads(setup.scenario.sampling.top_k)
        for name in links
    ]
    found = list(counting("payloads", tried(options.scenario, options.set, variants, run), len(variants)))
    by_link: dict[str, list[Line]] = {name: [] for name in links}
    for outcome in found:
        if isinstance(outcome, Ran):
            by_link[outcome.variant.group].append(line_of(outcome))
    console = Console()
    if outside_car(setup):
        console.print(outside_words(outside_car(setup)), style=f"bold {BAD}")
    console.print(table_of(by_link))
    console.print("text: own - the target's own words; law - other words of the same law; TV - distance from that law")
    for refused in (outcome for outcome in found if isinstance(outcome, Refused)):
        console.print(f"{refused.variant.name}: {refused.why}", style="dim", highlight=False, markup=False)
    rates = {name: link.rate.si / 1e9 for name, link in links.items()}
    title = f"{setup.scenario.name}: what should cross the link?"
    write_outputs(
        options,
        lambda path, kind: draw_payloads(by_link, rates, title, path, kind),
        lambda file: write_csv([(name, line) for name, lines in by_link.items() for line in lines], file),
    )
    return 0


def require_a_choice(setup: Setup) -> None:
    """At temperature 0 token ids are all that needs to cross, and without a draft nothing does."""
    if setup.draft is None or (setup.link is not None and setup.link.on_chip):
        raise ScenarioError([Fault(setup.file, "draft", "none behind a link", "a draft on another chip")])
    if setup.scenario.sampling.temperature == 0:
        found, expected = "temperature 0, where token ids are all that must cross", "a temperature above 0"
        raise ScenarioError([Fault(setup.file, "sampling", found, expected, REMEDY)])


def table_of(by_link: dict[str, list[Line]]) -> Table:
    """One row a scheme: whose text it tells, what a round costs on the link, and the speed-up over each link."""
    letters = ascii_uppercase[: len(by_link)]
    legend = ", ".join(f"{letter} {name}" for letter, name in zip(letters, by_link, strict=True))
    table = Table(
        box=None, pad_edge=False, collapse_padding=True, caption=f"speedup over {legend}", caption_justify="left"
    )
    for name in ("rule, payload", "text", "KB up", "KB dn", "tok/rd", "TV", *letters):
        table.add_column(name, justify="left" if name in ("rule, payload", "text") else "right", no_wrap=True)
    first = next(iter(by_link.values()))
    words = {"text": "own", "law": "law", "none": "LOSSY"}
    for line in sorted(first, key=lambda line: (line.guarantee == "none", -line.speedup)):
        speeds = (next((o.speedup for o in lines if o.name == line.name), None) for lines in by_link.values())
        table.add_row(
            line.name,
            words[line.guarantee],
            three_digits(line.bytes_up / 1000),
            three_digits(line.bytes_down / 1000),
            f"{line.tokens_a_round:.2f}",
            "" if line.total_variation is None else f"{line.total_variation:.3f}",
            *("-" if speed is None else f"{speed:.2f}" for speed in speeds),
        )
    return table


if __name__ == "__main__":
    sys.exit(guarded(main))
