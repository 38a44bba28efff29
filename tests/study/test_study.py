"""Studies: their points, what a study file may say, what comes out, and what is not run twice."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hilsim.commands import study
from hilsim.commands.main import main, parse
from hilsim.describe.study import RangeAxis
from hilsim.describe.study_load import load_study
from hilsim.errors import InputError
from hilsim.measure.measures import HEADLINE, MEASURES
from hilsim.places import CODE as PROJECT
from hilsim.runs import evaluate as evaluating
from hilsim.runs.evaluate import evaluate, load_variant
from hilsim.show.results import as_exact
from hilsim.study.execution import first_goal
from hilsim.study.points import Column, Grid, label_text
from hilsim.study.spread import spread
from tests.studies import AXES, ran, rows, write_study

pytestmark = pytest.mark.usefixtures("at_home")


def column(number: int, size: int) -> Column:
    values = tuple((value,) for value in range(size))
    return Column(f"axis {number}", (f"key.{number}",), values, tuple(range(size)), tuple("d" * size))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 10**6))
def test_every_combination_is_there_once_and_always_the_same(sizes: list[int], repeats: int, seed: int) -> None:
    grid = Grid("ground", tuple(column(number, size) for number, size in enumerate(sizes)), repeats, seed)
    points = list(grid.points())
    assert [point.index for point in points] == list(range(len(grid)))
    assert len({point.key for point in points}) == len({(point.places, point.seed) for point in points}) == len(grid)
    assert points == list(grid.points())
    assert [point for point in points if point.places == points[-1].places] == grid.points_of(points[-1].places)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_points_keep_their_keys_when_a_study_grows(sizes: list[int], chance: random.Random) -> None:
    columns = [column(number, size) for number, size in enumerate(sizes)]
    keys = {point.key for point in Grid("ground", tuple(columns), 2, 1).points()}
    longer = [column(number, size + chance.randint(0, 2)) for number, size in enumerate(sizes)]
    chance.shuffle(longer)
    assert keys <= {point.key for point in Grid("ground", tuple(longer), 3, 1).points()}
    assert not keys & {point.key for point in Grid("another", tuple(columns), 2, 1).points()}


@given(st.integers(-100, 100), st.integers(1, 1000), st.integers(2, 60))
def test_ranges_hold_their_ends_and_stay_whole_where_they_can(start: int, length: int, steps: int) -> None:
    values = [row[0] for row in RangeAxis.model_validate({"key": "k", "from": start, "to": start + length,
                                                          "steps": steps}).rows]  # fmt: skip
    assert (values[0], values[-1], len(values)) == (start, start + length, steps)
    assert values == sorted(set(values))
    assert all(type(value) is (int if length % (steps - 1) == 0 else float) for value in values)


def test_ranges_by_their_text() -> None:
    def values(**given: Any) -> list[object]:
        return [row[0] for row in RangeAxis.model_validate({"key": "k", **given}).rows]

    assert values(**{"from": 1, "to": 4}) == [1, 2, 3, 4]
    assert values(**{"from": 1, "to": 64, "steps": 7, "scale": "log"}) == [1, 2, 4, 8, 16, 32, 64]
    assert values(**{"from": 0.3, "to": 0.9, "steps": 7}) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert values(**{"from": 0.001, "to": 1.0, "steps": 4, "scale": "log"}) == [0.001, 0.01, 0.1, 1.0]


def test_intervals_are_student_s() -> None:
    for count, table in ((2, 6.314), (3, 2.920), (8, 1.895), (31, 1.697)):  # t of 90 %, two-sided, from a printed table
        numbers = [float(number**2) for number in range(count)]
        found = spread(numbers)
        assert found is not None
        assert found.half_width == pytest.approx(table * stats.sem(numbers), rel=3e-4)
    assert spread([]) is None
    assert as_exact(2.4381, 0.0123) == "2.438 ± 0.012"
    assert as_exact(1306.2, 38.4) == "1,306 ± 38"


BAD_AXES: list[tuple[dict[str, Any], str, str]] = [
    ({"key": "policy.draft_token", "values": [1]}, "the key 'policy.draft_token', which the scenario does not have",
     "Did you mean 'draft_tokens'?"),
    ({"key": "polcy.name", "values": [1]}, "the key 'polcy.name'", "Did you mean 'policy'?"),
    ({"key": "seed", "values": []}, "values (line", "found a list of 0"),
    ({"key": "context_tokens", "from": 900, "to": 300, "steps": 3}, "from 900 to 300", "a lower end below"),
    ({"key": "logits.acceptance", "from": 0.1, "to": 0.3}, "no steps", "the number of values"),
    ({"key": "logits.acceptance", "from": -1, "to": 1, "steps": 3, "scale": "log"}, "logarithmic range from -1", ""),
    ({"key": "workload.requests", "from": 1, "to": 5, "step": 2}, "an unknown key", "Did you mean 'steps'?"),
    ({"key": "link", "values": ["ideel"]}, "'ideel'", "Did you mean 'ideal'?"),
    ({"key": "logits.acceptance", "values": [0.5, 1.5]}, "acceptance outside 0 to 1", ""),
    ({"key": "workload.pause_ms", "values": [1, 1]}, "the value 1 twice", ""),
    ({"linked": {"draft.model": ["paper-draft"], "draft.chip": ["paper-draft", "paper-target"]}},
     "draft.model 1, draft.chip 2", "as many values for every linked key"),
    ({"linked": {"draft.model": ["paper-draft"]}, "names": ["a", "b"]}, "2 names", ""),
    ({"values": [1]}, "key", "Add it."),
    ({"key": "sampling.temperature", "values": ["hot"]}, "'hot'", "a number"),
]  # fmt: skip


def test_all_faults_of_a_study_are_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = [{"key": "payload", "values": ["token_ids"]}, {"key": "payload", "values": ["one_hot"]}]
    changes = {
        "set": {},
        "axes": [axis for axis, *_ in BAD_AXES] + twice,
        "metrics": ["speedup", "spedup", "request_latency_ms"],
        "repeats": 0,
        "search": {"objectives": [{"metric": "energy"}], "sampler": "anneal"},
    }
    file = write_study(tmp_path, **changes)
    assert main(["study", str(file), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    for place, (_, found, remedy) in enumerate(BAD_AXES):
        lines = [line for line in told.splitlines() if f"axes[{place}]" in line.partition("found")[0]]
        assert len(lines) == 1, (place, lines)
        assert found in lines[0]
        assert remedy in lines[0]
    for words in (
        "the key 'payload', which axes[14] has", "Did you mean 'speedup'?", "Did you mean 'request_latency_ms.mean'?",
        "repeats (line 1): found 0", "the metric 'energy'", "sampler (line 1): found 'anneal'",
    ):  # fmt: skip
        assert words in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"scenario": "tabel.yaml"}, [], "'tabel.yaml'; expected a file beside the study or in hilsim"),
        ({"set": {"policy.nam": "sync"}}, [], "set.policy.nam (line 1): found an unknown key"),
        ({"name": "a/b"}, [], "name"),
        ({}, ["--set", "logits.acceptance=0.4"], "logits.acceptance, which axes[0] varies"),
        ({}, ["--set", "seed=x"], "seed"),
        ({"axes": [{"key": "seed", "values": [1]}], "repeats": 2}, [], "the seed, which `repeats` change as well"),
        ({"axes": [{"key": "seed", "values": [1], "name": "state"}]}, [], "a column of our own"),
        ({"most_points": 27}, [], "28 points (28 combinations, each with 1 seed); expected at most 27"),
        ({}, ["--csv", "."], "a folder"),
        ({}, ["--plot", "a.gif"], "a name that ends in"),
        ({"search": {"objectives": [{"metric": "link_busy"}]}}, [], "no goal for link_busy"),
        ({}, ["--cluster", "localhost"], "no address; expected tcp://HOST:PORT"),
    ],
)
def test_bad_input_is_reported_before_anything_runs(
    changes: dict[str, Any], arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, **changes)
    assert main(["study", str(file), "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    assert ran(tmp_path) == 0


@pytest.mark.parametrize("text", ["", "[1]", "axes: 3", "name: [", "axes: [3, {}, {linked: 3}]\nset: 4\nmetrics: x"])
def test_any_text_gets_an_answer(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path)
    file.write_text(text)
    assert main(["study", str(file)]) == 2
    assert capsys.readouterr().err.startswith(str(file))


def test_very_many_points_need_a_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path, repeats=100)
    assert main(["study", str(file), "--out", str(tmp_path), "--workers", "1"]) == 2
    told = capsys.readouterr().err
    assert "found 2800 points to run, going by the first ones about" in told
    assert "--yes" in told
    assert ran(tmp_path) == 2


def run(file: Path, out: Path, *given: str) -> tuple[int, list[dict[str, str]]]:
    """A study in this process, and its rows."""
    out.mkdir(exist_ok=True)
    table = out / "points.csv"
    arguments = ["study", str(file), "--out", str(out), "--workers", "1", "--csv", str(table), *given]
    return study.run(parse(arguments)), rows(table)


def test_points_are_what_single_runs_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = [
        {"linked": {"target.timer.decode": [50, 70], "draft.timer.decode": [5, 9]}, "names": ["quick", "slow"]},
        {"key": "policy", "values": [{"name": "target_only"}, {"name": "sync", "draft_tokens": 3}]},
    ]
    file = write_study(tmp_path, axes=axes, repeats=2, metrics=list(MEASURES))
    status, found = run(file, tmp_path / "out")
    assert status == 0
    assert [row["target.timer.decode, draft.timer.decode"] for row in found] == ["quick"] * 4 + ["slow"] * 4
    assert [row["policy"] for row in found][1:3] == ["target_only", "sync, draft_tokens 3"]
    assert [row["seed"] for row in found] == ["1", "2"] * 4
    assert {row["speedup"] for row in found if "target_only" in row["policy"]} == {"1.0"}
    assert {row["draft_acceptance_rate"] for row in found if "target_only" in row["policy"]} == {""}
    arguments = ["target.timer.decode=70", "draft.timer.decode=9", "policy={name: sync, draft_tokens: 3}", "seed=2"]
    expected = evaluate(load_variant(tmp_path / "table.yaml", arguments), every=True)
    assert isinstance(expected, dict)
    assert {name: found[-1][name] for name in MEASURES} == {
        name: "" if value is None else json.dumps(value) for name, value in expected.items()
    }
    told = " ".join(capsys.readouterr().out.split())
    assert "8 points: 8 done." in told
    # Targets of two speeds: each speedup is over another target alone, so the quickest point is the best one.
    assert "Each speedup is over its own target alone" in told
    assert "Best request_latency_ms.mean" in told


def test_every_measure_has_a_unit_and_a_number(tmp_path: Path) -> None:
    write_study(tmp_path)
    found = evaluate(load_variant(tmp_path / "table.yaml", []), every=True)
    assert isinstance(found, dict)
    spoken = [name for name, value in found.items() if value is None]
    assert spoken == list(MEASURES)[-len(spoken) :]  # of passengers, other work and heat, which this scenario has not
    assert spoken[0] == "first_audio_ms.mean"
    assert set(HEADLINE) <= set(MEASURES)
    assert all(measure.unit and measure.name == name for name, measure in MEASURES.items())


def test_what_cannot_run_is_stored_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of these values is sound alone: only together with others do they make no scenario, or no room."""
    axes = [
        {"key": "payload", "values": ["token_ids", "one_hot"]},
        {"key": "accept", "values": ["greedy", "gumbel"]},
        {"key": "target.model", "values": ["paper-target", "llama-3.1-8b"]},
    ]
    file = write_study(tmp_path, axes=axes, set={})
    status, found = run(file, tmp_path / "out")
    assert status == 0
    refused = [row for row in found if row["state"] == "refused"]
    assert 0 < len(refused) < len(found)
    assert all(row["reason"] and not row["speedup"] for row in refused)
    told = " ".join(capsys.readouterr().out.split())
    assert f"8 points: {8 - len(refused)} done, {len(refused)} refused." in told
    assert "1 refused:" in told or "2 refused:" in told
    assert str(tmp_path) not in refused[0]["reason"]


