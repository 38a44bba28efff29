"""A broken budget is answered with the cheapest changes that keep it: each found by a run, none that is not needed."""

from __future__ import annotations

from pathlib import Path

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.budget import MISSES, BudgetRemedy, as_json, keep_budget, kinds, over_limits
from tests.scenes import table_setup

# Reading takes 100 ms, a token 50: of an answer with a first clause of 4 tokens the first audio is there after 400 ms.
TALK = (
    "policy={name: target_only}",
    "draft=null",
    "link=null",
    "workload={requests: 8, prompt_tokens: 10, output_tokens: 8, clause_tokens: 4}",
    "passengers=[{name: driver, arrivals: {kind: pauses, pause_s: 1}}]",
)
SPEECH = (
    "speech={{end_of_speech: {{wait_ms: 0}}, recognition: {{real_time_factor: 0}}, synthesis: {{fixed_ms: 100,"
    " real_time_factor: 0}}, {more}}}"
)


def trip(folder: Path, *overrides: str, more: str) -> Setup:
    return table_setup(folder, *TALK, SPEECH.format(more=more), *overrides)


def run(setup: Setup) -> Trace:
    return simulate(setup, Sources(setup).fresh("policy"), keep=False)


def found(setup: Setup) -> BudgetRemedy | None:
    return keep_budget(setup, run(setup), Sources(setup))


def test_a_budget_that_holds_needs_nothing(tmp_path: Path) -> None:
    setup = trip(tmp_path, more="budget: {first_audio_ms: 400}")
    assert over_limits(setup, run(setup)) == 0
    assert found(setup) is None


def test_a_prompt_that_is_read_anew_is_kept(tmp_path: Path) -> None:
    """300 tokens read before every conversation are as many passes of 64 rows; kept they cost nothing."""
    more = "prompt: {system_tokens: 300, kept: false}, budget: {first_audio_ms: 600}"
    setup = trip(tmp_path, "target.timer.prefill={'64': 100, '512': 900}", more=more)
    remedy = found(setup)
    assert remedy is not None
    assert remedy.holds
    assert [change.overrides for change in remedy.changes] == [("speech.prompt.kept=true",)]
    assert remedy.over_before > remedy.over == 0
    arguments = [override for change in remedy.changes for override in change.overrides]
    again = load_setup(Path(setup.file), [*setup.overrides, *arguments])
    assert over_limits(again, run(again)) == 0


def test_only_what_is_needed_is_named(tmp_path: Path) -> None:
    """A camera on the target's unit goes before the passengers: behind them the first audio is early enough.

    Caches that are kept help a little, and are left out again as the budget holds without them.
    """
    camera = "{name: camera, unit: any, period_ms: 300, priority: 0, work: {ms: 60}}"
    more = "prompt: {system_tokens: 60, kept: false}, budget: {first_audio_ms: 400}"
    timer = "target.timer.prefill={'64': 100, '512': 110}"
    setup = trip(tmp_path, timer, "workload.output_tokens=4", f"background=[{camera}]", more=more)
    remedy = found(setup)
    assert remedy is not None
    assert remedy.holds
    assert [change.what for change in remedy.changes] == ["camera after the passengers"]
    assert as_json(remedy)["changes"] == [
        {"change": "camera after the passengers", "cost": "a priority", "set": ["--set 'background[0].priority=2'"]}
    ]


def test_missed_deadlines_break_a_budget(tmp_path: Path) -> None:
    """A monitor of 10 ms every 33 ms waits for steps of 50 ms; nothing that can be set changes that."""
    monitor = "{name: monitor, unit: any, period_ms: 33, priority: 0, work: {ms: 10}}"
    setup = trip(tmp_path, f"background=[{monitor}]", more="budget: {}")
    trace = run(setup)
    tally = trace.tasks["monitor"]
    assert tally.missed / tally.released > MISSES
    remedy = found(setup)
    assert remedy is not None
    assert not remedy.holds
    assert remedy.over <= remedy.over_before


def test_changes_come_cheapest_first_and_never_cost_nothing(tmp_path: Path) -> None:
    camera = "{name: camera, unit: any, period_ms: 60, work: {ms: 5}}"
    more = "prompt: {system_tokens: 60, retrieved_tokens: 16, kept: false}, budget: {first_audio_ms: 1}"
    setup = trip(tmp_path, f"background=[{camera}]", more=more)
    groups = [group for group in kinds(setup) if group]
    assert [group[0].cost for group in groups] == [
        "a setting, and memory for the cache",
        "a priority",
        "a shorter prompt, and what stood in it",
    ]
    assert len({change.overrides for group in groups for change in group}) == sum(map(len, groups))
