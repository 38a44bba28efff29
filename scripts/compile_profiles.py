#!/usr/bin/env python3
"""Which compiler accepts which model? Every shipped model against every rule profile.

python scripts/compile_profiles.py [MODEL]... [--head NAME] [--profiles NAME,NAME] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.text import Text

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, write_outputs
from hilsim.describe.head import ArgMaxHead, Head, LogitsHead, TopKHead, TopKSamplingHead
from hilsim.errors import Fault, InputError
from hilsim.progress import counting
from hilsim.show.profiles import COLOURS, LEGEND, cell_text, cells_table, draw
from hilsim.show.table import Table, terminal
from hilsim.study.profiles import PROFILES, CompileResult, cells, subjects
from scripts.arguments import asked

K, WIDTH = 40, 120
HEADS: dict[str, Head] = {
    "top_k_sampling": TopKSamplingHead(name="top_k_sampling", k=K),
    "top_k": TopKHead(name="top_k", k=K),
    "argmax": ArgMaxHead(name="argmax"),
    "logits": LogitsHead(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="*", help="only these (default: every shipped model)")
    parser.add_argument("--head", choices=HEADS, default="top_k_sampling", help=f"output head of the graphs; k is {K}")
    parser.add_argument("--profiles", default=",".join(PROFILES), help="only these rule profiles (default: all)")
    add_outputs(parser)
    options = asked(parser, arguments)
    models = known(options.models, subjects(), "MODEL")
    profiles = known(options.profiles.split(","), PROFILES, "--profiles")
    table = cells(models, profiles, HEADS[options.head])
    found = list(counting("compiling", table, len(models) * len(profiles)))
    console = terminal(WIDTH)
    table_of(found, profiles).print(console)
    console.print(LEGEND, style="dim")
    write_outputs(
        options,
        lambda path, kind: draw(found, profiles, path, kind),
        lambda file: cells_table(found).write_csv(file),
    )
    return 0


def known(asked_for: Sequence[str], there: Sequence[str], place: str) -> list[str]:
    """The names asked for, or all; refused together where they are not there."""
    if wrong := [name for name in asked_for if name not in there]:
        raise InputError([Fault(place, "", ", ".join(map(repr, wrong)), f"among {', '.join(there)}")])
    return list(asked_for or there)


def table_of(found: Sequence[CompileResult], profiles: Sequence[str]) -> Table:
    """A row a model, a column a profile."""
    rows: dict[str, list[Text | str]] = {}
    for cell in found:
        rows.setdefault(cell.model, [cell.model.rpartition(":")[2]])
        rows[cell.model].append(Text(cell_text(cell), COLOURS[cell.plan.outcome]))
    return Table(["model", *profiles], list(rows.values()), left=1 + len(profiles))


if __name__ == "__main__":
    sys.exit(guarded(main))
