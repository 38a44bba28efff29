"""The table of published speculation: by hand, as documents, and the page that shows it."""

from __future__ import annotations

import json
from csv import DictReader
from dataclasses import replace
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.fidelity.speculation import SpeedUp, speed_up
from hilsim.fidelity.speculation_table import LATER, SpeculationTable, speculation_table
from hilsim.places import CODE as PROJECT
from tests.documents import document_of
from tests.fidelity.test_fidelity import FREE, csv_file, speculation, step_s
from tests.tiny import chip, curve, figure, precision, unit

PAGE = PROJECT / "docs" / "fidelity" / "README.md"


def round_of(note: str, value: float, metric: str = "round_ms") -> SpeedUp:
    case = speculation("tiny + lookahead", note, value)
    found = speed_up(replace(case, measurement=replace(case.measurement, metric=metric)), FREE)
    assert found is not None
    return found


def test_a_round_whose_time_alone_is_published_by_hand() -> None:
    """40 s at a plain 0.2 tokens/s are 8 plain steps; so many tokens break even, and no speed-up is published."""
    found = round_of("lookahead, 12 positions; vanilla 0.2", 40_000)
    assert found.published_round_steps == pytest.approx(8)
    assert found.verify_s == pytest.approx(step_s(12))
    assert found.draft_s == 0  # the window's rows are verified, and nothing is drafted
    assert found.round_steps == pytest.approx(step_s(12) / step_s(1))
    assert found.round_error == pytest.approx(found.round_steps / 8 - 1)
    assert (found.published, found.predicted, found.needed, found.same_sign) == (None, None, None, None)


def test_lookahead_verifies_the_graph_of_genie_where_a_row_does_not_say_how_many() -> None:
    found = round_of("lookahead; vanilla 0.2; tokens per verify step 1.5", 0.3, "tok_s")
    assert (found.method.name, found.method.positions) == ("lookahead", 32)
    assert found.published == pytest.approx(1.5)
    assert found.predicted == pytest.approx(1.5 * step_s(1) / step_s(32))


def test_a_verify_on_fixed_graphs_runs_a_graph_of_its_own_width() -> None:
    """Where arithmetic takes all the time, 12 rows take 12 / 128 of the graph of 128 that prompts run."""
    fixed = unit((1, 8, 128), precision(memory_rate=figure(1e9, "B/s"), operation_rates=curve((1, 1e6))))
    took = []
    for positions in (12, 128):
        case = speculation("tiny", f"lookahead, {positions} positions; vanilla 0.2")
        found = speed_up(replace(case, chip=chip({"u": fixed})), fixed)
        assert found is not None
        took.append(found.verify_s)
    assert took[0] / took[1] == pytest.approx(12 / 128)


def row(errors: float | None, batch: int, published: float | None = 1.5, tokens: float | None = 3.0) -> SpeedUp:
    """A row whose round is predicted at 2 plain steps and published so that it errs by this much."""
    base = round_of("lookahead; vanilla 0.2", 40_000)
    case = replace(base.case, measurement=replace(base.case.measurement, batch=batch))
    rounds = None if errors is None else 2 / (1 + errors)
    return replace(
        base, case=case, published=published, published_round_steps=rounds, tokens_per_step=tokens, one_row_s=1.0,
        verify_s=2.0,
    )  # fmt: skip


def test_the_summary_by_hand() -> None:
    """Errors 10, 30 and 20 % alone, -50 % of eight; signs: 3 tokens over 2 steps win, which three rows of four did."""
    rows = [row(0.1, 1), row(0.3, 1), row(0.2, 1, published=0.8), row(-0.5, 8), row(None, 1, tokens=None)]
    table = SpeculationTable(rows, [])
    found = table.round_errors()
    assert list(found) == ["all", "batch 1", "batch 8"]
    assert (found["batch 1"].rows, found["batch 1"].median, found["batch 1"].worst) == (
        3,
        pytest.approx(0.2),
        pytest.approx(0.3),
    )
    assert found["all"].median == pytest.approx(0.25)
    assert found["batch 8"].median == pytest.approx(0.5)
    assert (sum(table.signs()), len(table.signs())) == (3, 4)


