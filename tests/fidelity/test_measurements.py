"""Measured figures as they come in: every fault of a file named by line, doubtful rows left out and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.describe.compiled import NetworkLoad
from hilsim.errors import InputError
from hilsim.fidelity.cases import Case, chip_of, resolve
from hilsim.fidelity.measurements import NOT_PLAIN, SHIPPED, precision_name, read_measurements
from tests.tiny import ROW, csv_file


def faults(file: Path) -> list[str]:
    """Every fault that reading a file finds, as a user sees it; reading must refuse."""
    with pytest.raises(InputError) as caught:
        read_measurements(file)
    return [str(fault) for fault in caught.value.faults]


FAULTS = {
    "no value": ({"value": ""}, ["value", "nothing"]),
    "no device": ({"device": ""}, ["device", "nothing"]),
    "zero": ({"value": "0"}, ["value", "found 0", "above 0"]),
    "negative": ({"value": "-3"}, ["value", "found -3", "above 0"]),
    "nan": ({"value": "nan"}, ["value", "found nan", "finite"]),
    "infinite": ({"value": "inf"}, ["value", "found inf", "finite"]),
    "text": ({"value": "fast"}, ["value", "'fast'", "a number"]),
    "decimal comma": ({"value": "7,5"}, ["value", "'7,5'", "a number"]),
    "fractional context": ({"context_len": "10.5"}, ["context_len", "10.5", "a whole number"]),
    "zero context": ({"context_len": "0"}, ["context_len", "found 0", "above 0"]),
    "negative batch": ({"batch": "-1"}, ["batch", "found -1", "above 0"]),
    "text for parameters": ({"params_b": "8B"}, ["params_b", "'8B'", "a number"]),
    "unknown kind": ({"kind": "llm"}, ["kind", "'llm'", "llm_decode", "network"]),
    "no metric": ({"metric": ""}, ["metric", "nothing"]),
    "metric without unit": ({"metric": "latency"}, ["metric", "'latency'", "latency_ms", "carries the unit"]),
    "metric of another kind": ({"metric": "ttft_ms"}, ["metric", "'ttft_ms'", "for llm_decode tok_s or latency_ms"]),
    "rate of a network": ({"kind": "vision", "metric": "tok_s"}, ["metric", "'tok_s'", "for vision latency_ms"]),
}


@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_a_row_is_named_by_file_line_and_column(
    change: dict[str, str], words: list[str], tmp_path: Path
) -> None:
    file = csv_file(tmp_path, {}, change, {"model": "another"})
    (found,) = faults(file)
    assert found.startswith(f"{file}: line 3, {words[0]}: found ")
    for word in words:
        assert word in found
    assert "; expected " in found
    # The control: without that row the very same file is read.
    assert len(read_measurements(csv_file(tmp_path, {}, {"model": "another"}))) == 2


@pytest.mark.parametrize("column", ["device", "model", "kind", "metric", "value"])
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    (found,) = faults(csv_file(tmp_path, {}, without=column))
    assert "line 1" in found
    assert found.endswith(f"expected also {column}.")


def test_columns_that_may_be_missing_may_be_missing(tmp_path: Path) -> None:
    file = tmp_path / "few.csv"
    file.write_text("value,metric,kind,model,device\n30,tok_s,llm_decode,qwen3-8b,agx-orin-64gb\n", encoding="utf-8")
    (row,) = read_measurements(file)
    assert (row.case_id, row.context, row.batch, row.runtime) == ("line 2", None, 1, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["line 1", "columns none"]),
        ("device,model,kind,metric,value\n", ["no rows", "at least one measurement"]),
        ("device,model,kind,metric,value\na,b,llm_decode,tok_s,3,4\n", ["line 2", "more values than columns"]),
        ('device,model,kind,metric,value\na,"b,llm_decode,tok_s,3\n', ["comma-separated values"]),
        ("device;model;kind;metric;value\n", ["no rows"]),
        ("device|model|kind|metric|value\n", ["line 1", "device|model"]),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(text, encoding="utf-8")
    found = faults(file)[0]
    assert all(word in found for word in words)


@pytest.mark.parametrize("mark", [{}, {"case_id": "seven"}, {"runtime": "QNN", "note": "board 3"}])
def test_two_values_for_one_case_are_a_contradiction_with_both_lines(mark: dict[str, str], tmp_path: Path) -> None:
    (found,) = faults(csv_file(tmp_path, mark, {"model": "another"}, mark | {"value": "33"}))
    assert "line 4: found 33 tok_s for the same case as line 2, which has 30" in found


def test_one_id_with_two_values_is_a_contradiction_whatever_else_differs(tmp_path: Path) -> None:
    (found,) = faults(csv_file(tmp_path, {"case_id": "a"}, {"case_id": "a", "model": "another", "value": "40"}))
    assert "line 3" in found
    assert "line 2" in found


@pytest.mark.parametrize(
    "change",
    [{"value": "30.2"}, {"value": "33", "runtime": "another"}, {"value": "33", "note": "@50 W"},
     {"value": "33", "context_len": "2048"}, {"value": "33", "batch": "2"}, {"value": "33", "weight_bits": "8"}],
)  # fmt: skip
def test_rows_that_agree_or_are_distinguished_are_no_contradiction(change: dict[str, str], tmp_path: Path) -> None:
    assert len(read_measurements(csv_file(tmp_path, {}, change))) == 2


def test_all_faults_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    found = faults(csv_file(tmp_path, {}, {"value": "nan", "batch": "0"}, {"kind": "x", "model": ""}, {"value": "40"}))
    assert [fault.split(": ")[1] for fault in found] == [
        "line 3, value", "line 3, batch", "line 4, model", "line 4, kind", "line 5",
    ]  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must refuse; what it says."""
    assert main(list(arguments)) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Traceback" not in streams.err
    return streams.err


