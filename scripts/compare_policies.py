#!/usr/bin/env python3
"""Which policy for this scenario? Every policy with a few settings, over the same conversations.

python scripts/compare_policies.py [SCENARIO] [--set PATH=VALUE]... [--all] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import write_outputs
from hilsim.describe.outside import outside_car
from hilsim.progress import counting
from hilsim.runs.evaluate import Refused, load_fitting
from hilsim.show.comparison import draw_policies, label
from hilsim.show.grid_tables import print_outside
from hilsim.show.numbers import duration, percent
from hilsim.show.table import Table, terminal
from hilsim.study.grids import all_policies
from hilsim.study.variants import Record, best_of_each, run_choices
from scripts.arguments import asked, question

CAUSES = ("verify", "draft", "waste", "transfer", "wait")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--all", action="store_true", help="list every setting, not only the best of each policy")
    options = asked(parser, arguments)
    setup = load_fitting(options.scenario, options.set)
    choices = list(all_policies())
    found = list(counting("policies", run_choices(options.scenario, options.set, choices), len(choices)))
    records = [record for _, record in found if not isinstance(record, Refused)]
    shown = sorted(records, key=lambda record: -record["speedup"]) if options.all else best_of_each(records)
    console = terminal()
    print_outside(console, outside_car(setup))
    table_of(shown).print(console)
    for group, refused in {choice.group: each for choice, each in found if isinstance(each, Refused)}.items():
        console.print(f"{group}, not here: {refused.found}", style="dim")
    console.print(f"\nFastest: {shown[0]['set']}", soft_wrap=True)
    title = f"{setup.scenario.name}, link {setup.scenario.link}"
    write_outputs(
        options,
        lambda path, kind: draw_policies(shown, title, path, kind),
        lambda file: Table.of(records).write_csv(file, 6),
    )
    return 0


def table_of(records: Sequence[Record]) -> Table:
    """One row a policy: speed, when the first clause is ready, and shares of the request time by cause."""
    heads = ("policy", "speed", "clause", "request", "tok/rd", "J", "verify", "draft", "waste", "link", "wait")
    rows = []
    for each in records:
        clause, request = each["first_clause_p50_ms"], each["request_mean_ms"]
        times = (None if clause is None else duration(clause), duration(request), each["tokens_per_round"])
        shares = (percent(each[f"{cause}_ms"] / request) for cause in CAUSES)
        rows.append([label(each), f"{each['speedup']:.2f}", *times, f"{each['energy_j']:.0f}", *shares])
    return Table(heads, rows)


if __name__ == "__main__":
    sys.exit(guarded(main))