def test_a_bug_is_a_failed_point_and_not_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, file = evaluating.measured, write_study(tmp_path)

    def broken(setup: Any, *given: Any) -> Any:
        return 1 / 0 if setup.scenario.logits.acceptance == 0.4 else real(setup, *given)

    monkeypatch.setattr(evaluating, "measured", broken)
    status, found = run(file, tmp_path / "out")
    assert status == 1
    assert {row["acceptance"] for row in found if row["state"] == "failed"} == {"0.4"}
    told = " ".join(capsys.readouterr().out.split())
    assert "24 done, 4 failed." in told
    assert "4 failed: ZeroDivisionError: division by zero (test_study.py:" in told
    monkeypatch.undo()
    assert run(file, tmp_path / "out")[0] == 1  # what is stored is stored
    status, found = run(file, tmp_path / "out", "--retry-failed")
    assert (status, {row["state"] for row in found}, ran(tmp_path)) == (0, {"done"}, 32)


def test_a_longer_study_runs_what_is_new(tmp_path: Path) -> None:
    file = write_study(tmp_path, axes=[AXES[0]])
    _, before = run(file, tmp_path / "out")
    assert ran(tmp_path) == 7
    finer = {**AXES[0], "steps": 13}
    write_study(tmp_path, axes=[finer], repeats=2, metrics=["energy_j", "speedup"])  # metrics are all kept
    _, after = run(file, tmp_path / "out")
    assert ran(tmp_path) == 26
    assert [row["speedup"] for row in before] == [row["speedup"] for row in after[::4]]
    run(file, tmp_path / "out")
    assert ran(tmp_path) == 26


