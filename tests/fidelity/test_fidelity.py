"""Predicted against measured: the shipped constants' errors, what leaving out leaves out, speculation on paper."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import pytest

from hilsim.commands.main import main
from hilsim.comparison import summary
from hilsim.describe.figure import Figure
from hilsim.describe.figures import figures
from hilsim.fidelity.calibrate import calibrate_family
from hilsim.fidelity.cases import Case, resolve
from hilsim.fidelity.from_file import families, fitting
from hilsim.fidelity.kept_errors import kept_errors
from hilsim.fidelity.measurements import SHIPPED, read_measurements
from hilsim.fidelity.ratios import batch_ratios
from hilsim.fidelity.speculation import SpeedUp, speed_up, speed_ups
from hilsim.fidelity.validate import as_csv, compared, fitted_without, without_rows
from tests.benches import DECODE, ORIN, PROMPT, TRUE, made, times
from tests.tiny import chip, csv_file, figure, measured, member, model, precision, unit

SECOND = chip({"u": member(peak_operation_rate=figure(80, "TOPS"))}, name="second")


@pytest.fixture(scope="module")
def basis() -> list[Case]:
    """The shipped measurements that constants are fitted to."""
    cases, _, faults = resolve(read_measurements(SHIPPED))
    assert faults == []
    return fitting(cases)


@pytest.mark.parametrize(
    ("label", "most"),
    [
        ("NVIDIA Orin decode", 0.10),
        ("NVIDIA Orin prefill", 0.12),
        ("NVIDIA Thor decode", 0.10),
        ("NVIDIA Thor prefill", 0.20),
        ("Qualcomm automotive decode", 0.15),
        ("Qualcomm automotive prefill", 0.20),
    ],
)
def test_the_shipped_constants_explain_what_they_were_fitted_to(label: str, most: float, basis: list[Case]) -> None:
    known = families()
    inside = [case for case in basis if case.label == label]
    assert len(inside) >= 4
    assert fmean(abs(case.seconds(case.unit(known)) / case.measured - 1) for case in inside) < most


def fitted_again(name: str, basis: list[Case]) -> None:
    """The constants of a shipped file are those that `calibrate --family` makes of the shipped measurements."""
    shipped = families()[name]
    found = calibrate_family(shipped, basis, "measured.csv")
    now = figures(shipped)
    for path, constant in found.figures.items():
        written = now[path]
        assert isinstance(written, Figure)
        assert constant.value == pytest.approx(written.value, rel=0.02), path
        assert (written.kind, written.source) == (constant.kind, constant.source)
    assert found.residuals == shipped.residuals


@pytest.mark.parametrize("name", ["orin-gpu", "blackwell-gpu"])
def test_the_shipped_gpus_are_what_calibrate_makes_of_the_shipped_measurements(name: str, basis: list[Case]) -> None:
    fitted_again(name, basis)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hexagon-v68", "hexagon-v73", "hexagon-v75"])
def test_the_shipped_hexagons_are_what_calibrate_makes_of_the_shipped_measurements(
    name: str, basis: list[Case]
) -> None:
    fitted_again(name, basis)


@pytest.mark.parametrize("name", ["blackwell-gpu", "hexagon-v68", "hexagon-v73", "hexagon-v75", "orin-gpu"])
def test_a_family_says_which_chips_took_part_in_its_fit(name: str, basis: list[Case]) -> None:
    assert set(families()[name].measured_on) == {case.chip.name for case in basis if case.family == name}


def two_devices(noise: float = 0.03) -> list[Case]:
    """Two models, decoded and read, on two chips of one silicon."""
    return made(
        [ORIN, SECOND], noise=noise, models=["llama-3.2-1b", "llama-3.2-3b", "qwen3-8b"], kinds=[DECODE, PROMPT]
    )


def test_three_columns_are_the_shipped_constants_and_two_fits_without_the_row() -> None:
    """In-sample by the constants given; the others by fits to what is kept, so within the noise of 3 % and a prior."""
    cases, known = two_devices(), {"silicon": TRUE}
    told: list[str] = []
    rows = compared(cases, known, fitted_without(cases, known, cases, told.append))
    assert [row.case for row in rows] == cases
    for row in rows:
        assert row.predicted[0] == row.case.seconds(row.case.unit(known))
        assert row.errors == tuple(seconds / row.case.measured - 1 for seconds in row.predicted if seconds)
    by_column = [summary([row.errors[column] or 0 for row in rows]) for column in range(3)]
    assert all(column.mean < 0.08 for column in by_column)
    assert len({column.mean for column in by_column}) == 3  # three sets of constants, indeed
    assert len(told) == 5  # three models and two devices, each fitted once
    # A row of a model and a device that no constant was fitted to has one answer.
    stranger = replace(cases[0], chip=chip({"u": member()}, "new"), model=model(layers=30, hidden=512))
    (found,) = compared([stranger], known, fitted_without([stranger], known, cases))
    assert len(set(found.predicted)) == 1
    # Nothing is fitted again unless it is asked for, and a row that is not shipped has no errors kept.
    assert [row.predicted[1:] for row in compared(cases, known, None)] == [(None, None)] * len(cases)


@pytest.mark.parametrize("column", ["model", "device"])
def test_what_is_left_out_has_no_say_in_its_own_prediction(column: str) -> None:
    """Measurements of the one left out ten times as large: the prediction of it stays; one of a row kept moves."""
    cases = two_devices()

    def mine(case: Case) -> bool:
        return (case.model_group if column == "model" else case.device) == (
            "qwen3-8b" if column == "model" else "second"
        )

    def predicted(rows: list[Case], kept: Callable[[Case], bool]) -> list[float]:
        known = without_rows([case for case in rows if kept(case)], rows, {"silicon": TRUE})
        return [case.seconds(case.unit(known)) for case in rows if mine(case)]

    slowed = [times(case, 10 if mine(case) else 1) for case in cases]
    honest = predicted(cases, lambda case: not mine(case))
    assert predicted(slowed, lambda case: not mine(case)) == honest
    # The control: with all but one of its rows kept, it would have had a say.
    last = slowed[-1].measurement.case_id
    assert predicted(slowed, lambda case: case.measurement.case_id != last)[0] > 1.1 * honest[0]


def test_a_summary_by_hand() -> None:
    found = summary([0.1, -0.2, 0.3, -0.6])
    assert (found.rows, found.worst) == (4, 0.6)
    assert found.mean == pytest.approx(0.3)
    assert found.median == pytest.approx(0.25)
    assert found.bias == pytest.approx(-0.1)


def validated(capsys: pytest.CaptureFixture[str], file: Path, *further: str) -> dict:
    assert main(["validate", "--csv", str(file), "--json", *further]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    return json.loads(streams.out)


def test_validate_json_is_one_document_of_rows_summaries_and_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One device of the shipped figures, so that a fit without it is made; the measured time of a row is by hand."""
    file = csv_file(
        tmp_path, {"device": "orin-nano-8gb"}, {"note": "SUSPECT"}, {"device": "orin-nano-8gb", "value": "25"} | {
            "context_len": "2048"},
    )  # fmt: skip
    quick, found = validated(capsys, file), validated(capsys, file, "--leave-out")
    assert set(found) >= {"rows", "columns", "summaries", "speculation", "rounds", "left_out"}
    for row, other in zip(quick["rows"], found["rows"], strict=True):
        assert row["predicted_ms"] == [other["predicted_ms"][0], None, None]
        assert row["low_ms"] < row["predicted_ms"][0] < row["high_ms"]
    assert found["columns"] == ["in-sample", "without its model", "without its device"]
    assert found["left_out"] == [{"line": 3, "reason": "its note calls it suspect"}]
    assert [row["measured_ms"] for row in found["rows"]] == pytest.approx([1000 / 30, 1000 / 25])
    for row in found["rows"]:
        assert row["device"] == "orin-nano-8gb"
        shipped, no_model, no_device = row["predicted_ms"]
        assert shipped == no_model  # nobody's model
        assert shipped != no_device
        assert row["errors"] == [pytest.approx(ms / row["measured_ms"] - 1) for ms in row["predicted_ms"]]
    (summaries,) = found["summaries"].values()
    assert summaries["all"][0]["mean"] == pytest.approx(fmean(abs(row["errors"][0]) for row in found["rows"]))


