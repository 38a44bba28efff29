"""Tables as spreadsheets and tools save them: read alike in every dress, refused where two readings are possible."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import main
from hilsim.errors import Fault, InputError
from hilsim.fidelity.cases import resolve
from hilsim.fidelity.measurements import Measurement, read_figures, read_measurements
from hilsim.fidelity.recognise import kind_of
from hilsim.fidelity.step_log import read_log
from hilsim.fidelity.table import gathered
from hilsim.places import CODE as PROJECT
from tests.tiny import ROW, csv_file

HEADER = [
    "case_id",
    "device",
    "model",
    "params_b",
    "weight_bits",
    "act_bits",
    "kind",
    "context_len",
    "metric",
    "value",
    "note",
]
ROWS = [
    ["a", "orin-nx-16gb", "our-own", "3.21", "4", "fp16", "llm_decode", "128", "tok_s", "38.5", "quiet, cooled"],
    ["b", "orin-nx-16gb", "our-own", "3.21", "4", "fp16", "llm_prefill", "512", "ttft_ms", "520", 'a "second" run'],
]  # fmt: skip


def saved(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "figures.csv"
    file.write_bytes(text.encode(encoding))
    return file


def table(rows: list[list[str]], separator: str = ",", end: str = "\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(rows)
    return out.getvalue()


def essence(rows: list[Measurement]) -> list[tuple[object, ...]]:
    columns = ("case_id", "device", "model", "params_b", "precision", "kind", "context", "metric", "value", "note")
    return [tuple(getattr(row, column) for column in columns) for row in rows]


PLAIN = [
    ("a", "orin-nx-16gb", "our-own", 3.21, "w4", "llm_decode", 128, "tok_s", 38.5, "quiet, cooled"),
    ("b", "orin-nx-16gb", "our-own", 3.21, "w4", "llm_prefill", 512, "ttft_ms", 520.0, 'a "second" run'),
]


def test_a_table_is_the_same_in_every_encoding_separator_and_line_end(tmp_path: Path) -> None:
    for encoding, separator, end in itertools.product(
        ("utf-8", "utf-8-sig", "utf-16", "utf-32"), (",", ";", "\t"), ("\n", "\r\n", "\r")
    ):
        file = saved(tmp_path, table([HEADER, *ROWS], separator, end), encoding)
        assert essence(read_measurements(file)) == PLAIN, (encoding, separator, end)


OTHERS = ["ID", "Board", "LLM", "Params", "wbits", "abits", "Phase", "ctx", "Unit", "Result", "Comment"]
WORDS = {"tok_s": "tok/s", "llm_decode": "Decode", "llm_prefill": "prefill", "ttft_ms": "ms"}
DRESSES: dict[str, Callable[[list[list[str]]], str]] = {
    "blanks behind commas": lambda rows: "\n".join(
        ", ".join(f'"{cell}"' if "," in cell else cell.replace('"', "") for cell in row) for row in rows),
    "capitals": lambda rows: table([[name.upper() for name in rows[0]], *rows[1:]]),
    "words for underscores": lambda rows: table([[name.replace("_", " ").title() for name in rows[0]], *rows[1:]]),
    "empty lines and columns at the end": lambda rows: table([[*row, "", ""] for row in rows]) + ",,,\n\n , ,\n",
    "Excel's first line": lambda rows: "sep=;\n" + table(rows, ";"),
    "every cell quoted": lambda rows: "\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows),
    "other usual names": lambda rows: table([OTHERS, *rows[1:]]),
    "units and phases as people write them": lambda rows: table(
        [rows[0], *([WORDS.get(cell, cell) for cell in row] for row in rows[1:])]),
}  # fmt: skip


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES)
def test_a_table_is_the_same_in_every_dress(dress: Callable[[list[list[str]]], str], tmp_path: Path) -> None:
    found = essence(read_measurements(saved(tmp_path, dress([HEADER, *ROWS]))))
    without_quotes = [(*row[:-1], str(row[-1]).replace('"', "")) for row in found]
    assert without_quotes == [(*row[:-1], str(row[-1]).replace('"', "")) for row in PLAIN]


def numbers(folder: Path, separator: str, *values: str) -> list[float]:
    rows = [["device", "model", "kind", "metric", "value", "note"]]
    rows += [
        ["orin-nx-16gb", "our-own", "llm_decode", "tok_s", value, f"n{place}"] for place, value in enumerate(values)
    ]
    return [row.value for row in read_measurements(saved(folder, table(rows, separator)))]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_read_where_they_can_be_nothing_else(separator: str, tmp_path: Path) -> None:
    assert numbers(tmp_path, separator, "38,5", "7", "1,150") == [38.5, 7.0, 1.15]
    assert numbers(tmp_path, separator, "0,250") == [0.25]
    assert numbers(tmp_path, separator, "38.5", "1150") == [38.5, 1150.0]  # and points stay points
    assert numbers(tmp_path, separator, "38.5", "1.150", "0.125") == [38.5, 1.15, 0.125]  # where one settles it
    assert numbers(tmp_path, ",", "1.150") == [1.15]  # between commas a point is a point


@pytest.mark.parametrize(
    ("separator", "values", "words"),
    [
        (";", ["1,150"], "'1,150', which may be 1.150 or 1150"),
        ("\t", ["1,150", "7"], "'1,150', which may be 1.150 or 1150"),
        (";", ["38,5", "1.150"], "'38,5'"),  # a comma and a point: neither is certain
        (";", ["1.150,5"], "'1.150,5'"),
        (",", ["38,5"], "Write a decimal point"),
        (";", ["1.150"], "'1.150', which may be 1.150 or 1150"),
        ("\t", ["1.150", "7", "12.000"], "'12.000', which may be 12.000 or 12000"),
        (";", ["1.150.000", "7"], "1150000"),
    ],
)
def test_a_number_that_can_be_read_in_two_ways_is_refused(
    separator: str, values: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        numbers(tmp_path, separator, *values)
    assert words in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["context_len", "batch"])
def test_whole_numbers_have_neither_points_nor_commas(column: str, separator: str, tmp_path: Path) -> None:
    """Whatever the other numbers settle: 38,5 or 38.5 beside it makes 2.000 tokens no 2."""
    rows = [["device", "model", "kind", "metric", "value", column], ["x", "y", "llm_decode", "tok_s", "38", "2000"]]
    (row,) = read_measurements(saved(tmp_path, table(rows, separator)))
    assert 2000 in (row.context, row.batch)
    for written, value in itertools.product(("2.000", "2,000", "2.000,0", "2000,5"), ("38", "38,5", "38.5")):
        if separator == "," and value == "38,5":
            continue
        rows[1][-2:] = value, written
        with pytest.raises(InputError) as caught:
            read_measurements(saved(tmp_path, table(rows, separator)))
        assert f"{column}: found '{written}'; expected a whole number" in str(caught.value)


def test_a_german_table_with_points_for_thousands_is_not_read_as_small_numbers(tmp_path: Path) -> None:
    text = "device;model;kind;metric;value;context_len;precision\nsa8295p;llama-3.2-3b;llm_prefill;ttft_ms;{};{};w4\n"
    with pytest.raises(InputError) as caught:
        read_measurements(saved(tmp_path, text.format("1.150", "2.000")))
    assert [fault.place for fault in caught.value.faults] == ["line 2, value", "line 2, context_len"]
    (row,) = read_measurements(saved(tmp_path, text.format("1150", "2000")))
    assert (row.value, row.context) == (1150, 2000)


MISREAD = {
    "bars between cells": ("| device | model | kind | metric | value |\n|---|\n", "Write ';' for every '|'"),
    "a comment before the header": ("# board 3, cooled\ndevice,model,kind,metric,value\n", "a comment, '# board 3'"),
    "decimals that slip into the next column": (
        "device,model,kind,metric,value,runtime,note\norin-nx-16gb,our-own,llm_decode,tok_s,38,5,M\n", "with a point"),
    "values beyond the header": (
        "device,model,kind,metric,value\nx,y,llm_decode,tok_s,38,5\n", "more values than columns"),
    "a column under two spellings": (
        "device,Device,model,kind,metric,value\nx,x,y,llm_decode,tok_s,38\n", "'device' and 'Device'"),
    "two names of one column": (
        "board,chip,model,kind,metric,value\nx,x,y,llm_decode,tok_s,38\n", "'board' and 'chip'"),
    "a slip in an optional column": (
        "device,model,kind,metric,value,contxt_len\nx,y,llm_decode,tok_s,38,128\n", "Did you mean 'context_len'?"),
    "a slip in a needed column": ("devise,model,kind,metric,value\nx,y,llm_decode,tok_s,38\n", "'device' for 'devise'"),
    "half a UTF-16 file": ("d\0e\0v\0i\0c\0e\0,\0", "a NUL character"),
    "seconds": ("device,model,kind,metric,value\norin-nx-16gb,y,llm_prefill,ttft_s,0.5\n", "Multiply by 1000"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), MISREAD.values(), ids=MISREAD)
def test_what_would_be_misread_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_measurements(saved(tmp_path, text))
    assert words in str(caught.value)


def test_a_column_that_is_ours_keeps_its_name_beside_its_synonym_and_the_other_is_named(tmp_path: Path) -> None:
    text = "device,model,kind,metric,unit,value,operator\norin-nx-16gb,y,llm_decode,tok_s,tokens,38,Anna\n"
    found = read_figures(saved(tmp_path, text))
    assert (found.rows[0].metric, found.unread) == ("tok_s", ("unit", "operator"))


def test_a_precision_column_is_bits_of_weights_and_activations(tmp_path: Path) -> None:
    rows = [["device", "model", "kind", "metric", "value", "precision"]]
    rows += [["x", name, "llm_decode", "tok_s", "38", name] for name in ("w4", "W4A16", "fp16", "w8a8")]
    assert [row.precision for row in read_measurements(saved(tmp_path, table(rows)))] == ["w4", "w4a16", "fp16", "w8a8"]


def test_faults_of_one_kind_are_one_line_with_all_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"device": "sa8299p"}
    file = csv_file(tmp_path, same, {"model": "a"} | same, {}, {"model": "b"} | same, {"device": "other"})
    assert main(["validate", "--csv", str(file)]) == 2
    (only,) = capsys.readouterr().err.splitlines()
    assert f"{file}: lines 2-3, 5-6, device: found 'sa8299p' (2-3, 5), 'other' (6)" in only


def test_faults_that_expect_something_else_stay_apart_and_many_findings_are_counted() -> None:
    faults = [Fault("f", f"line {n}, value", found, "y") for n, found in ((1, "a"), (2, "b"), (3, "a"))]
    faults += [Fault("f", "", "a", "y"), Fault("f", "line 4, value", "a", "z"), Fault("f", "line 5, note", "a", "y")]
    assert [(fault.place, fault.found) for fault in gathered(faults)] == [
        ("lines 1-3, value", "a (1, 3), b (2)"), ("", "a"), ("line 4, value", "a"), ("line 5, note", "a"),
    ]  # fmt: skip
    (many,) = gathered([Fault("f", f"line {n}, value", str(n), "y") for n in range(1, 12)])
    assert many.found.endswith("8 (8) and 3 more")


BENCH = {
    "build_commit": "abc1234", "cpu_info": "ARMv8", "gpu_info": "Orin", "backends": "CUDA",
    "model_filename": "models/Llama-3.2-3B-Instruct-Q4_K_M.gguf", "model_type": "llama 3B Q4_K - Medium",
    "model_size": 2013265920, "model_n_params": 3212749888, "n_threads": 6, "type_k": "f16", "type_v": "f16",
    "n_gpu_layers": 99, "no_kv_offload": False, "n_prompt": 512, "n_gen": 0, "n_depth": 0, "test_time": "t",
    "avg_ns": 812345678, "avg_ts": 630.27, "samples_ts": [630.27],
}  # fmt: skip
DECODE = {"n_prompt": 0, "n_gen": 128, "avg_ns": 6400000000, "avg_ts": 20.0}


def rig(folder: Path, *changes: dict[str, object], form: str = "csv") -> Path:
    """What llama-bench would write, in one of its forms."""
    records = [BENCH | change for change in changes]
    file = folder / f"rig.{form}"
    if form == "csv":
        columns = [name for name in BENCH if name != "samples_ts"]
        lines = [
            ",".join(columns),
            *(",".join(f'"{int(r[c]) if r[c] is False else r[c]}"' for c in columns) for r in records),
        ]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif form == "json":
        file.write_text(json.dumps(records, indent=2), encoding="utf-8")
    else:
        file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_rows_of_llama_bench_are_prompts_and_steps_of_the_chip_that_is_named(form: str, tmp_path: Path) -> None:
    """Steps of 128 tokens after 64 make positions 65 to 192: on average 129 in the cache, rounded up."""
    file = rig(tmp_path, {}, DECODE, DECODE | {"n_depth": 64, "test_time": "later"}, form=form)
    cases, left, faults = resolve(read_measurements(file, "orin-nx-16gb"))
    assert (left, faults) == ([], [])
    assert [(case.kind, case.chip.name, case.unit_name, case.precision) for case in cases] == [
        ("prefill", "orin-nx-16gb", "gpu", "w4"), *[("decode", "orin-nx-16gb", "gpu", "w4")] * 2,
    ]  # fmt: skip
    assert [case.measured for case in cases] == pytest.approx([512 / 630.27, 1 / 20, 1 / 20])
    assert [case.measurement.context for case in cases] == [512, 65, 129]
    assert {case.model.name for case in cases if case.model is not None} == {"llama-3.2-3b"}
    assert {case.runtime.name for case in cases if case.runtime is not None} == {"llama-cpp"}


def test_llama_bench_and_the_same_figures_by_hand_are_one_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fitted(file: Path) -> str:
        assert main(["calibrate", str(file), "--chip", "orin-nx-16gb"]) == 0
        out = capsys.readouterr().out
        return out[: out.index("worst")]

    from_bench = fitted(rig(tmp_path, {}, DECODE))
    assert from_bench == fitted(rig(tmp_path, {}, DECODE, form="jsonl"))  # a name that recordings have too
    common = {"model": "Llama-3.2-3B-Instruct", "runtime": "llama.cpp"}
    by_hand = csv_file(
        tmp_path,
        common | {"kind": "llm_prefill", "context_len": "512", "value": "630.27"},
        common | {"context_len": "65", "value": "20"},
    )
    assert from_bench == fitted(by_hand)


LEFT_OUT = [
    ({"n_gen": 128}, "in one figure"), ({"n_depth": 512}, "behind other tokens"),
    ({"model_type": "llama 3B Q6_K"}, "weights in Q6_K"), ({"type_k": "q8_0"}, "a cache in q8_0"),
    ({"no_kv_offload": True}, "stayed with the CPU"),
    ({"model_type": "qwen3moe 30B.A3B Q4_K - Medium"}, "mixture of experts"),
    *[({"model_filename": f"a3b/{name}.gguf"}, "mixture of experts")
      for name in ("Qwen3-30B-A3B-Q4_K_M", "mixtral-8x7b-instruct", "OLMoE-1B-7B", "x_a2.7b")],
    ({"devices": "CUDA0/CUDA1"}, "several devices (CUDA0/CUDA1)"),
    ({"tensor_split": "3.00/1.00"}, "split between devices (-ts 3.00/1.00)"),
    ({"tensor_buft_overrides": "ffn_.*=CPU"}, "tensors were moved (-ot ffn_.*=CPU)"),
    ({"backends": "CUDA,RPC"}, "RPC"), ({"devices": "RPC[10.0.0.2:50052]"}, "RPC"),
    ({"embeddings": True}, "embeddings"),
    ({"n_gpu_layers": 12}, "12 of 28 layers ran on the GPU"),
    ({"model_type": "llama 3B", "model_filename": "x.gguf"}, "precision is not stated"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), LEFT_OUT)
def test_rows_of_llama_bench_without_a_counterpart_are_left_out_with_the_reason(
    change: dict[str, object], reason: str, tmp_path: Path
) -> None:
    avg_ns = 1e9 * (512 + int(str(change.get("n_gen", 0)))) / 630.27
    cases, left, faults = resolve(
        read_measurements(rig(tmp_path, change | {"avg_ns": int(avg_ns)}, form="json"), "orin-nx-16gb")
    )
    assert (cases, faults) == ([], [])
    assert reason in left[0].reason


PLAIN_SETTINGS = {
    "devices": "auto", "tensor_split": "0.00", "tensor_buft_overrides": "none", "embeddings": False,
    "model_filename": "moe-a3b/Llama-3.2-3B-w4a8bit-Q4_K_M.gguf",
}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{}, PLAIN_SETTINGS, {"devices": "CUDA0"}, {"tensor_split": "1.00/0.00"}, {"embeddings": "0"}], ids=str
)
def test_rows_that_ran_on_one_gpu_are_the_gpu_s(change: dict[str, object], tmp_path: Path) -> None:
    (row,) = read_measurements(rig(tmp_path, change, form="json"), "orin-nx-16gb")
    assert (row.unit_kind, row.hardware, row.forbidden) == ("gpu", "Orin", "")


FORMATS = [
    ("llama 3B Q4_0", "w4"), ("llama 3B mostly Q4_1", "w4"), ("llama 3B IQ4_NL - 4.5 bpw", "w4"),
    ("llama 3B Q8_0", "w8a8"),
    ("llama 3B F16", "fp16"), ("llama 3B BF16", "fp16"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "precision"), FORMATS)
def test_quantisations_are_number_formats(model_type: str, precision: str, tmp_path: Path) -> None:
    (row,) = read_measurements(rig(tmp_path, {"model_type": model_type}, form="json"), "orin-nx-16gb")
    assert row.precision == precision


def test_a_run_on_the_cpu_is_the_cpu_s(tmp_path: Path) -> None:
    for change in ({"n_gpu_layers": 0}, {"backends": "CPU"}, {"devices": "none"}, {"devices": "CPU"}):
        (row,) = read_measurements(rig(tmp_path, change, form="json"), "orin-nx-16gb")
        assert (row.unit_kind, row.hardware, row.forbidden) == ("cpu", "ARMv8", "")


def test_without_a_chip_llama_bench_names_none_and_the_message_says_how_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--csv", str(rig(tmp_path, {}, DECODE))]) == 2
    told = capsys.readouterr().err
    assert "lines 2-3, device: found 'Orin'" in told
    assert "add --chip NAME" in told


def test_figures_of_llama_bench_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"avg_ts 63\.027 and avg_ns"):
        read_measurements(rig(tmp_path, {"avg_ts": 63.027}), "orin-nx-16gb")


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_output_that_was_cut_is_refused_not_read_in_part(cut: int, tmp_path: Path) -> None:
    file = rig(tmp_path, {}, DECODE, form="json")
    file.write_text(file.read_text(encoding="utf-8")[:-cut], encoding="utf-8")
    with pytest.raises(InputError, match="JSON"):
        read_measurements(file, "orin-nx-16gb")


def test_a_chip_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = csv_file(tmp_path, {}, without="device")
    assert main(["validate", "--csv", str(file), "--chip", "orin-nx-16gb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["device"] == "orin-nx-16gb"
    assert main(["validate", "--csv", str(csv_file(tmp_path, {})), "--chip", "orin-nx-16gb"]) == 2
    assert "rows that name their device" in capsys.readouterr().err
    assert main(["validate", "--chip", "orin-nx-16gb"]) == 2
    assert "--csv FILE beside it" in capsys.readouterr().err


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, header=np.arange(3))
    return out.getvalue()


def workbook() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("[Content_Types].xml", "<Types/>")
    return out.getvalue()


LOG = {"draft_times": [0.01], "verify_times": [0.05], "accepted_tokens": [1], "total_time": 0.07}
FIGURES = ",".join(ROW) + "\n" + ",".join(ROW.values()) + "\n"
STRANGERS: dict[str, tuple[object, str]] = {
    "a step log": (LOG, "python -m hilsim validate --trace"),
    "a long step log": ([{"sample_index": 0, "strategy": "sd", "metrics": LOG}], "python -m hilsim validate --trace"),
    "a recording": ('{"recording": 3}\n{}\n', "python -m hilsim calibrate"),
    "a report": ({"scenario": "x", "digest": "y", "versions": {}, "speedup": 2}, "predictions, no measurement"),
    "a timeline": ({"traceEvents": []}, "Perfetto"),
    "conversations": ('{"id": "a", "turns": ["Hello"]}\n', "workload.conversations="),
    "a checkpoint": ({"model_type": "llama", "architectures": []}, "measures nothing"),
    "figures in JSON": ([dict(ROW)], "Write these keys as CSV columns"),
    "other JSON": ({"a": 1, "b": 2}, "Its keys begin with a, b"),
    "a scenario": ("name: x\ntarget: {}\npolicy: sync\n", "python simulate.py"),
    "a chip": ((PROJECT / "chips/sa8295p.yaml").read_text(encoding="utf-8"), "python -m hilsim chip"),
    "a model": ((PROJECT / "models/qwen3-8b.yaml").read_text(encoding="utf-8"), "model column"),
    "a study": ("name: x\naxes:\n- {key: seed, values: [1, 2]}\n", "python -m hilsim study"),
    "results of a study": ("point,state,speedup\n1,done,2\n", "predictions, no measurement"),
    "a packed file": (gzip.compress(FIGURES.encode()), "gunzip -k"),
    "a transcript": (npz(), "simulate.py SCENARIO --set logits.kind=transcript"),
    "a workbook": (workbook(), "Save it as CSV"),
    "weights": (b"GGUF\3\0\0\0", "llama-bench -o csv"),
}  # fmt: skip


LOGS: dict[str, tuple[object, str]] = {
    "vLLM's benchmark": ({"mean_ttft_ms": 3, "mean_tpot_ms": 2}, "python -m hilsim import"),
    "AI-Hub": ("models:\n- name: x\n  performance_metrics:\n  - device: y\n", "python -m hilsim import"),
    "a Markdown table": ("| model | test | t/s |\n|---|---|---|\n| x | pp512 | 3 |\n", "python -m hilsim import"),
}


def stranger(folder: Path, content: object) -> Path:
    file = folder / "what is it"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(("content", "use"), STRANGERS.values(), ids=STRANGERS)
def test_another_file_in_the_place_of_figures_is_recognised_and_the_way_on_is_named(
    content: object, use: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        read_measurements(stranger(tmp_path, content))
    (fault,) = caught.value.faults
    assert use in fault.remedy
    assert "python" not in fault.remedy or f"'{tmp_path}/what is it'" in fault.remedy  # as a shell takes it


@pytest.mark.parametrize(
    ("content", "use"),
    [(FIGURES, "validate --csv"), (FIGURES.encode("utf-16"), "validate --csv"), *STRANGERS.values(), *LOGS.values()],
    ids=["figures", "figures of a spreadsheet", *STRANGERS, *LOGS],
)
def test_another_file_in_the_place_of_a_log_is_recognised_too(content: object, use: str, tmp_path: Path) -> None:
    file = stranger(tmp_path, content)
    if content in (LOG, STRANGERS["a long step log"][0], STRANGERS["other JSON"][0]):
        return  # these are logs, or may be
    with pytest.raises(InputError) as caught:
        read_log(file)
    assert use in str(caught.value)


def test_shipped_files_are_what_they_are() -> None:
    for name, kind in {
        "chips/measurements/measured.csv": "measured figures (CSV)",
        "chips/measurements/example.csv": "measured figures (CSV)",
        "chips/measurements/traces/amusd_humaneval.json": "the step log of a two-device run (JSON)",
        "scenarios/orin_8295.yaml": "a scenario (YAML)",
        "scenarios/conversations/shift.jsonl": "conversations",
    }.items():
        found = kind_of(PROJECT / name)
        assert found is not None
        assert found.name == kind
    assert kind_of(PROJECT / "nothing-of-this-name.csv") is None
    assert kind_of(PROJECT) is None
