"""What the time of a request was spent on: round numbers done on paper, and sums that are exact whatever the policy."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from hilsim.measure.metrics import where_time_went
from hilsim.measure.parts import Parts, added, requests_in_parts
from hilsim.show.table import Table
from hilsim.show.tables import requests_table, rounds_table
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.scenes import MS, both, synthetic, table_setup


def spent(trace: Trace) -> Parts:
    return added(parts for _, rounds in requests_in_parts(trace) for _, parts in rounds)


def test_a_draft_that_is_always_right(tmp_path: Path) -> None:
    """100 ms to read; twice a verdict down (3), four drafts (20), drafts up (3), a verify of 5 rows at width 8 (60).

    The verify takes 10 ms more than a plain step for its seven other rows, of which three are padding.
    """
    _, trace = both(table_setup(tmp_path))
    padding = 10 * MS * 3 // 7
    assert spent(trace) == Parts(
        reading=100 * MS, verifying=120 * MS - 2 * padding, unused_rows=2 * padding, drafting=40 * MS, transfer=12 * MS
    )
    assert spent(trace).total == 272 * MS


def test_a_draft_that_is_never_right_is_all_waste(tmp_path: Path) -> None:
    """Ten rounds of one token: the first eight draft 4, then 3, 2 and none at all as the end comes near."""
    _, trace = both(table_setup(tmp_path, "logits.acceptance=0.0"))
    drafted = [closed.drafted for closed in trace.rounds]
    assert drafted == [0, 4, 4, 4, 4, 4, 4, 3, 2, 1, 0]
    found = spent(trace)
    assert found.drafting == 0
    assert found.thrown_away == sum(drafted) * 5 * MS
    assert found.unused_rows == 9 * 10 * MS  # what a verify takes beyond a plain step
    assert found.verifying == 10 * 50 * MS


def test_what_hides_behind_the_target_costs_nothing(tmp_path: Path) -> None:
    """PEARL drafts four tokens in the 20 ms of a 50 or 60 ms step: only the exchange is left, and the first reading."""
    _, trace = both(table_setup(tmp_path, "policy={name: pearl, draft_tokens: 4}"))
    found = spent(trace)
    assert found.drafting == found.thrown_away == 0
    assert found.transfer > 0
    assert found.total == trace.requests[0].finished_ns


def test_a_plain_run_is_steps_of_the_target_alone(tmp_path: Path) -> None:
    alone, _ = both(table_setup(tmp_path))
    assert spent(alone) == Parts(reading=100 * MS, verifying=500 * MS)
    assert where_time_went(requests_in_parts(alone))["lost_ms"] == {
        "draft": 0,
        "transfer": 0,
        "verify": 600,
        "wait": 0,
        "waste": 0,
    }


def test_waiting_for_another_session_is_waiting(tmp_path: Path) -> None:
    setup = table_setup(tmp_path, "workload.requests=2", "workload.talkers=2")
    alone, _ = both(setup)
    # Two requests of 600 ms on one unit, turn by turn: the first ends a step before the second.
    assert spent(alone).wait == (1150 + 1200 - 2 * 600) * MS


@pytest.mark.parametrize("application", ["paper-target", "paper-draft"])
@pytest.mark.parametrize("talkers", [1, 2])
@pytest.mark.parametrize("policy", ["{name: sync, draft_tokens: 4}", "{name: async}", "{name: pearl, draft_tokens: 3}"])
def test_the_tables_add_up_to_the_nanosecond(tmp_path: Path, application: str, talkers: int, policy: str) -> None:
    setup = table_setup(
        tmp_path, f"policy={policy}", f"application={application}", f"workload.talkers={talkers}",
        "workload.requests=4", "logits.acceptance=0.6", "workload.output_tokens=30",
    )  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    rounds, requests = read(rounds_table(trace)), read(requests_table(trace))
    assert len(rounds) == len(trace.rounds)
    names = [f"{name}_ms" for name in ("draft", "transfer", "verify", "wait", "waste")]
    for request in requests:
        mine = [row for row in rounds if row["request"] == request["request"]]
        for name in names:
            assert sum(exact(row[name]) for row in mine) == exact(request[name])
        assert sum(exact(request[name]) for name in names) == exact(request["request_latency_ms"])
        assert exact(request["finished_ms"]) - exact(request["arrived_ms"]) == exact(request["request_latency_ms"])
    total = sum(exact(request["request_latency_ms"]) for request in requests)
    assert total == sum(record.finished_ns - record.arrived_ns for record in trace.requests)
    assert sum(where_time_went(requests_in_parts(trace))["lost_ms"].values()) == pytest.approx(total / MS, rel=1e-12)


def read(table: Table) -> list[dict[str, str]]:
    out = io.StringIO(newline="")
    table.write_csv(out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def exact(cell: str) -> int:
    """Nanoseconds of a cell in milliseconds with six decimals."""
    whole, decimals = cell.split(".")
    assert len(decimals) == 6
    return int(whole) * MS + int(decimals)