def test_validate_prints_what_json_says_and_draws_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, plot = csv_file(tmp_path, {}, {"note": "SUSPECT"}), tmp_path / "scatter.png"
    (row,) = validated(capsys, file)["rows"]
    assert main(["validate", "--csv", str(file), "--plot", str(plot)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 rows compared, 1 left out" in printed
    assert f"{row['errors'][0]:+.0%}" in printed
    assert f"{row['predicted_ms'][0]:.4g}" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [["validate", "--csv"], ["calibrate", "--chip", "orin-nx-16gb"]])
def test_bad_rows_end_with_status_two_one_message_a_fault_and_no_traceback(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = csv_file(tmp_path, {"value": "0"}, {}, {"kind": "guess"})
    assert main([*command, str(file)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert [line.split(": found")[0] for line in streams.err.splitlines()] == [
        f"{file}: line 2, value", f"{file}: line 4, kind"
    ]  # fmt: skip


def test_rows_that_allow_ratios_only_are_compared_as_ratios(tmp_path: Path) -> None:
    """Eight sequences at 100 tok/s together against one at 25: a step of 80 ms over one of 40."""
    note = {"note": "slow release, use ratios only"}
    rows = [note | {"value": "25"}, note | {"value": "100", "batch": "8"}, note | {"value": "90", "batch": "4"} | {
        "context_len": "4096"}, {"value": "50", "batch": "2"}]  # fmt: skip
    measurements = read_measurements(csv_file(tmp_path, *rows))
    assert len(resolve(measurements)[0]) == 1  # in no comparison of absolutes
    (found,) = batch_ratios(measurements, families())
    assert (found.batch, found.measured) == (8, pytest.approx(2.0))
    assert found.error == pytest.approx(found.predicted / 2 - 1)
    assert 1 < found.predicted < 8


# Speculation on paper: 656 bytes of weights and 32 bytes of cache a position at 100 B/s; arithmetic costs nothing.
FREE = unit(None, precision(operation_rates=[{"rows": 1, "rate": figure(1e6, "TOPS")}]))
TINY = chip({"u": FREE})


def speculation(name: str, note: str, tokens_per_s: float = 0.3) -> Case:
    row = measured("spec_decode", 11, tokens_per_s, 2, "tok_s", model=name, note=note)
    return Case(row, TINY, "u", "p", model(), None, None)


def step_s(rows: int, weights: float = 656, cached: int = 32) -> float:
    """A pass of `rows` after ten positions."""
    return (weights + cached * (10 + rows)) / 100


def found_speed_up(name: str, note: str) -> SpeedUp:
    (found,) = speed_ups([speculation(name, note)], {})
    return found


def test_a_published_speed_up_by_hand() -> None:
    """MTP, three drafts: one layer of 288 bytes, the head's 80, half the cache; four positions verified."""
    found = found_speed_up("tiny + MTP 3 drafts", "tokens per verify step 2.5; vanilla 0.2 -> speed-up 1.5x")
    assert found.published == pytest.approx(0.3 / 0.2)
    assert found.one_row_s == pytest.approx(step_s(1))
    assert found.verify_s == pytest.approx(step_s(4))
    draft = 3 * step_s(1, weights=288 + 2 * 8 * 8 * 4 / 8 + 80, cached=16)  # and 2h x h of 4 bits, which fuses
    assert found.draft_s == pytest.approx(draft)
    assert found.predicted == pytest.approx(2.5 * step_s(1) / (step_s(4) + draft))
    assert found.needed == pytest.approx(1.5 * (step_s(4) + draft) / step_s(1))
    # As many tokens as needed make the published speed-up, by the definition of either.
    assert found.needed / 2.5 * found.predicted == pytest.approx(1.5)


@pytest.mark.parametrize(("name", "positions"), [("tiny + EAGLE3", 60), ("tiny + EAGLE3 tree 24", 24), ("tiny", 60)])
def test_eagle_runs_one_layer_over_its_padded_tree_and_the_accepted_tokens_and_verifies_the_tree(
    name: str, positions: int
) -> None:
    found = found_speed_up(name, "vanilla 0.2")
    weights = 288 + 32_000 * 8
    assert found.verify_s == pytest.approx(step_s(positions))
    assert found.draft_s == pytest.approx(
        5 * step_s(positions, weights=weights, cached=16) + step_s(7, weights=weights, cached=16)
    )
    assert found.tokens_per_step is None
    assert found.predicted is None  # tokens per step are not published: only how many it would take


def test_a_draft_model_is_looked_up_and_rows_without_a_vanilla_rate_are_left_out() -> None:
    named = found_speed_up("tiny", "token tree, llama-3.2-1b draft; vanilla 0.2")
    assert named.method is not None
    assert [draft.model.name for draft in named.method.drafts] == ["llama-3.2-1b"]
    assert speed_up(speculation("tiny", "tokens per verify step 3"), FREE) is None


def test_an_ideal_draft_reaches_the_tokens_per_step_and_none_goes_beyond() -> None:
    found = found_speed_up("tiny + MTP 3 drafts", "tokens per verify step 2.5; vanilla 0.2")
    free = replace(found, draft_s=0.0, verify_s=found.one_row_s)
    assert free.predicted == 2.5
    assert found.predicted is not None
    assert found.predicted < 2.5


def test_the_round_cost_holds_whatever_is_accepted_and_the_speed_up_is_tokens_over_it() -> None:
    few, many = (found_speed_up("tiny + MTP 3 drafts", f"tokens per verify step {n}; vanilla 0.2") for n in (1.5, 3))
    assert few.round_steps == many.round_steps == pytest.approx(few.step_s / few.one_row_s)
    assert few.predicted == pytest.approx(1.5 / few.round_steps)
    assert few.published_round_steps == pytest.approx(1.5 / (0.3 / 0.2))
    assert few.same_sign == (few.round_steps < 1.5)


def test_a_batch_of_rounds_is_held_against_a_batch_of_plain_steps() -> None:
    """Each sequence reads its own cache: of eight, eight times as many positions in both passes."""
    one = speculation("tiny + MTP 3 drafts", "tokens per verify step 2.5; vanilla 0.2")
    eight = replace(one, measurement=replace(one.measurement, batch=8))
    found = speed_up(eight, FREE)
    assert found is not None
    assert found.one_row_s == pytest.approx(step_s(1, cached=8 * 32))
    assert found.verify_s == pytest.approx(step_s(4, cached=8 * 32))


@pytest.fixture(scope="module")
def published() -> list[SpeedUp]:
    """The shipped rows of speculation whose tokens a round are published; no fit has seen one."""
    cases, _, _ = resolve(read_measurements(SHIPPED))
    return [row for row in speed_ups(cases, families()) if row.published_round_steps is not None]


def test_published_rounds_are_met_alone_and_in_batches(published: list[SpeedUp]) -> None:
    def errors(batch: int) -> list[float]:
        found = [row for row in published if row.case.measurement.batch == batch]
        return [abs(row.round_steps / (row.published_round_steps or 1) - 1) for row in found]

    assert len(errors(1)) >= 20
    assert median(errors(1)) < 0.12
    assert len(errors(8)) >= 15
    assert median(errors(8)) < 0.15


def test_gain_or_loss_of_published_speculation_is_predicted_slow_downs_included(published: list[SpeedUp]) -> None:
    signs = [same for row in published if (same := row.same_sign) is not None]
    assert sum(row.published is not None and row.published < 1 for row in published) >= 10
    assert sum(map(bool, signs)) >= 0.9 * len(signs)


def test_the_weight_format_decides_what_a_round_costs(published: list[SpeedUp]) -> None:
    """The same Qwen3-8B and tree on Thor: INT4 is unpacked for every tile of rows, NVFP4 multiplied as it is."""
    rounds = {
        (row.case.precision, row.case.measurement.batch): row.round_steps
        for row in published
        if row.case.model_group == "qwen3-8b" and row.case.device == "agx-thor" and "EAGLE3" in row.method.name
    }
    assert rounds["w4", 1] > 1.5 * rounds["nvfp4", 1]
    assert rounds["w4", 8] > 2.5 * rounds["nvfp4", 8]


def test_a_summary_alone_prints_no_row_and_what_belongs_together_is_demanded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = csv_file(tmp_path, {})
    assert main(["validate", "--csv", str(file), "--summary"]) == 0
    printed = capsys.readouterr().out
    assert "Absolute error" in printed
    assert "unseen device" in printed
    assert "Every row" not in printed
    for options in (["--errors", str(tmp_path / "e.csv")], ["--summary", "--json"], ["--mode", "fast"]):
        assert main(["validate", "--csv", str(file), *options]) == 2
        assert options[0] in capsys.readouterr().err
    assert not (tmp_path / "e.csv").exists()


def test_a_power_mode_is_taken_from_its_column_the_devices_name_or_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """AGX Orin at 30 W has 20.5 of 85.5 TOPS; which rows left it open is noted."""
    prompt = {"kind": "llm_prefill", "metric": "ttft_ms", "value": "500", "context_len": "512"}
    whole, slow = prompt | {"device": "agx-orin-64gb"}, prompt | {"device": "Jetson AGX Orin 64GB (30W)"}

    def predicted(cells: dict[str, str], *options: str) -> tuple[float, list[str]]:
        found = validated(capsys, csv_file(tmp_path, cells), *options)
        (row,) = found["rows"]
        return row["predicted_ms"][0], found["notes"]

    (open_ms, notes), (stated_ms, none) = predicted(whole), predicted(whole | {"power_mode": "30W"})
    assert any("line" in note and "MAXN" in note and "--mode" in note for note in notes)
    assert not any("--mode" in note for note in none)
    assert stated_ms > 2 * open_ms
    assert predicted(slow)[0] == predicted(whole, "--mode", "30W")[0] == stated_ms


def test_errors_to_keep_are_those_of_rows_with_all_columns(tmp_path: Path) -> None:
    cases, known = two_devices(), {"silicon": TRUE}
    text = as_csv(compared(cases, known, fitted_without(cases, known, cases)))
    file = tmp_path / "errors.csv"
    file.write_text(text, encoding="utf-8")
    found = kept_errors(file)
    assert len(found) == len(cases)
    assert all(row.kind in ("decode", "prefill") for row in found.values())
    assert as_csv(compared(cases, known, None)).count("\n") == 1  # the header
