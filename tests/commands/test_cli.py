"""The command line as a user meets it: statuses, streams, files, and the same numbers every time."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hilsim.commands.main import COMMANDS, SHELLS, main, simulate_main
from hilsim.places import CODE as PROJECT
from hilsim.versions import EXTRAS, USED
from tests.scenes import interrupted, table_setup

CONTRACT = {
    "scenario", "digest", "seed", "versions", "speculative", "baseline", "speedup", "lossless", "memory", "assumptions",
}  # fmt: skip
TIMES = (
    "time_to_first_token_ms", "time_to_first_clause_ms", "inter_token_latency_ms", "time_per_output_token_ms",
    "request_latency_ms",
)  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> str:
    table_setup(tmp_path)
    return str(tmp_path / "table.yaml")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert simulate_main([*arguments, "--json"]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    return json.loads(streams.out)


def test_json_is_one_document_with_the_contracts_keys(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, table)
    assert set(found) >= CONTRACT
    for run in ("baseline", "speculative"):
        for name in TIMES:
            assert set(found[run][name]) == {"mean", "p50", "p90", "p99"}
        assert {"output_tokens", "output_token_throughput", "energy_j", "links", "units"} <= set(found[run])
    speculative = found["speculative"]
    assert set(speculative["lost_ms"]) == {"draft", "transfer", "verify", "wait", "waste"}
    assert speculative["mean_acceptance_length"] == 5.0  # a perfect draft of four, and the bonus token
    assert found["lossless"]["checked_tokens"] == 11
    assert found["speedup"] == pytest.approx(600 / 272)


def test_the_same_command_gives_the_same_document(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run_json(capsys, table, "--set", "logits.acceptance=0.6") for _ in range(2)]
    for found in runs:
        del found["wall"]
    assert runs[0] == runs[1]
    other = run_json(capsys, table, "--set", "logits.acceptance=0.6", "--seed", "2")
    assert other["digest"] != runs[0]["digest"]


def test_out_writes_every_file_whole(table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert simulate_main([table, "--plain", "--out", str(out), "--trace", str(tmp_path / "t.json")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    names = {path.name for path in out.iterdir()}
    assert names == {"report.json", "trace.json", "rounds.csv", "requests.csv", "timeline.png", "dashboard.svg"}
    assert json.loads((out / "report.json").read_text())["speedup"] == pytest.approx(600 / 272)
    assert (out / "trace.json").read_text() == (tmp_path / "t.json").read_text()
    assert (out / "timeline.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((out / "rounds.csv").open()))
    assert len(rows) == 11 + 3


def test_a_target_alone_needs_no_draft(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, table, "--set", "policy={name: target_only}")
    assert found["speculative"] is None
    assert found["baseline"]["request_latency_ms"]["mean"] == 600


def test_check_prints_the_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(PROJECT / "scenarios/orin_8295.yaml")]) == 0
    assert "x of the cap" in capsys.readouterr().out
    assert main(["check", str(PROJECT / "scenarios/target_on_orin.yaml")]) == 2
    assert "Cheapest remedies" in capsys.readouterr().err


def test_a_refused_scenario_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert simulate_main([str(PROJECT / "scenarios/target_on_orin.yaml"), "--out", str(out)]) == 2
    assert not out.exists()
    assert "1.53x" in capsys.readouterr().err


def test_ctrl_c_ends_a_run_cleanly(table: str, tmp_path: Path) -> None:
    arguments = [table, "--set", "workload.requests=100000", "--plain", "--out", str(tmp_path / "out")]
    status, _, complaint = interrupted(*arguments)
    assert status == 130
    assert "Traceback" not in complaint
    assert "interrupted" in complaint
    assert list((tmp_path / "out").iterdir()) == []


def test_a_checkpoint_that_is_missing_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, orin = tmp_path / "out", str(PROJECT / "scenarios/orin_8295.yaml")
    both = ["--set", "target.stand_in=nowhere", "--set", "draft.stand_in=nowhere/else"]
    assert simulate_main([orin, *both, "--out", str(out)]) == 2
    assert not out.exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_realtime_paces_the_run(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert simulate_main([table, "--plain", "--realtime", "0.5"]) == 0
    # 600 ms alone and 275 ms with the draft, at half a wall second a simulated one.
    assert 0.5 * (0.600 + 0.275) <= time.monotonic() - began < 10
    capsys.readouterr()


HELP = """
import sys
from hilsim.commands.main import COMMANDS, main, simulate_main
asked = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
for command, arguments in [(simulate_main, ["--help"]), *((main, one) for one in asked)]:
    try:
        command(arguments)
    except SystemExit as stop:
        assert not stop.code
assert not {'torch', 'rich', 'pydantic', 'numpy', 'yaml', 'simpy', 'shtab'} & set(sys.modules)
"""


def test_help_and_version_answer_at_once() -> None:
    """No assertion on time: the import list is what makes it fast, and that is checked."""
    done = subprocess.run([sys.executable, "-c", HELP], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--realtime" in done.stdout
    assert "usage: simulate.py " in done.stdout
    assert "  python simulate.py scenarios/orin_8295.yaml --json" in done.stdout
    assert "  python -m hilsim simulate scenarios/orin_8295.yaml --json" in done.stdout
    assert all(f"usage: python -m hilsim {name} " in done.stdout for name in COMMANDS)
    named = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {"hilsim", "python", "pydantic", *USED, *EXTRAS} <= named


def test_every_module_of_the_room_with_arguments_is_a_command() -> None:
    files = (PROJECT / "hilsim/commands").glob("*.py")
    modules = {file.stem for file in files if "\ndef add_arguments(" in file.read_text(encoding="utf-8")}
    assert modules == set(COMMANDS.values())


def test_simulate_is_also_a_command(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = run_json(capsys, table)
    assert main(["simulate", table, "--json"]) == 0
    command = json.loads(capsys.readouterr().out)
    assert {**command, "wall": None} == {**script, "wall": None}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_options_and_paths(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        main(["--completion", shell])
    script = capsys.readouterr().out
    assert not stop.value.code
    assert all(name in script for name in (*COMMANDS, "realtime", "retry-failed"))


def test_bash_completes_an_option() -> None:
    pytest.importorskip("shtab")
    done = subprocess.run([sys.executable, "-m", "hilsim", "--completion", "bash"], cwd=PROJECT, capture_output=True,
                          text=True, check=True)  # fmt: skip
    asked = 'COMP_WORDS=(hilsim simulate --real); COMP_CWORD=2; _shtab_hilsim; echo "${COMPREPLY[@]}"'
    found = subprocess.run(["bash", "-c", f"{done.stdout}\n{asked}"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "--realtime"


def test_completion_without_its_package_names_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilsim.versions.find_spec", lambda package: None)
    assert main(["--completion", "bash"]) == 2
    assert "Run pip install 'hilsim[completion]'." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        (["simualte", "x"], "Did you mean 'simulate'?", ""),
        (["acceptance", "shwo"], "Did you mean 'show'?", ""),
        (
            ["simulate", "orin_8295", "--jsn"],
            "simulate: error: unrecognized arguments: --jsn. Did you mean '--json'",
            "",
        ),
        (["simulate", "orin_8295", "--largest-context"], "--largest-context is of check.", "Did you mean"),
        (["simulate", "orin_8295", "--zebra", "more"], "unrecognized arguments: --zebra more.", "Did you mean"),
    ],
)
def test_what_a_command_does_not_take_is_told_of_that_command(
    line: list[str], wanted: str, unwanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert wanted in message
    assert not unwanted or unwanted not in message
