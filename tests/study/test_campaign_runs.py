"""Campaigns that run: what hits what, exact numbers on a table's times, and what becomes of one that is cut short."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.faults import PHASES
from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.injected import phases_of
from hilsim.runs.replay import run_of
from hilsim.study.campaign import CampaignResult, Group
from hilsim.study.stored import StoredGrid
from hilsim.study.study_run import bytes_digest
from hilsim.study.worker import worked_with_fault
from hilsim.study.workers import Task
from tests.campaigns import ALONE, DROP, HANG, SYNC, write_campaign
from tests.documents import document_of
from tests.studies import rows, stop, until

PEARL = {"name": "pearl", "draft_tokens": 4}


WITH_TIMES = {"phases": list(PHASES), "each": 4, "at_ms": [0, 99999]}


def run(folder: Path, **changes: Any) -> CampaignResult:
    """A small campaign, run in this process."""
    file = write_campaign(folder, **changes)
    stored = StoredGrid.of(load_campaign(file).described, file.read_text(), worked_with_fault)
    found, _ = stored.run(folder / "campaign.sqlite", workers=1)
    return CampaignResult(stored.grid, found)


def cell(found: CampaignResult, fault: str, policy: str) -> Group:
    return next(one for one in found.cells if (one.fault, one.policy) == (fault, policy))


def test_phases_that_are_hit_are_those_that_the_run_without_faults_has(tmp_path: Path) -> None:
    """The fourth of each phase is in request 3, which a workload of three does not have."""
    faults = [{"kind": "link_drop", "for_ms": 1}]
    found = run(tmp_path, faults=faults, policies=[ALONE, SYNC, PEARL], instants=WITH_TIMES)
    for policy, name in zip((ALONE, SYNC, PEARL), found.names(0), strict=True):
        clean = run_of(load_setup(tmp_path / "table.yaml", [f"policy={json.dumps(policy)}"]))[1]
        there = set(phases_of(clean))
        for row in found.group("", name).rows:
            phase, words = found.aim(row), str(row.labels[2]).split()
            number = int(words[1]) - 1 if phase else -1
            of_round = number + 1 if phase in ("draft", "up", "verify", "down") else 0
            comes = (phase, number, of_round) in there if phase else row.labels[2] == "at 0 ms"
            assert row.outcome.metrics["began"] == comes, row
            assert bool(row.outcome.reason) == (not comes), row
            assert not (comes and phase) or row.outcome.metrics[f"began.{phase}"] == 1, row
    reasons = {one.reason for one in found.misses}
    assert {"the run has 3 requests", "target_only has no draft phase here"} <= reasons
    for fault in found.names(1):
        assert sum(found.aim(row) == "draft" for row in found.group(fault, "").began) == 2 * 3
        assert found.coverage[fault]["draft"] == (0, 3 * 4)  # a drop of 1 ms is over before the drafts go up
    assert "it began and changed nothing" in reasons


def test_a_late_message_adds_its_delay_and_one_that_hits_nothing_adds_nothing(tmp_path: Path) -> None:
    """30 ms on the way up are over before a time-out of 40 ms; the target alone sends nothing up."""
    changes = {"reaction": {"timeout_ms": 40}, "policies": [SYNC, ALONE], "instants": {"phases": ["up", "idle"]}}
    found = run(tmp_path, faults=[{"kind": "late", "where": "up", "delay_ms": [30, 60]}], **changes)
    short = cell(found, "late up, delay 30 ms", "sync, draft_tokens 4")
    # It is on its way when the phase begins, and the request is otherwise what it was.
    assert short.values("added_ms") == [30.0, 30.0]
    assert short.values("resent_messages") == [0.0, 0.0]
    alone = cell(found, "late up, delay 30 ms", "target_only")
    assert (len(alone.began), alone.hit) == (1, ())
    assert [(row.outcome.metrics["changed"], row.outcome.metrics["added_ms"]) for row in alone.began] == [(0.0, 0.0)]
    longer = cell(found, "late up, delay 60 ms", "sync, draft_tokens 4")
    assert all(0 < value <= 60 for value in longer.values("added_ms"))
    assert min(longer.values("resent_messages")) >= 1


def test_lost_messages_cost_their_time_outs_and_waits(tmp_path: Path) -> None:
    """A message takes 3 ms and is late 20 ms after that; the first copy goes 5 ms later, the second one 10 ms.

    Drafted are 4 tokens in 20 ms, so that of 50 ms without the way up from the draft on, the first two copies are lost,
    and one where it begins with the verdict's message: drafts follow 3 + 20 ms later, their copy 23 + 5 ms after them.
    """
    found = run(tmp_path, faults=[{**DROP, "where": "up"}], policies=[SYNC])
    at = {str(row.labels[2]): row.outcome.metrics for row in found.rows}
    twice = 23 + 5 + 23 + 10
    assert {phase: numbers["added_ms"] for phase, numbers in at.items()} == {
        "prefill": 0, "draft": twice, "up": twice, "verify": 0, "down": 23 + 5, "idle": 0,
    }  # fmt: skip
    for phase, copies in (("draft", 2), ("up", 2), ("down", 1)):
        numbers = at[phase]
        assert (numbers["detection_ms"], numbers["reaction_ms"]) == (23, 5)
        assert numbers["recovery_ms"] == numbers["added_ms"] + 3
        assert (numbers["resent_messages"], numbers["resent_bytes"]) == (copies, copies * 32)


def test_a_wrong_row_of_the_target_is_silent_and_the_token_is_named(tmp_path: Path) -> None:
    """A comparison of rows catches it: the negative control."""
    changes = {"faults": [{"kind": "wrong_row", "where": "target"}], "policies": [SYNC]}
    found = run(tmp_path / "silent", instants={"phases": ["verify", "draft"]}, **changes)
    (group,) = found.cells
    assert (len(group.hit), group.wrong, group.count("silent"), group.lost) == (1, 1, 1, 0)
    assert group.share("in_time") == 0
    assert "of request 0 is not the target's" in group.hit[0].outcome.reason
    assert group.hit[0].outcome.reason.endswith("unnoticed")
    (miss,) = found.misses
    assert miss.reason == "no row of logits is computed then at target"
    caught = run(tmp_path / "caught", instants={"phases": ["verify"]}, reaction={"compare_rows": True}, **changes)
    (group,) = caught.cells
    assert (group.wrong, group.count("silent"), group.good) == (0, 0, 1)


def test_what_no_policy_survives_is_a_result_and_bad_input_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = {
        "faults": [{"kind": "lost"}],
        "reaction": {"fallback": "none", "give_up_ms": 5000},
        "policies": [SYNC, PEARL],
    }
    file = write_campaign(tmp_path, instants={"phases": ["draft"]}, **gone)
    command = ["campaign", str(file), "--out", str(tmp_path), "--workers", "1"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert told.startswith("The fault hit 2 of 2 runs. In 0 of the 2 it was survived")
    assert "In 2 it was not survived (lost)" in " ".join(told.split())
    assert main([*command, "--json"]) == 0
    document = document_of("campaign --json", capsys.readouterr().out)
    assert [(one["hit"], one["survived"]) for one in document["fault_under_policy"]] == [(1, 0), (1, 0)]
    assert main(["campaign", str(write_campaign(tmp_path, faults=[{"kind": "lots"}])), "--out", str(tmp_path)]) == 2
    assert "lost" in capsys.readouterr().err


def test_a_campaign_of_which_every_point_is_refused_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy of one's own that is no generator is refused where it runs; beside one that runs it is a result."""
    (tmp_path / "no_policy.py").write_text("def run(context, request, policy):\n    return None\n")
    own = {"name": "own", "function": "no_policy.py:run"}
    changes = {"faults": [HANG], "instants": {"phases": ["verify"]}}
    command = ["campaign", str(write_campaign(tmp_path, policies=[own], **changes)), "--allow-code", "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "none")]) == 2
    told = capsys.readouterr()
    assert "1 of 1 points refused:" in told.err
    assert "no_policy" in told.err
    assert not told.out
    write_campaign(tmp_path, policies=[own, SYNC], **changes)
    assert main([*command, "--out", str(tmp_path / "some")]) == 0
    assert "The fault hit 1 of 2 runs." in capsys.readouterr().out


def test_another_scenario_into_the_same_store_is_refused_in_words_of_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_campaign(tmp_path, faults=[HANG], policies=[ALONE], instants={"phases": ["verify"]})
    command = ["campaign", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--set", "seed=7"]) == 2
    told = capsys.readouterr().err
    assert "It holds other runs." in told
    assert "study" not in told


def start(file: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hilsim", "campaign", str(file), "--out", str(out), "--workers", "2", *arguments]
    return subprocess.Popen(
        command, cwd=PROJECT, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def stored(out: Path) -> dict[str, float]:
    """Points and how long each took, which tells one run from another."""
    if not (out / "campaign.sqlite").exists():
        return {}
    with sqlite3.connect(out / "campaign.sqlite") as base:
        (tables,) = base.execute("select count(*) from sqlite_schema").fetchone()
        return dict(base.execute("select key, seconds from points")) if tables else {}


@pytest.mark.slow
def test_a_campaign_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    file = write_campaign(tmp_path, instants={"each": 2})
    process = start(file, tmp_path / "cut")
    journal = tmp_path / "cut" / "campaign.sqlite"
    until(lambda: journal.exists() and journal.stat().st_size > 33_000, process)  # 24,576 without a point
    stop(process, signal.SIGKILL)
    process.communicate()
    done = stored(tmp_path / "cut")
    assert 0 < len(done) < 72
    for out in ("cut", "whole"):
        again = start(file, tmp_path / out, "--csv", str(tmp_path / f"{out}.csv"))
        assert again.wait(120) == 0, again.communicate()[1]
        again.communicate()
    assert done.items() <= stored(tmp_path / "cut").items(), "a stored point is lost or has run again"
    assert (tmp_path / "cut.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(rows(tmp_path / "cut.csv")) == 2 * 3 * 12


def test_results_do_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    """One run after the other with caches between them, and each in a store of its own."""
    changes = {"policies": [SYNC], "instants": {"phases": ["up", "verify"]}}
    together = run(tmp_path / "all", **changes)
    apart = [
        row.outcome.metrics
        for fault in ({**DROP, "where": "up"}, HANG)
        for phase in ("up", "verify")
        for row in run(
            tmp_path / f"{fault['kind']} {phase}", policies=[SYNC], faults=[fault], instants={"phases": [phase]}
        ).rows
    ]
    ours = [row.outcome.metrics for row in together.rows if row.labels[1] != "link_drop down, 50 ms"]
    assert ours == apart


def test_the_shipped_campaign_is_sound_and_a_part_of_it_runs() -> None:
    described = load_campaign(PROJECT / "scenarios/campaigns/faults_orin_8295.yaml").described
    stored = StoredGrid.of(described, "", worked_with_fault)
    points = list(stored.grid.points())
    assert len(points) == 5 * 23 * 6
    assert all(described.choices[axis] for axis in range(3))
    file = described.scenario.resolve()
    digest = bytes_digest(file)
    for point in points[::97]:
        became = worked_with_fault(Task(point.key, file, described.base, point.overrides, digest, stored.facts))
        assert became.state == "done", became
        assert became.metrics["began"] or became.reason
        assert all(value >= 0 for name, value in became.metrics.items() if value is not None and name != "added_ms")


def test_the_small_campaign_begins_in_every_phase(tmp_path: Path) -> None:
    """A chip that hangs is hit whatever goes on; 50 ms without a link are over before the first message after some."""
    found = run(tmp_path, policies=[SYNC])
    assert all(row.outcome.metrics[f"began.{found.aim(row)}"] for row in found.rows)
    *_, hang = found.names(1)
    assert found.coverage[hang] == dict.fromkeys(PHASES, (1, 1))
    assert [one.reason for one in found.misses] == ["it began and changed nothing"]
    changed = [row for row in found.rows if row.outcome.metrics["changed"]]
    assert found.whole.good == len(changed) == len(found.whole.hit) < 18
