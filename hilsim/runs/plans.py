"""The compile plans of a set-up, with progress, and fallback options where a compiler refuses."""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.compiler.compile_check import plans_of
from hilsim.compiler.fallback_options import FallbackOption, find_fallback_options
from hilsim.compiler.plan import Plan
from hilsim.describe.setup import Setup
from hilsim.progress import status_line


def plan(setup: Setup, overrides: Sequence[str]) -> tuple[dict[int, Plan], list[FallbackOption]]:
    """Plans by place among the set-up's parts; single changes with which everything compiles, where one is refused."""
    with status_line("compiling", at_once=False) as notify:
        plans = plans_of(setup, notify)
    if all(plan.outcome != "refused" for plan in plans.values()):
        return plans, []
    with status_line("looking for fallback options"):
        return plans, find_fallback_options(setup, overrides, plans)
