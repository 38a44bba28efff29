#!/usr/bin/env python3
"""Write scenarios/plans: how the models of the shipped scenarios compile, so that a first check need not compile them.

python scripts/record_plans.py        (make plans; after a change of the compiler, the networks or the operator tables)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.compiler.plan_cache import KNOWN, SHIPPED, store
from hilsim.describe.load import load_setup
from hilsim.places import DATA
from hilsim.progress import counting
from hilsim.show.check import checked

OLD_TOOLS = ("compile.profile=sa8295_2023",)  # the first scenario as the README compiles it


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    files = sorted((DATA / "scenarios").glob("*.yaml"))
    asked = [(file, ()) for file in files] + [(DATA / "scenarios/orin_8295.yaml", OLD_TOOLS)]
    for file, overrides in counting("compiling", asked, len(asked)):
        checked(load_setup(file, overrides))  # with all that is proposed where it does not fit
    plans = {f"{key}.json": plan for key, plan in KNOWN.items() if plan.unit}  # the others are single graphs of these
    for name, plan in plans.items():
        store(SHIPPED / name, plan)
    for old in SHIPPED.glob("*.json"):
        if old.name not in plans:
            old.unlink()
    print(f"{len(plans)} plans of {len(files)} scenarios in {SHIPPED}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
