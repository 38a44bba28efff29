"""A losing speculation is told what would make it win: the cheapest change, found by replaying it, not by rule."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from hilsim.commands.main import simulate_main
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import speedup
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources, run_both
from hilsim.show.sentences import remedy_sentence
from hilsim.study.remedies import Remedy, as_json, changes, cheapest_remedy
from tests.scenes import LINK, both, table_setup

LOSING = PROJECT / "scenarios" / "losing.yaml"


def replay(setup: Setup) -> float:
    return speedup(*both(setup))


def found(setup: Setup, *overrides: str) -> Remedy:
    return cheapest_remedy(setup, overrides, Sources(setup, remember=True))


def test_the_report_names_a_change_that_wins_when_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--json"]
    assert simulate_main([str(LOSING), *short]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["speedup"] < 1
    best = report["remedy"]["best"]
    assert report["remedy"]["wins"]
    assert best["cost"] == "a setting"
    arguments = [word for text in best["set"] for word in shlex.split(text)]
    assert simulate_main([str(LOSING), *arguments, *short]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["speedup"] == pytest.approx(best["speedup"], rel=1e-12)
    assert again["speedup"] > 1
    assert "remedy" not in again


@pytest.mark.slow
def test_replays_from_memory_equal_runs_from_scratch() -> None:
    """Other draft lengths and policies over a memory that a first run filled: the very trace of a fresh source."""
    short = ["workload.count=1", "workload.max_turns=4", "logits.dtype=float64"]
    sources = Sources(load_setup(LOSING, short), remember=True)
    run_both(sources.setup, sources)
    for policy in ("{name: sync, draft_tokens: 2}", "{name: async}", "{name: pearl, draft_tokens: 3}",
                   "{name: adaptive, rule: confidence}"):  # fmt: skip
        changed = load_setup(LOSING, [*short, f"policy={policy}"])
        assert sources.replaying(changed) is sources
        remembered, fresh = run_both(changed, sources), run_both(changed, Sources(changed))
        assert remembered.speculative.spans == fresh.speculative.spans  # type: ignore[union-attr]
        assert [r.tokens for r in remembered.speculative.rounds] == [  # type: ignore[union-attr]
            r.tokens
            for r in fresh.speculative.rounds  # type: ignore[union-attr]
        ]
    assert sources.replaying(load_setup(LOSING, [*short, "seed=2"])) is not sources


def test_a_setting_comes_before_anything_that_costs_more(tmp_path: Path) -> None:
    """Sixteen drafts of 5 ms of which a third stands: a shorter draft wins, so nothing dearer is tried."""
    setup = table_setup(tmp_path, "policy.draft_tokens=40", "logits.acceptance=0.6", "workload.output_tokens=200",
                        "target.timer.verify={'64': 60}")  # fmt: skip
    assert replay(setup) < 1
    remedy = found(setup, "policy.draft_tokens=40", "logits.acceptance=0.6", "workload.output_tokens=200",
                   "target.timer.verify={'64': 60}")  # fmt: skip
    assert remedy.wins
    assert remedy.best is not None
    assert remedy.best.change.cost == "a setting"
    assert remedy.tried <= len(next(changes(setup)))


def slow(folder: Path, *overrides: str) -> tuple[Setup, tuple[str, ...]]:
    """A link of 300 ms a message, or of 1 MB/s."""
    link = folder / "slow.yaml"
    link.write_text(LINK.replace("10000000000", "0.001"))
    given = (f"link={link}", "workload.output_tokens=60", "logits.acceptance=0.8", *overrides)
    return table_setup(folder, *given), given


def test_rows_that_nobody_needs_stay_at_home(tmp_path: Path) -> None:
    setup, given = slow(tmp_path, "payload=full_rows")
    assert replay(setup) < 1
    remedy = found(setup, *given)
    assert remedy.best is not None
    assert remedy.best.change.what == "token ids alone"
    assert remedy.wins


def test_hardware_comes_last(tmp_path: Path) -> None:
    """With 300 ms a message no setting helps; the token ids cross already."""
    link = tmp_path / "slow.yaml"
    link.write_text(LINK.replace("10000000000", "0.001").replace("value: 2, unit: ms", "value: 300, unit: ms"))
    given = (f"link={link}", "workload.output_tokens=60", "logits.acceptance=0.8")
    setup = table_setup(tmp_path, *given)
    assert replay(setup) < 1
    remedy = found(setup, *given)
    assert remedy.best is not None
    assert remedy.best.change.cost == "other hardware between the chips"
    assert remedy.wins


def test_where_nothing_helps_the_target_is_left_alone(tmp_path: Path) -> None:
    given = ("logits.acceptance=0.0", "workload.output_tokens=40", "link=ideal")
    remedy = found(table_setup(tmp_path, *given), *given)
    assert not remedy.wins
    assert "Use policy target_only." in remedy_sentence(as_json(remedy))
