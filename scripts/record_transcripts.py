#!/usr/bin/env python3
"""What do the stand-ins generate in the shipped scenarios? Writes scenarios/transcripts/, a file per draft
and rule.

python scripts/record_transcripts.py [--out DIR]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.places import DATA
from hilsim.runs.record import DEPTH, record

DRAFTS = ("draft-0.2m", "draft-0.8m", "draft-2m")
ALL = ("logits.dtype=float64", "workload.count=null")  # last bits that no batch changes; every conversation
# What the file is named after, the scenario, and what is changed in it.
RECORDED = (
    ("shift", "greedy", "orin_8295_greedy", ()),
    ("shift", "ratio-full_rows", "orin_8295", ()),
    ("shift", "ratio-top_k-64", "orin_8295", ("payload={kind: top_k, k: 64}",)),
    ("shift", "gumbel", "gumbel", ()),
    ("commands", "greedy", "commands", ()),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=DATA / "scenarios" / "transcripts", help="folder to write to"
    )
    out: Path = parser.parse_args().out
    return max(record(scenario, overrides, out / name, DEPTH) for name, scenario, overrides in recordings())


def recordings() -> Iterator[tuple[str, Path, list[str]]]:
    """Every file: its name, the scenario, and the values of `--set`."""
    for conversations, rule, scenario, changes in RECORDED:
        for draft in DRAFTS:
            overrides = [f"draft.stand_in=models/{draft}", *ALL, *changes]
            yield f"{conversations}-{draft}-{rule}.npz", DATA / "scenarios" / f"{scenario}.yaml", overrides


if __name__ == "__main__":
    sys.exit(guarded(main))
