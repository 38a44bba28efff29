"""Public exports: those that failed are named at the place where people found it, those that worked raise no alarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hilsim.compiler.choose import plan_graph
from hilsim.compiler.findings import Finding
from hilsim.compiler.limits import module_limits
from hilsim.compiler.plan import GraphPlan
from hilsim.compiler.program import Subject, exported
from hilsim.compiler.rules import RuleBook
from hilsim.compiler.site import CompileSite
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.errors import InputError
from tests.compiler.public_exports import FAILED, WORKED, Report

HERE = Path(__file__)
DOCS = HERE.parents[2] / "docs" / "public_exports.md"


def profile_of(report: Report) -> Profile:
    profile = load_profile(report.profile, HERE)
    return profile if report.release is None else profile.model_copy(update={"release": report.release})


def planned(module: nn.Module, inputs: tuple[Any, ...], profile: Profile, activations: Any) -> GraphPlan:
    """A module's plan on a unit that the profile is for."""
    chip = load_chip("sa8295p" if "npu" in profile.units else "drive-orin-x", HERE)
    unit = chip.units["npu" if "npu" in profile.units else "gpu"]
    precision = next(iter(unit.precisions.values())).model_copy(update={"activations": activations})
    site = CompileSite(unit, precision, profile, Compile())
    return plan_graph("whole", 1, exported(Subject("module", module, inputs)), site)


def matching(found: list[Finding], report: Report) -> list[Finding]:
    """Findings that say what was reported, where it was."""
    return [
        one
        for one in found
        if (one.rule, one.operator, one.severity, one.module)
        == (report.rule, report.operator, report.severity, report.at)
    ]


def named_right(report: Report) -> bool:
    """Whether what failed in public is named at its place, and taken away by a rewrite where there is one."""
    module, inputs = report.build()
    if not report.rule:
        with pytest.raises(InputError) as caught:
            exported(Subject("module", module, inputs))
        return report.operator in str(caught.value) and "public_exports.py" in str(caught.value)
    profile = profile_of(report)
    found = RuleBook(profile, report.activations).findings(exported(Subject("module", module, inputs)), "whole")
    right = matching(found, report)
    if not right or any(not one.source or len(one.source) < 4 for one in right):
        return False
    if report.rewritten:
        plan = planned(module, inputs, profile, report.activations)
        return bool(plan.chosen) and report.operator not in plan.away_operators and not plan.refusals
    return True


@pytest.mark.parametrize("report", FAILED, ids=lambda report: report.issue)
def test_what_failed_in_public_is_named_at_its_place(report: Report) -> None:
    assert named_right(report)


@pytest.mark.parametrize(("source", "what", "profile", "module", "inputs", "activations"), WORKED)
def test_what_worked_in_public_raises_no_alarm(
    source: str, what: str, profile: str, module: nn.Module, inputs: tuple[Any, ...], activations: Any
) -> None:
    found = RuleBook(load_profile(profile, HERE), activations).findings(exported(Subject(what, module, inputs)), "g")
    assert not [one for one in found if one.severity != "note"], source


def test_a_graph_beyond_the_limit_of_its_compiler_is_cut_or_refused() -> None:
    """pytorch/executorch 17782: 2,309,576 KB where 2,097,152 KB are allowed."""
    unit = load_chip("sa8295p", HERE).units["npu"]
    (found,) = module_limits(2_309_576 * 1024, 10**6, unit, "sa8295_today", "whole")
    assert (found.rule, found.severity) == ("graph-size", "note")
    assert "cut into" in found.reason
    (found,) = module_limits(2_309_576 * 1024, 2_309_576 * 1024, unit, "sa8295_today", "whole")
    assert found.severity == "error"


def test_the_table_in_the_docs_is_what_is_tested() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for report in FAILED:
        assert f"| {report.issue} |" in text
        assert report.what in text
    for source, what, *_ in WORKED:
        assert f"| {source} | {what} |" in text
    assert len({report.issue for report in FAILED}) >= 20
    assert len(WORKED) >= 10
