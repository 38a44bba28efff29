"""Evaluates one run with an injected fault: against the target alone, and against the same run without the fault."""

from __future__ import annotations

from hilsim.describe.faults import Faults
from hilsim.describe.setup import Setup
from hilsim.errors import HilsimError
from hilsim.measure.injected import injected_numbers
from hilsim.runs.evaluate import Numbers, Refused
from hilsim.runs.replay import run_with_fault


def evaluate_injected(variant: Setup | Refused) -> tuple[Numbers, str] | Refused:
    """The measures of a run with one fault, and a remark: what was lost to it, or why it hit nothing."""
    if isinstance(variant, Refused):
        return variant
    try:
        alone, clean, ours = run_with_fault(variant)
    except HilsimError as error:
        return Refused(error, variant.file)
    faults = variant.scenario.faults or Faults()
    exact = variant.guarantee.level == "text"
    numbers = injected_numbers(alone, clean, ours, faults.tolerance_ms, exact=exact)
    return numbers, ""