STRANGERS = ({"device": "sa8299p"}, {"weight_bits": "2"}, {"device": "sa8295p", "act_bits": "16"})


def test_unknown_devices_and_precisions_are_refused_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = csv_file(tmp_path, {}, *STRANGERS)
    message = refused(capsys, "validate", "--csv", str(file)).splitlines()
    assert [line.split(": found")[0] for line in message] == [
        f"{file}: line 3, device", f"{file}: line 4, weight_bits/act_bits", f"{file}: line 5, weight_bits/act_bits",
    ]  # fmt: skip
    assert "sa8295p" in message[0]  # one of those that are known
    assert "'w2'" in message[1]
    assert "w4, fp16, w8a8" in message[1]
    assert "int16" in message[2]
    assert refused(capsys, "calibrate", str(file), "--chip", "orin-nx-16gb").splitlines() == message


def test_bad_rows_are_skipped_only_when_asked_to_and_each_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = csv_file(tmp_path, {}, *STRANGERS)
    assert main(["validate", "--csv", str(file), "--json", "--skip-bad"]) == 0
    streams = capsys.readouterr()
    assert len(json.loads(streams.out)["rows"]) == 1
    assert [line[:8] for line in streams.err.splitlines()] == ["skipped:"] * 3
    # What is no number stays a fault: it may be a slip in any row.
    broken = csv_file(tmp_path, {}, {"value": "fast"})
    assert "line 3, value" in refused(capsys, "validate", "--csv", str(broken), "--skip-bad")


FORBIDDING = {
    "SUSPECT: clock not locked": "its note calls it suspect",
    "ANOMALY against the other boards": "its note calls it an anomaly",
    "do not calibrate with it": "its note forbids it",
    "other release, use ratios only": "its note allows ratios only",
    "hybrid of attention and state space": NOT_PLAIN,
    "an MoE of 8 experts": NOT_PLAIN,
    "GPU fallback of two layers": "it left its unit for another (fallback)",
    "extrapolated row": "by its note it is extrapolated",
}


@pytest.mark.parametrize(("note", "reason"), FORBIDDING.items(), ids=FORBIDDING.values())
def test_rows_whose_note_forbids_it_are_left_out_and_listed(note: str, reason: str, tmp_path: Path) -> None:
    stranger = {"note": note, "model": "no such model", "params_b": "7"}
    cases, left, faults = resolve(read_measurements(csv_file(tmp_path, {}, stranger)))
    assert [case.measurement.line for case in cases] == [2]
    assert [(row.measurement.line, row.reason) for row in left] == [(3, reason)]
    assert faults == []