def test_another_scenario_is_another_study(tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    run(file, out)
    with pytest.raises(InputError, match=r"points with scenario .*; expected scenario .*Use another --out"):
        run(file, out, "--set", "context_tokens=1000")
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "\n# another policy\n")
    with pytest.raises(InputError, match="points with scenario"):
        run(file, out)
    with sqlite3.connect(out / "study.sqlite") as base:
        (text,) = base.execute("select value from study where name='ground'").fetchone()
        base.execute("update study set value=? where name='ground'", [text.replace('"hilsim": "', '"hilsim": "0.')])
    write_study(tmp_path)
    with pytest.raises(InputError, match=r"points with hilsim 0\.\d"):
        run(file, out)


@pytest.mark.parametrize("harm", ["other", "text", "cut", "holes"])
def test_a_store_that_is_none_is_reported(harm: str, tmp_path: Path) -> None:
    file, out = write_study(tmp_path), tmp_path / "out"
    run(file, out)
    store = out / "study.sqlite"
    data = store.read_bytes()
    if harm == "other":
        store.unlink()
        sqlite3.connect(store).execute("create table t (a)").connection.close()
    else:
        holes = data[:8192] + b"\xff" * 4096 + data[12288:]
        store.write_bytes(
            {"text": b"this is no database, but long enough " * 9, "cut": data[:-5000], "holes": holes}[harm]
        )
    with pytest.raises(InputError, match=r"study\.sqlite"):
        run(file, out)


