"""A run with injected faults as people see it: the verdict, each fault's fate, the JSON block, files and pictures."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import hilsim
from hilsim.places import CODE as PROJECT
from hilsim.show.run import Run
from tests.running import run_here

SCENARIO = PROJECT / "scenarios" / "faults.yaml"


def run(*overrides: str) -> Run:
    """The shipped scenario's first conversation."""
    return hilsim.simulate(hilsim.load(SCENARIO, ["workload.count=1", *overrides]))


def injected(fault: str) -> str:
    """The override of one fault in place of the scenario's."""
    return f"faults.inject=[{fault}]"


def text_of(ran: Run) -> str:
    page = StringIO()
    ran.render(Console(file=page, width=400, color_system=None))
    return " ".join(page.getvalue().split())


@pytest.fixture(scope="module")
def ran() -> Run:
    return run()


def test_the_block_holds_every_fault_and_what_never_began(ran: Run) -> None:
    block = ran.report["faults"]
    kinds = [record["kind"] for record in block["records"]] + [one["kind"] for one in block["never_began"]]
    assert sorted(kinds) == ["hang", "link_drop", "loss", "reset", "wrong_row"]
    assert block["survived"] is True
    assert block["corrupted_tokens"] == 0
    (drop,) = [record for record in block["records"] if record["kind"] == "link_drop"]
    assert drop["detection_ms"] == pytest.approx(20, abs=1)
    assert drop["within_tolerance"] is True
    assert (drop["request"], drop["round"], drop["phase"]) == (1, 3, "up")
    json.dumps(ran.report, allow_nan=False)


def test_added_latency_is_that_of_the_same_requests_without_faults(ran: Run) -> None:
    calm = ran.outcome.undisturbed
    assert calm is not None
    assert ran.speculative is not None
    took = {one.number: one.finished_ns - one.arrived_ns for one in calm.requests}
    more = [(one.finished_ns - one.arrived_ns - took[one.number]) / 1e6 for one in ran.speculative.requests]
    assert ran.report["faults"]["added_ms"]["request_latency_ms"]["mean"] == pytest.approx(sum(more) / len(more))
    assert max(more) > 100


def test_the_report_says_it_and_lists_what_is_assumed(ran: Run) -> None:
    text = text_of(ran)
    assert "all survived" in text
    assert "the text is the target's own" in text
    assert "link_drop of link at" in text
    assert "its instant never came" in text
    assert any(line["figure"] == "faults.reaction" for line in ran.report["assumptions"])


def test_a_wrong_token_is_named_with_its_cause() -> None:
    found = run(injected("{kind: wrong_row, where: target, on: {phase: verify, request: 2}}"))
    (record,) = found.report["faults"]["records"]
    (wrong,) = record["corrupted"]
    assert record["silent"] is True
    assert record["within_tolerance"] is False
    assert found.report["lossless"]["mismatches"] == 1
    (difference,) = found.report["lossless"]["divergences"]
    assert (difference["request"], difference["token"]) == (wrong["request"], wrong["place"])
    assert f"token {wrong['place']} of request 2 is {wrong['delivered']} in place of {wrong['token']}" in text_of(found)


def test_a_run_that_is_not_survived_says_so() -> None:
    found = run(injected("{kind: lost, where: target, on: {phase: verify, request: 2}}"))
    assert found.lost
    assert found.report["faults"]["survived"] is False
    text = text_of(found)
    assert "Not survived" in text
    assert "lost of target" in text
    assert "NOT survived" in text
    assert "NOT within the tolerance" not in text  # it was reacted to in time, and that was of no use
    assert found.report["faults"]["records"][0]["within_tolerance"] is False


def test_one_fault_is_not_all() -> None:
    text = text_of(run(injected("{kind: duplicate, on: {phase: up, request: 1}}")))
    assert "1 fault, survived;" in text


def test_the_target_alone_can_fail_as_well() -> None:
    reset = injected("{kind: reset, where: target, reload_ms: 100, on: {phase: verify}}")
    found = run("policy={name: target_only}", "draft=null", "link=null", reset)
    (record,) = found.report["faults"]["records"]
    assert record["recovered_ms"] > record["detected_ms"]
    assert found.speculative is None


def test_traces_and_pictures_of_it_are_written(ran: Run, tmp_path: Path) -> None:
    names = {path.name for path in ran.save(tmp_path)}
    assert {"report.json", "trace.json"} <= names
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert any(event.get("name") == "fault" for event in events)


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_fits(ran: Run, width: int) -> None:
    page = StringIO()
    ran.render(Console(file=page, width=width, color_system=None))
    assert max(map(len, page.getvalue().splitlines())) <= width


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("{kind: lost, where: target, on: {phase: verify}}", 1),
        ("{kind: duplicate, on: {phase: up}}", 0),
        ("{kind: wrong_row, where: target, on: {phase: verify}}", 1),
    ],
)
def test_the_command_exits_with_1_where_a_fault_is_not_survived_or_the_text_differs(fault: str, status: int) -> None:
    arguments = [str(SCENARIO), "--set", "workload.count=1", "--set", injected(fault), "--json"]
    assert run_here(["simulate.py", *arguments]).returncode == status