LEFT_OUT = [
    ({"weight_bits": "w8a16_mixed_int16", "act_bits": "w8a16_mixed_int16"}, "not modelled"),
    ({"act_bits": "n/s"}, "precision is not stated"),
    ({"model": "nobody-knows", "params_b": ""}, "no parameter count"),
    ({"kind": "vision", "metric": "latency_ms", "weight_bits": "8", "act_bits": "8"}, "operations is not known"),
    ({"kind": "vision", "metric": "latency_ms", "weight_bits": "8", "act_bits": "8", "gmacs": "3", "params_b": ""},
     "parameters is not known"),
    ({"kind": "vision", "metric": "latency_ms", "layers_npu": "40", "layers_cpu": "3"}, "fallback"),
    ({"device": "sa8775p", "act_bits": "16", "kind": "llm_prefill", "context_len": ""}, "prompts is not stated"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), LEFT_OUT)
def test_rows_that_cannot_be_predicted_are_left_out_with_the_reason(
    change: dict[str, str], reason: str, tmp_path: Path
) -> None:
    cases, left, faults = resolve(read_measurements(csv_file(tmp_path, change)))
    assert (cases, faults) == ([], [])
    assert reason in left[0].reason


def test_a_file_of_which_nothing_can_be_compared_is_refused_with_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "validate", "--csv", str(csv_file(tmp_path, {"note": "SUSPECT"}, {"act_bits": "n/s"})))
    assert "no row that can be compared" in message
    assert "suspect" in message
    assert "not stated" in message


def case(folder: Path, **change: str) -> Case:
    (only,), left, faults = resolve(read_measurements(csv_file(folder, change)))
    assert (left, faults) == ([], [])
    return only


PROMPT = {"kind": "llm_prefill", "context_len": "512"}


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({"value": "40"}, 1 / 40),
        ({"value": "40", "batch": "8"}, 8 / 40),  # tokens of all sequences together
        ({"metric": "latency_ms", "value": "40"}, 0.040),
        ({**PROMPT, "metric": "ttft_ms", "value": "40"}, 0.040),
        ({**PROMPT, "metric": "tok_s", "value": "1000"}, 512 / 1000),
        ({**PROMPT, "metric": "tok_s", "value": "1000", "batch": "2"}, 1024 / 1000),
    ],
)
def test_what_was_measured_in_seconds_of_a_step(change: dict[str, str], seconds: float, tmp_path: Path) -> None:
    assert case(tmp_path, **change).measured == pytest.approx(seconds)


def test_what_was_run_is_read_from_the_row(tmp_path: Path) -> None:
    """A decode step makes the last of `context_len` positions; a prompt is that long, on fixed graphs 128 or AR-N."""
    step = case(tmp_path, batch="3").step()
    assert (step.rows, step.cached, step.sequences) == (1, 1023, 3)
    assert case(tmp_path, **PROMPT).step().rows == 512
    npu = {"device": "sa8775p", "act_bits": "16"} | PROMPT | {"metric": "ttft_ms"}
    assert case(tmp_path, **npu).step().rows == 128
    for named in ({"model": "our-own AR-32"}, {"note": "a 32-token pass"}):
        assert case(tmp_path, **(npu | named)).step().rows == 32


def test_a_model_of_a_known_name_is_described_and_any_other_gets_layers_to_match(tmp_path: Path) -> None:
    assert case(tmp_path, model="Qwen3-8B-AWQ").model_group == "qwen3-8b"
    found = case(tmp_path, model="our-own", params_b="8.26")
    assert found.model is not None
    assert "layers assumed" in found.estimated
    # Whatever shape it borrows, it has the parameters stated, to half a layer (about 3 % at 30 layers or more).
    shape = found.model.architecture
    layer = 2 * shape.hidden * shape.heads * shape.head_dim + 2 * shape.hidden * shape.kv_heads * shape.head_dim
    layer += 3 * shape.hidden * shape.intermediate
    embeddings = shape.hidden * found.model.vocabulary.entries * (1 if shape.tied_head else 2)
    assert abs(shape.layers * layer + embeddings - 8.26e9) <= layer / 2


def test_a_networks_load_is_its_operations_parameters_and_layers(tmp_path: Path) -> None:
    row = {"device": "sa8295p", "kind": "vision", "metric": "latency_ms", "weight_bits": "8", "act_bits": "8"}
    found = case(tmp_path, **row, gmacs="3.5", params_b="0.02", layers_npu="120")
    assert found.load == NetworkLoad(3.5, 0.02, 120)
    assert found.label == "networks"


