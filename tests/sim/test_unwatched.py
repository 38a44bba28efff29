"""Processes that nothing waits for: the same run as with SimPy's own, in fewer events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import simpy

from hilsim.describe.setup import Setup
from hilsim.sim import lead
from hilsim.sim.board import Board
from hilsim.sim.device_slot import Process
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sim.unwatched import start, start_within
from tests.scenes import synthetic, table_setup

POLICIES = (
    "{name: async}",
    "{name: async, min_batch: 0, max_ahead: 5, handshake_ms: 3}",
    "{name: async, min_batch: 3, pre_verify: true}",
    "{name: pipelined, draft_tokens: 1, blocks_in_flight: 3}",
    "{name: pipelined, draft_tokens: 3}",
)
DRAFT = 'draft.timer={prefill: {"64": 20}, decode: 2, verify: {"2": 2}, source: a round number}'


class Accounting(simpy.Environment):
    """An environment of another class: all its processes are SimPy's own."""


def ran(setup: Setup, env: simpy.Environment) -> Trace:
    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        return Board(env, setup, trace, with_draft=with_draft)

    return simulate(setup, synthetic(setup), boards=board)


def setups(folder: Path) -> list[Setup]:
    """A token is drafted in as long as a message holds the wire, so that both end at one instant, again and again."""
    return [
        table_setup(folder, f"policy={policy}", f"logits.acceptance={acceptance}", "workload.output_tokens=30",
                    f"workload.talkers={talkers}", "workload.requests=3", DRAFT)
        for policy in POLICIES for acceptance in (0.5, 0.9) for talkers in (1, 2)
    ]  # fmt: skip


def test_a_run_is_the_same_with_processes_of_either_kind(tmp_path: Path) -> None:
    for setup in setups(tmp_path):
        ours, theirs = simpy.Environment(), Accounting()
        assert ran(setup, ours) == ran(setup, theirs)
        # Of what SimPy counts, each message has at least two events less: its begin and its end.
        messages = sum(span.kind == "drafts" for span in ran(setup, simpy.Environment()).spans)
        assert next(theirs._eid) - next(ours._eid) >= 2 * messages > 0


def test_a_message_that_begins_at_another_place_in_its_instant_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above can fail: it sees whether a message begins before the next token, or behind it."""
    before = [ran(setup, simpy.Environment()) for setup in setups(tmp_path)]
    monkeypatch.setattr(lead, "start", start_within)
    assert before != [ran(setup, simpy.Environment()) for setup in setups(tmp_path)]


@pytest.mark.parametrize("begin", [start, start_within])
def test_values_and_exceptions_reach_the_process_and_leave_it(
    begin: Callable[[simpy.Environment, Process], None],
) -> None:
    env, seen = simpy.Environment(), []

    def process(fails: bool) -> Process:
        seen.append((yield env.timeout(3, "three")))
        happened = env.event().succeed("at once")
        yield env.timeout(0)
        seen.append((yield happened))  # what has happened is not waited for
        wrong = env.event()
        wrong.fail(KeyError("wrong"))
        try:
            yield wrong
        except KeyError as error:
            seen.append(error.args)
        if fails:
            raise LookupError("nobody waits for it")

    begin(env, process(False))
    env.run()
    assert seen == ["three", "at once", ("wrong",)]
    assert env.now == 3
    begin(env, process(True))
    with pytest.raises(LookupError):
        env.run()