def test_parquet_holds_what_the_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    axes = [AXES[0], {"key": "payload", "values": ["token_ids", "one_hot"]}, {"key": "target.widths", "values": [None]}]
    file = write_study(tmp_path, axes=axes, repeats=2)
    _, found = run(file, tmp_path / "out", "--parquet", str(tmp_path / "points.parquet"))
    table = parquet.read_table(tmp_path / "points.parquet")
    assert [
        {name: "" if value is None else label_text(value) for name, value in row.items()} for row in table.to_pylist()
    ] == found
    types = dict(zip(table.schema.names, map(str, table.schema.types), strict=True))
    assert (types["point"], types["acceptance"], types["payload"], types["speedup"]) == (
        "int64", "double", "string", "double",
    )  # fmt: skip


@pytest.mark.parametrize("axes", [AXES, AXES[:1], [AXES[0], {"key": "workload.pause_ms", "from": 0, "to": 6}],
                                  [{"key": "payload", "values": ["token_ids", "one_hot"]}]])  # fmt: skip
def test_a_study_is_drawn(axes: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = write_study(tmp_path, axes=axes, repeats=1 if len(axes) > 1 else 2)
    run(file, tmp_path / "out", "--plot", str(tmp_path / "a.svg"))
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("file", sorted((PROJECT / "scenarios/studies").glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_studies_load(file: Path) -> None:
    from hilsim.describe.study_load import load_study

    described = load_study(file, [], list(MEASURES))
    assert described.study.name == file.stem
    assert all(digest for digests in described.choices for digest in digests)


def test_points_of_one_target_are_ranked_by_speedup_and_searches_by_the_request_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the policy varies the target alone is the same, and both have the same best point."""
    axes = [{"key": "policy", "values": [{"name": "sync", "draft_tokens": count} for count in (1, 2, 4)]}]
    file = write_study(tmp_path, axes=axes, repeats=1, metrics=["speedup", "request_latency_ms.mean"])
    status, found = run(file, tmp_path / "out")
    assert status == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Best speedup" in told
    assert "its own target alone" not in told
    quickest = min(found, key=lambda row: float(row["request_latency_ms.mean"]))
    assert quickest == max(found, key=lambda row: float(row["speedup"]))
    study = load_study(file, [], list(MEASURES)).study
    assert first_goal(study) == "request_latency_ms.mean"
    assert first_goal(study.model_copy(update={"metrics": ("energy_j",)})) == "energy_j"


def test_a_scenario_in_place_of_a_study_is_one_fault() -> None:
    with pytest.raises(InputError, match=r"found a scenario, not a study.*Run it by `hilsim simulate") as caught:
        load_study(PROJECT / "scenarios" / "trip.yaml", (), [])
    assert len(caught.value.faults) == 1