@pytest.mark.parametrize(
    ("column", "chip"),
    [
        ("agx-orin-64gb", "agx-orin-64gb"),
        ("Jetson AGX Orin 64GB", "agx-orin-64gb"),
        ("agx-orin-64gb@50W", "agx-orin-64gb@50W"),
        ("SA8295P ADP", "sa8295p"),
        ("Jetson Orin Nano 8GB (original)", "orin-nano-8gb"),
        ("Jetson Orin Nano 8GB (102 GB/s)", "orin-nano-super-8gb"),  # the longest alias wins
        ("SA8295P ADP 16GB", "sa8295p"),  # a size where no name of the chip has one
        ("Jetson AGX Orin Developer Kit 64GB", "agx-orin-64gb"),
    ],
)
def test_boards_are_known_by_their_names(column: str, chip: str) -> None:
    assert chip_of(column, "x.csv").name == chip


@pytest.mark.parametrize(("column", "gigabytes"), [("Jetson AGX Orin 32 GB", 32), ("Jetson Orin NX 8 GB", 8)])
def test_a_board_of_another_size_is_not_taken_for_the_usual_one(column: str, gigabytes: int) -> None:
    try:
        found = chip_of(column, "x.csv")
    except InputError:
        return  # a refusal is as good as the right board
    assert found.memory.value == gigabytes


@pytest.mark.parametrize(
    ("weights", "activations", "name"),
    [("4", "fp16", "w4"), ("4", "16", "w4a16"), ("8", "8", "w8a8"), ("fp16", "fp16", "fp16"), ("4", "n/s", "w4a?")],
)
def test_precisions_are_named_as_chip_files_do(weights: str, activations: str, name: str) -> None:
    assert precision_name(weights, activations) == name


def test_the_shipped_measurements_are_without_fault_and_most_are_used() -> None:
    rows = read_measurements(SHIPPED)
    cases, left, faults = resolve(rows)
    assert faults == []
    assert len(cases) + len(left) == len(rows)
    assert len(cases) > 0.6 * len(rows)  # llama.cpp's kernels on CPUs, GPUs and NPUs of Snapdragons wait for theirs
    assert all(row.reason for row in left)


def written(folder: Path, text: str) -> str:
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


HEADER, VALUES = ",".join(ROW), ",".join(ROW.values())


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    text = "\ufeffdevice,model,kind,metric,value\nagx-orin-64gb,qwen3-8b,llm_decode,tok_s,30\n"
    assert len(read_measurements(Path(written(tmp_path, text)))) == 1


def test_a_column_that_comes_twice_is_a_fault(tmp_path: Path) -> None:
    assert "value" in faults(Path(written(tmp_path, f"{HEADER},value\n{VALUES},60\n")))[0]


ABSURD = [
    {"context_len": "1e308"}, {"batch": "1e300"}, {"params_b": "1e300"}, {"value": "1e-320"},
    {"params_b": "3212"}, {"kind": "spec_decode", "note": "vanilla 1,150"},
    {"kind": "spec_decode", "note": "tokens per verify step 3,25; vanilla 30"},
    {"kind": "spec_decode", "note": "vanilla 0"}, {"kind": "spec_decode", "note": "vanilla 1.2.3"},
]  # fmt: skip


@pytest.mark.parametrize("change", ABSURD, ids=str)
def test_absurd_numbers_are_refused(change: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "validate", "--json", "--csv", str(csv_file(tmp_path, {}, {"model": "another"} | change)))


def test_numbers_of_a_note_end_before_punctuation(tmp_path: Path) -> None:
    note = "tokens per verify step 3.25, tree 60; vanilla 30.5,"
    (row,) = read_measurements(csv_file(tmp_path, {"kind": "spec_decode", "params_b": "2000", "note": note}))
    assert (row.noted("tokens per verify step"), row.noted("vanilla rate")) == (3.25, 30.5)


def test_a_faulty_name_is_placed_once_at_its_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "chip", "no-chip").startswith("chip: found 'no-chip'; expected one of ")
    assert refused(capsys, "chip", "sa8295p", "--model", "no-model").startswith("--model: found 'no-model'; expected ")
    assert main(["chip", "sa8295p", "--model", "llama-3.2-3b"]) == 0


def test_a_prompt_of_no_tokens_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"device": "sa8775p", "act_bits": "16", "model": "our-own AR-0"} | PROMPT | {"metric": "ttft_ms"}
    refused(capsys, "calibrate", str(csv_file(tmp_path, row)), "--chip", "sa8775p")
