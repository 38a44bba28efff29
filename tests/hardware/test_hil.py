"""Runs with agents that are really there: their words, their times, their deaths, and their recordings replayed."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import simulate_main
from hilsim.hardware.recordings.recording import read_recording
from hilsim.places import CODE as PROJECT
from tests.agents import agent, faulty

SCENARIO = str(PROJECT / "scenarios/orin_8295_greedy.yaml")
FEW = ("networks=[]", "workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=16")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _recordings_lie_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests that run at once must not append to one file, nor leave any in the project."""
    monkeypatch.setattr("hilsim.show.run.RECORDINGS", tmp_path / "recordings")


def run(capture: Capture, *settings: str, status: int = 0, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """The document of a run."""
    arguments = [argument for setting in (*FEW, *settings) for argument in ("--set", setting)]
    capture.readouterr()
    assert simulate_main([SCENARIO, "--json", *arguments, *options]) == status
    told: dict[str, Any] = json.loads(capture.readouterr().out)
    return told


def traced(folder: Path) -> list[str]:
    """What a run wrote of its trace, but for the digest of its scenario, which names the board."""
    found = json.loads((folder / "trace.json").read_text())["traceEvents"]
    tables = [(folder / name).read_text() for name in ("rounds.csv", "requests.csv")]
    return [*tables, *sorted(json.dumps(event) for event in found if "digest" not in json.dumps(event))]


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    """An agent with both stand-ins, as the scenario names them."""
    with agent("--model", "target=models/target", "--model", "draft=models/draft-0.8m") as address:
        yield address


def behind(address: str, *more: str) -> tuple[str, ...]:
    return tuple(f"units.{unit}.{setting}" for unit in ("npu", "gpu") for setting in (f"backend={address}", *more))


@pytest.fixture(scope="module")
def kept(board: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report, trace and recordings of one run on the board, for whichever tests a process gets."""
    folder = tmp_path_factory.mktemp("hil")
    arguments = [f"--set={setting}" for setting in (*FEW, *behind(board))]
    with contextlib.redirect_stdout(io.StringIO()):
        assert simulate_main([SCENARIO, "--json", "--shadow", "--out", str(folder / "board"), *arguments]) == 0
    return folder


def test_boards_say_what_the_stand_ins_say_and_take_their_own_time(kept: Path, capsys: Capture) -> None:
    plain = run(capsys)
    told = json.loads((kept / "board" / "report.json").read_text())
    for ours, theirs in zip(told["requests"]["sync"], plain["requests"]["sync"], strict=True):
        assert ours["output_tokens"] == theirs["output_tokens"]
    assert told["speculative"]["num_accepted_tokens"] == plain["speculative"]["num_accepted_tokens"]
    assert told["lossless"]["mismatches"] == 0
    assert told["baseline"]["request_latency_ms"] != plain["baseline"]["request_latency_ms"]
    for unit in told["hardware"]:
        assert unit["wall_ms"] > unit["device_ms"] > 0
        assert unit["steps"]["said"] > 20
        assert not unit["faults"]
    kinds = told["shadow"]["kinds"]
    assert {kind["phase"] for kind in kinds} == {"prefill", "decode", "verify", "draft prefill", "draft"}
    # This board is nobody's SA8295P: its chip model must be found far off.
    assert told["shadow"]["mean_absolute_error"] > 1


def recordings(kept: Path, *more: str) -> tuple[str, ...]:
    files = {unit: kept / "board" / f"orin_8295_greedy-{unit}.jsonl" for unit in ("npu", "gpu")}
    return tuple(
        f"units.{unit}.{setting}" for unit, file in files.items() for setting in (f"backend=recording://{file}", *more)
    )


def test_a_run_with_agents_and_its_replay_leave_the_same_trace(kept: Path, capsys: Capture) -> None:
    run(capsys, *recordings(kept), options=("--out", str(kept / "replay")))
    assert traced(kept / "replay") == traced(kept / "board")


def test_a_recording_that_was_changed_is_refused(kept: Path, capsys: Capture, tmp_path: Path) -> None:
    """The negative control: one duration of the recording made longer."""
    file = kept / "board" / "orin_8295_greedy-npu.jsonl"
    (tmp_path / "bent.jsonl").write_text(file.read_text().replace('"duration_ns":', '"duration_ns":1', 1))
    (tmp_path / "bent.jsonl.tensors").write_bytes((file.parent / f"{file.name}.tensors").read_bytes())
    arguments = [f"--set={setting}" for setting in (*FEW, f"units.npu.backend=recording://{tmp_path}/bent.jsonl")]
    assert simulate_main([SCENARIO, "--json", *arguments]) == 2
    assert "a line that its digest does not confirm" in capsys.readouterr().err


def test_a_recording_serves_another_policy_where_its_times_may_be_interpolated(kept: Path, capsys: Capture) -> None:
    other = ("policy.draft_tokens=2", *recordings(kept))
    lost = run(capsys, *other, status=1)["lost"]
    assert lost["kind"] == "unseen"
    assert "interpolate" in lost["remedy"]
    told = run(capsys, *other, "units.npu.unseen=interpolate", "units.gpu.unseen=interpolate")
    assert told["lossless"]["mismatches"] == 0
    assert sum(unit["steps"]["interpolated"] for unit in told["hardware"]) > 0


def test_tokens_alone_say_the_same_as_logits(board: str, capsys: Capture) -> None:
    told = run(capsys, *behind(board, "words=tokens"))
    plain = run(capsys)
    assert told["lossless"]["mismatches"] == 0
    assert told["speculative"]["num_accepted_tokens"] == plain["speculative"]["num_accepted_tokens"]


@pytest.mark.parametrize(
    ("unit", "at"), [("npu", "prefill"), ("npu", "decode"), ("npu", "verify"), ("gpu", "prefill"), ("gpu", "decode")]
)
@pytest.mark.parametrize("how", ["kill", "raise"])
def test_an_agent_that_breaks_ends_the_run_with_a_report_and_a_good_recording(
    unit: str, at: str, how: str, tmp_path: Path, capsys: Capture
) -> None:
    """On the target's unit and on the draft's, whose steps are a prefill and single rows."""
    record = f"units.{unit}.record={tmp_path}/board.jsonl"
    with faulty(at, how, tmp_path, restarts=False) as address:
        where = (f"units.{unit}.backend={address}", f"units.{unit}.words=stand_in", f"units.{unit}.warm_up=0")
        told = run(capsys, *where, record, status=1)
    assert told["lost"]["kind"] == {"kill": "died", "raise": "engine"}[how]
    (found,) = told["hardware"]
    assert found["faults"][-1]["then"] == "the run ended"
    entries = read_recording(tmp_path / "board.jsonl").sessions[0].entries
    assert len(entries) == sum(found["steps"].values()) + 1
    assert entries[-1].fault is not None


@pytest.mark.parametrize(("how", "words"), [("kill", "died"), ("raise", "could not be loaded")])
def test_an_agent_that_breaks_while_it_loads_is_refused(how: str, words: str, tmp_path: Path, capsys: Capture) -> None:
    with faulty("load", how, tmp_path, restarts=False) as address:
        arguments = [f"--set={setting}" for setting in (*FEW, f"units.npu.backend={address}")]
        assert simulate_main([SCENARIO, "--json", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize("at", ["prefill", "decode", "verify"])
def test_an_agent_that_is_killed_and_started_again_goes_on(at: str, tmp_path: Path, capsys: Capture) -> None:
    """The same words; nothing was lost of the recording, which replays the fault."""
    units = ("units.npu.words=stand_in", "units.npu.warm_up=0", "units.npu.retries=8")
    record = f"units.npu.record={tmp_path}/board.jsonl"
    with faulty(at, "kill", tmp_path, restarts=True) as address:
        told = run(capsys, f"units.npu.backend={address}", *units, record, options=("--out", str(tmp_path / "board")))
    (unit,) = told["hardware"]
    assert unit["faults"][0]["kind"] == "died"
    assert {fault["then"] for fault in unit["faults"]} == {"tried again"}
    assert told["lossless"]["mismatches"] == 0
    again = (f"units.npu.backend=recording://{tmp_path}/board.jsonl", *units)
    run(capsys, *again, options=("--out", str(tmp_path / "replay")))
    assert traced(tmp_path / "replay") == traced(tmp_path / "board")


def test_the_chip_model_goes_on_where_an_agent_is_gone(tmp_path: Path, capsys: Capture) -> None:
    units = ("units.npu.words=stand_in", "units.npu.warm_up=0", "units.npu.on_fault=simulated")
    with faulty("verify", "kill", tmp_path, restarts=False) as address:
        told = run(capsys, f"units.npu.backend={address}", *units, f"units.npu.record={tmp_path}/board.jsonl")
    (unit,) = told["hardware"]
    assert unit["present"] is False
    assert unit["faults"][-1]["then"] == "went on with simulated"
    assert told["lossless"]["mismatches"] == 0


def test_a_board_that_hangs_costs_its_timeout_in_simulated_time(tmp_path: Path, capsys: Capture) -> None:
    units = ("units.npu.words=stand_in", "units.npu.warm_up=0", "units.npu.on_fault=simulated")
    limit = ("units.npu.timeout_ms=1500", f"units.npu.record={tmp_path}/board.jsonl")
    with faulty("verify", "stall", tmp_path, restarts=False) as address:
        told = run(capsys, f"units.npu.backend={address}", *units, *limit)
    (unit,) = told["hardware"]
    assert unit["faults"][-1] | {"found": ""} == {
        "run": "policy",
        "request": 0,
        "role": "target",
        "phase": "verify",
        "kind": "stalled",
        "found": "",
        "then": "went on with simulated",
        "cost_ms": 1500.0,
    }
    assert told["speculative"]["lost_ms"]["wait"] >= 1500


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("units.npu.backend=tcp://127.0.0.1:1",), ("unreachable", "python -m hilsim agent")),
        (("units.npu.backend=recording://nowhere.jsonl",), ("nowhere.jsonl", "no such file")),
        (
            ("units.npu.backend=tcp://127.0.0.1:1", "units.gpu.backend=tcp://127.0.0.1:1", "units.gpu.timeout_ms=50"),
            ("units.gpu.timeout_ms", "the same agent"),
        ),
        (("units.npu.backend=udp://x:1",), ("udp://x:1", "tcp://HOST:PORT")),
        (("units.cpu.backend=tcp://127.0.0.1:1",), ("units.cpu", "sa8295p/npu")),
        (("units.npu={backend: simulated, record: x.jsonl}",), ("record",)),
        (("units.npu.backend=tcp://127.0.0.1:1", "policy={name: tree, branches: [2]}"), ("stand_in",)),
    ],
)
def test_bad_units_are_refused_before_anything_runs(
    settings: tuple[str, ...], words: tuple[str, ...], capsys: Capture
) -> None:
    arguments = [argument for setting in (*FEW, *settings) for argument in ("--set", setting)]
    assert simulate_main([SCENARIO, "--json", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert all(word in complaint for word in words), complaint
    assert "Traceback" not in complaint


def test_models_that_a_board_has_not_are_all_named(board: str, capsys: Capture) -> None:
    arguments = [f"--set={setting}" for setting in (*FEW, *behind(board, "models={target: nobody, draft: nobody}"))]
    assert simulate_main([SCENARIO, "--json", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert "units.npu.models.target" in complaint
    assert "units.gpu.models.draft" in complaint
    assert "target, draft" in complaint


def test_shadow_and_error_bars_say_where_they_make_no_sense(capsys: Capture) -> None:
    few = [f"--set={setting}" for setting in FEW]
    assert simulate_main([SCENARIO, "--json", "--shadow", *few]) == 2
    assert "--shadow" in capsys.readouterr().err
