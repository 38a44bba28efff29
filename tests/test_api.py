"""The API as a script or a notebook meets it: its reference, its answers, its errors, and how little it imports."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import hilsim
from hilsim import engine, policy
from hilsim.commands.main import simulate_main
from hilsim.places import CODE as PROJECT
from hilsim.show.frames import as_frame
from hilsim.show.table import Table
from tests.scenes import table_setup

PAGE = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SECTIONS = dict(re.findall(r"### `hilsim\.(\w+)`\n\n(.*?)(?=\n##|\Z)", PAGE, flags=re.DOTALL))
PRINTED = re.compile(r"^\s*print\(.*\)  # (.*)$", flags=re.MULTILINE)


@pytest.fixture
def table(tmp_path: Path) -> str:
    table_setup(tmp_path)
    return str(tmp_path / "table.yaml")


def records(table: object) -> list[dict]:
    """A table as records, with pandas and without."""
    return table if isinstance(table, list) else table.to_dict("records")


def test_the_examples_of_the_reference_print_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "docs/api.md", "exec"), names)
        assert printed.getvalue().splitlines() == PRINTED.findall(block)


def test_the_reference_has_every_public_name_and_no_other() -> None:
    assert set(SECTIONS) == set(hilsim.__all__)
    assert set(hilsim.__all__) <= set(dir(hilsim))
    for module in (policy, engine):
        listed = re.findall(r"`(\w+)`", SECTIONS[module.__name__.removeprefix("hilsim.")])
        assert sorted(listed) == sorted(module.__all__)
    functions = [name for name in hilsim.__all__ if inspect.isfunction(getattr(hilsim, name))]
    examples = "\n".join(BLOCKS)
    assert all(f"hilsim.{name}(" in examples for name in functions)


@pytest.mark.parametrize("module", [hilsim, policy, engine], ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is(module: object) -> None:
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
            assert inspect.getdoc(thing), name
    for name in ("load", "check", "simulate", "evaluate", "compare", "sweep", "explore", "validate", "calibrate"):
        assert re.search(r"Raises\s+`", inspect.getdoc(getattr(hilsim, name))), name


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = hilsim.simulat


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import hilsim; dir(hilsim)", "typing numpy simpy pydantic rich torch scipy matplotlib pandas numba"),
        ("import hilsim; hilsim.engine.Subprocess", "numpy simpy pydantic yaml rich torch scipy"),
        ("import hilsim; hilsim.load('paper_table')", "rich torch scipy matplotlib pandas numba"),
        ("import hilsim; print(hilsim.simulate(hilsim.load('paper_table', {'workload.requests': 1})))",
         "torch scipy matplotlib pandas numba"),
    ],
    ids=["import", "engine", "load", "simulate"],
)  # fmt: skip
def test_what_is_not_used_is_not_imported(code: str, absent: str) -> None:
    check = f"import sys; {code}; found = set({absent.split()}) & set(sys.modules); assert not found, found"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {check}"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_overrides_are_any_values_that_yaml_can_say(table: str) -> None:
    numpy = pytest.importorskip("numpy")
    given = {
        "policy": {"name": "sync", "draft_tokens": numpy.int64(3)},
        "context_tokens": 1500,
        "link": Path(table).parent / "link.yaml",
        "target.widths": None,
        "logits.acceptance": 0.5,
    }
    setup = hilsim.load(Path(table), given)
    assert setup.scenario.policy.draft_tokens == 3
    assert setup.scenario.context_tokens == 1500
    assert setup.overrides[1] == "context_tokens=1500"
    assert "acceptance=0.5" in repr(setup)
    with pytest.raises(hilsim.InputError) as caught:
        hilsim.load(table, {"policy": {"draft_tokens": object}})
    assert caught.value.faults[0].place == "policy.draft_tokens"


def test_a_run_is_what_the_command_reports(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    run = hilsim.simulate(hilsim.load(table, {"logits.acceptance": 0.6}))
    streams = capsys.readouterr()
    assert streams.out == streams.err == ""
    assert simulate_main([table, "--set", "logits.acceptance=0.6", "--out", str(tmp_path / "theirs"), "--plain"]) == 0
    run.save(tmp_path / "ours")
    for name in ("rounds.csv", "requests.csv", "trace.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    assert run.speedup == run.report["speedup"]
    assert str(run) in capsys.readouterr().out
    requests = records(run.requests)
    alone, ours = (sum(row["request_latency_ms"] for row in requests if row["run"] == one) for one in
                   ("target_only", "sync"))  # fmt: skip
    assert alone / ours == pytest.approx(run.speedup)
    assert {row["kind"] for row in records(run.spans)} >= {"prefill", "draft", "verify", "drafts", "verdict"}
    assert "speedup" in repr(run)
    assert run._repr_html_().startswith("<table>")


def small_chip(folder: Path) -> str:
    """The target chip of the tests with less memory than the model needs."""
    text = (PROJECT / "chips" / "paper-target.yaml").read_text(encoding="utf-8")
    (folder / "small.yaml").write_text(text.replace("name: paper-target", "name: small").replace("1024", "0.006"))
    return "small.yaml"


def test_a_check_shows_the_ledger_and_what_would_help(table: str, tmp_path: Path) -> None:
    verdict = hilsim.check(hilsim.load(table), largest_context=True)
    assert verdict.ok
    assert verdict.longest.tokens > 2000
    assert "can run" in repr(verdict)
    assert "GiB" in str(verdict)
    full = hilsim.check(hilsim.load(table, {"target.chip": small_chip(tmp_path)}))
    assert full.compiles
    assert not full.fits
    assert "target.chip=paper-draft" in full.facts["would help"]
    assert "too large" in str(full)
    assert "does not fit" in repr(full)
    with pytest.raises(hilsim.PlacementError):
        full.require()


def test_a_sweep_goes_on_where_it_ended_and_keeps_what_is_refused(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, store = hilsim.load(table, {"policy.draft_tokens": 7}), tmp_path / "sweep.sqlite"
    axes = {"policy.draft_tokens": range(1, 3), "context_tokens": [10, 2000]}
    first = records(hilsim.sweep(setup, axes, store=store))
    assert [row["state"] for row in first] == ["refused", "done", "refused", "done"]
    assert all(row["reason"] for row in first if row["state"] == "refused")
    assert first[1]["speedup"] == hilsim.evaluate(hilsim.load(table, {"policy.draft_tokens": 1}))["speedup"]
    monkeypatch.setattr("hilsim.study.workers.ThisProcess.run", lambda workers, tasks: pytest.fail("it ran again"))
    assert str(hilsim.sweep(setup, axes, store=store)) == str(hilsim.sweep(setup, axes, store=store))
    with pytest.raises(hilsim.InputError, match="other runs"):
        hilsim.sweep(hilsim.load(table, {"seed": 2}), axes, store=store)


def test_worker_processes_do_not_run_the_callers_script_again(table: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import hilsim\nprint('begun')\ntable = hilsim.sweep(hilsim.load({table!r}), "
        "{'policy.draft_tokens': [1, 2]}, workers=2)\nprint(len(table))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(PROJECT), "PATH": ""})  # fmt: skip
    assert done.stdout == "begun\n2\n", done.stderr


def test_setups_side_by_side_with_the_reason_of_one_that_cannot_run(table: str, tmp_path: Path) -> None:
    good, bad = hilsim.load(table), hilsim.load(table, {"target.chip": small_chip(tmp_path)})
    rows = records(hilsim.compare({"good": good, "bad": bad}, metrics=["speedup"]))
    assert [row["state"] for row in rows] == ["done", "refused"]
    assert "too large" in rows[1]["reason"]
    assert records(hilsim.compare([good]))[0]["setup"] == "table"


def test_faults_name_arguments_and_not_options(table: str) -> None:
    setup = hilsim.load(table)
    for ask in (
        lambda: hilsim.simulate(setup, shadow=True),
        lambda: hilsim.explore(setup, limits={"memory_gb": 12}),
        lambda: hilsim.explore(setup, limits={"memory_gib": "12"}),
        lambda: hilsim.compare([setup], metrics=["speed"]),
        lambda: hilsim.sweep(setup, {"policy.draft_tokns": [1]}),
        lambda: hilsim.validate(chip="orin-nx-16gb"),
        lambda: hilsim.calibrate(),
    ):
        with pytest.raises(hilsim.HilsimError) as caught:
            ask()
        assert caught.value.faults
        assert not any(part.startswith("--") for fault in caught.value.faults for part in (fault.file, fault.place))


def test_a_table_without_pandas_is_a_list_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Table(("name", "length_ms"), [("one", "1.500000"), ("two", None)])
    monkeypatch.setattr("hilsim.show.frames.find_spec", lambda name: None)
    found = as_frame(made)
    assert isinstance(found, hilsim.Records)
    assert found == [{"name": "one", "length_ms": 1.5}, {"name": "two", "length_ms": None}]
    assert "length_ms" in repr(found)
    assert "<table>" in found._repr_html_()
    assert "5 more rows" in repr(hilsim.Records(found * 12 + found[:1]))


@pytest.mark.skipif(find_spec("pandas") is None, reason="pandas is not installed")
def test_a_table_with_pandas_is_a_data_frame() -> None:
    found = as_frame(Table(("name", "length_ms"), [("one", "1.500000")]))
    assert list(found.columns) == ["name", "length_ms"]
    assert found["length_ms"].sum() == 1.5
