"""The compile plans of a set-up, with progress, and fallback options where a compiler refuses."""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.compiler.compile_check import plans_of
from hilsim.compiler.fallback_options import WayOut, ways_out
from hilsim.compiler.plan import Plan
from hilsim.describe.setup import Setup
from hilsim.progress import saying


def plan(setup: Setup, overrides: Sequence[str]) -> tuple[dict[int, Plan], list[WayOut]]:
    """Plans by place among the set-up's parts; single changes with which everything compiles, where one is refused."""
    with saying("compiling") as say:
        plans = plans_of(setup, say)
    if all(plan.outcome != "refused" for plan in plans.values()):
        return plans, []
    with saying("looking for fallback options"):
        return plans, ways_out(setup, overrides, plans)
