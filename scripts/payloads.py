#!/usr/bin/env python3
"""What should cross this link? Every accept rule with every payload it can use, over several links.

python scripts/payloads.py [SCENARIO] [--set PATH=VALUE]... [--links NAME,NAME] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import write_outputs
from hilsim.describe.catalogue import load_named
from hilsim.describe.link import Link
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.evaluate import Refused, load_fitting
from hilsim.show.comparison import draw_payloads
from hilsim.show.grid_tables import print_outside
from hilsim.show.numbers import three_digits
from hilsim.show.table import Table, terminal
from hilsim.study.grids import Choice, all_payloads
from hilsim.study.variants import Record, run_choices
from scripts.arguments import asked, question

REMEDY = "Add --set sampling.temperature=0.7 --set accept=ratio --set payload=full_rows."
TEXTS = {"text": "same", "law": "distr.", "none": "LOSSY"}
LEGEND = "text: same - the target's own tokens; distr. - other tokens of its distribution; TV - distance from that"


def main(arguments: Sequence[str] | None = None) -> int:
    options = asked(question(__doc__, "ethernet", links="1000base-t1,2.5gbase-t1,10gbase-t1,pcie-gen3-x4"), arguments)
    setup = load_fitting(options.scenario, options.set)
    require_a_choice(setup)
    links = {name: load_named("link", Link, name, Path("--links")) for name in options.links}
    # All links of a scheme one after the other: tokens do not depend on the link and are cached.
    choices = [
        Choice(scheme.name, (*scheme.overrides, f"link={name}"), {"name": name})
        for scheme in all_payloads(setup.scenario.sampling.top_k)
        for name in links
    ]
    found = list(counting("payloads", run_choices(options.scenario, options.set, choices), len(choices)))
    records = [record for _, record in found if not isinstance(record, Refused)]
    by_link = {name: [record for record in records if record["link"] == name] for name in links}
    console = terminal()
    print_outside(console, outside_car(setup))
    table_of(by_link).print(console)
    console.print(LEGEND)
    for choice, refused in found:
        if isinstance(refused, Refused):
            console.print(f"{choice.name}: {refused.found}", style="dim")
    rates = {name: link.rate.si / 1e9 for name, link in links.items()}
    title = f"{setup.scenario.name}: what should cross the link?"
    write_outputs(
        options,
        lambda path, kind: draw_payloads(by_link, rates, title, path, kind),
        lambda file: Table.of(record for mine in by_link.values() for record in mine).write_csv(file, 6),
    )
    return 0


def require_a_choice(setup: Setup) -> None:
    """At temperature 0 token ids are all that needs to cross, and without a draft nothing does."""
    if setup.draft is None or (setup.link is not None and setup.link.on_chip):
        raise ScenarioError([Fault(setup.file, "draft", "none behind a link", "a draft on another chip")])
    if setup.scenario.sampling.temperature == 0:
        found, expected = "temperature 0, where token ids are all that must cross", "a temperature above 0"
        raise ScenarioError([Fault(setup.file, "sampling", found, expected, REMEDY)])


def table_of(by_link: Mapping[str, Sequence[Record]]) -> Table:
    """One row a scheme: what its text is, what a round costs on the link, and the speed-up over each link."""
    letters = ascii_uppercase[: len(by_link)]
    legend = ", ".join(f"{letter} {name}" for letter, name in zip(letters, by_link, strict=True))
    rows = []
    for one in sorted(next(iter(by_link.values())), key=lambda one: (one["claim"] == "none", -one["speedup"])):
        speeds = [
            next((o["speedup"] for o in mine if o["variant"] == one["variant"]), None) for mine in by_link.values()
        ]
        kilobytes = (three_digits(one[f"bytes_{way}_per_round"] / 1000) for way in ("up", "down"))
        distance = "" if one["total_variation_mean"] is None else f"{one['total_variation_mean']:.3f}"
        rows.append([one["variant"], TEXTS[one["claim"]], *kilobytes, one["tokens_per_round"], distance, *speeds])
    heads = ("rule, payload", "text", "KB up", "KB dn", "tok/rd", "TV", *letters)
    return Table(heads, rows, left=2, caption=f"speed-up over {legend}")


if __name__ == "__main__":
    sys.exit(guarded(main))
