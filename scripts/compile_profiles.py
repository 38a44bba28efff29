#!/usr/bin/env python3
"""Which compiler takes which model, then and now? Every shipped model against every rule profile.

python scripts/compile_profiles.py [MODEL]... [--head NAME] [--profiles NAME,NAME] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs
from hilsim.describe.head import ArgMaxHead, Head, LogitsHead, TopKHead, TopKSamplingHead
from hilsim.errors import Fault, InputError
from hilsim.progress import counting
from hilsim.show.profiles import COLOURS, LEGEND, draw, in_short, write_csv
from hilsim.study.profiles import PROFILES, Cell, cells, subjects

K, WIDTH = 40, 120
HEADS: dict[str, Head] = {
    "top_k_sampling": TopKSamplingHead(name="top_k_sampling", k=K),
    "top_k": TopKHead(name="top_k", k=K),
    "argmax": ArgMaxHead(name="argmax"),
    "logits": LogitsHead(),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="*", help="only these (default: every shipped model)")
    parser.add_argument("--head", choices=HEADS, default="top_k_sampling", help=f"how graphs end; k is {K}")
    parser.add_argument("--profiles", default=",".join(PROFILES), help="only these")
    add_outputs(parser)
    options = parser.parse_args()
    require_outputs(options)
    names, profiles = (
        known(options.models, subjects(), "MODEL"),
        known(options.profiles.split(","), PROFILES, "--profiles"),
    )
    table = cells(names, profiles, HEADS[options.head])
    found = list(counting("compiling", table, len(names) * len(profiles)))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table_of(found, profiles))
    console.print(LEGEND, style="dim")
    write_outputs(options, lambda path, kind: draw(found, profiles, path, kind), lambda file: write_csv(found, file))
    return 0


def known(asked: list[str], there: list[str] | tuple[str, ...], place: str) -> list[str]:
    """The names asked for, or all; refused together where they are not there."""
    if wrong := [name for name in asked if name not in there]:
        raise InputError([Fault(place, "", ", ".join(map(repr, wrong)), f"among {', '.join(there)}")])
    return asked or list(there)


def table_of(found: list[Cell], profiles: list[str]) -> Table:
    """A row a model, a column a profile."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in profiles:
        table.add_column(name, no_wrap=True)
    rows: dict[str, list[Text]] = {}
    for cell in found:
        rows.setdefault(cell.model, []).append(Text(in_short(cell), COLOURS[cell.plan.outcome]))
    for model, texts in rows.items():
        table.add_row(model.rpartition(":")[2], *texts)
    return table


if __name__ == "__main__":
    sys.exit(guarded(main))