def test_rows_added_after_the_constants_are_blind() -> None:
    """By their ids, of the shipped file; a user's own rows always are."""
    shipped = speculation_table().rows
    first = shipped[0]
    later = replace(first, case=replace(first.case, measurement=replace(first.case.measurement, case_id=f"{LATER}_1")))
    assert [one.case.measurement.case_id for one in SpeculationTable([first, later], []).blind().rows] == [f"{LATER}_1"]
    assert len(SpeculationTable([row(0.1, 1)], []).blind().rows) == 1


def test_every_published_row_of_speculation_is_in_the_table_or_says_why_not() -> None:
    table = speculation_table()
    text = (PROJECT / "chips/measurements/measured.csv").read_text(encoding="utf-8")
    with (PROJECT / "chips/measurements/measured.csv").open(newline="", encoding="utf-8") as file:
        wanted = {line["case_id"] for line in DictReader(file) if line["kind"] == "spec_decode"}
    found = [one.case.measurement.case_id for one in table.rows] + [one.measurement.case_id for one in table.left_out]
    assert sorted(found) == sorted(wanted)
    assert len(found) == text.count(",spec_decode,") >= 58
    assert all(one.reason for one in table.left_out)


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Its first table. After a change of constants or rows run the command, copy what it prints, and say what moved."""
    assert main(["validate", "--speculation"]) == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.strip().splitlines())
    block = PAGE.read_text(encoding="utf-8").split("```")[1].strip()
    command, _, shown = block.partition("\n")
    assert command == "$ python -m hilsim validate --speculation"
    assert shown == printed


def test_json_and_csv_have_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    assert main(["validate", "--speculation", "--json", "--table", str(table)]) == 0
    found = json.loads(capsys.readouterr().out)
    with table.open(newline="", encoding="utf-8") as file:
        lines = list(DictReader(file))
    assert [line["case"] for line in lines] == [one["case"] for one in (*found["rows"], *found["left_out"])]
    for line, one in zip(lines, found["rows"], strict=False):
        assert float(line["round_steps"]) == pytest.approx(one["round_steps"], rel=1e-3)
        assert line["reason"] == ""
    assert lines[-1]["reason"] == found["left_out"][-1]["reason"]
    rounds = [abs(one["round_error"]) for one in found["rows"] if one["round_error"] is not None]
    assert found["rounds"]["all"]["rows"] == len(rounds)
    assert found["rounds"]["all"]["worst"] == pytest.approx(max(rounds))
    assert found["signs"]["of"] == sum(one["same_sign"] is not None for one in found["rows"])
    assert found["blind"]["rows"] == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--speculation", "--plot", "x.png"], "--speculation: found --plot beside it"),
        (["--speculation", "--leave-out"], "--speculation: found --leave-out beside it"),
        (["--speculation", "--summary", "--json"], "--summary: found --json beside it"),
        (["--table", "x.csv"], "--table: found no --speculation beside it"),
        (["--speculation", "--table", "."], "--table"),
        (["--speculation", "--chip", "sa8295p"], "--chip: found no file whose rows it names"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["validate", *options]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert not printed.out


def test_a_file_of_ones_own_is_compared_and_one_without_speculation_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "plain").mkdir()
    note = "MTP 3 drafts; tokens per verify step 2.5; vanilla 40"
    own = csv_file(tmp_path / "own", {}, {"kind": "spec_decode", "note": note, "case_id": "mine"})
    assert main(["validate", "--speculation", "--csv", str(own), "--json"]) == 0
    found = document_of("validate --speculation --json", capsys.readouterr().out)
    assert [(one["case"], one["blind"]) for one in found["rows"]] == [("mine", True)]
    assert main(["validate", "--speculation", "--csv", str(csv_file(tmp_path / "plain", {}))]) == 2
    assert "no row of kind spec_decode" in capsys.readouterr().err
