"""Logs of measuring tools: each example's rows by hand, what each lacks, and that nothing cut or edited is read.

The examples in imports/ are made up after the documented layouts, with numbers that can be reckoned in the head.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.errors import InputError
from hilsim.fidelity.from_file import calibrate, cases_of, families
from hilsim.fidelity.imported import Imported, import_logs
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.formats import FORMATS
from hilsim.fidelity.importers.log import Given, bits_of
from hilsim.fidelity.importers.plain_table import figure_of
from hilsim.fidelity.measurements import Measurement, read_figures
from hilsim.places import CODE as PROJECT

IMPORTS = Path(__file__).parent / "imports"
NAMED = Given(device="orin-nx-16gb", model="llama-3.2-3b", precision="w4")
NETWORK = Given(device="orin-nx-16gb", model="ours", precision="fp16", gmacs=30, params_b=0.1)
BENCH = Given(device="orin-nx-16gb")
FIVE = [
    ("llm_prefill", "tok_s", 640, 128), ("llm_prefill", "tok_s", 800, 512), ("llm_prefill", "tok_s", 780, 1024),
    ("llm_decode", "tok_s", 18, 65), ("llm_decode", "tok_s", 17.4, 1089),
]  # fmt: skip
# File: its format, what the user states, and the rows by hand: kind, metric, value, context.
EXAMPLES: dict[str, tuple[str, Given, list[tuple[str, str, float, int | None]]]] = {
    "llama_bench.csv": ("llama-bench", BENCH, FIVE),
    "llama_bench.json": ("llama-bench", BENCH, FIVE),
    "llama_bench.jsonl": ("llama-bench", BENCH, FIVE),
    "llama_bench.md": ("llama-bench-md", BENCH, FIVE),
    # A prompt of 300 tokens is three passes of a graph of 128 rows; 300 ms over three.
    "genie.json": (
        "genie", Given(device="sa8775p", model="llama-3.2-3b", precision="w4a16", context=4096, prompt_width=128),
        [("llm_decode", "tok_s", 40, 4096), ("llm_prefill", "ttft_ms", 100, 4096)],
    ),
    # Calls of 9.1, 6.0, 6.1 and 5.9 ms.
    "qnn.csv": ("qnn", NETWORK, [("network", "latency_ms", 6.05, None)]),
    "perf.yaml": (
        "perf-yaml", Given(), [
            ("llm_decode", "tok_s", 17, 4096), ("llm_prefill", "ttft_ms", 110, 4096),
            ("llm_decode", "tok_s", 3.5, 1024), ("llm_prefill", "ttft_ms", 370, 1024),
            ("network", "latency_ms", 7.9, None),
        ],
    ),
    "trtexec_times.json": ("trtexec-times", NETWORK, [("network", "latency_ms", 4.0, None)]),
    # Layers of 1, 2.5 and 0.5 ms.
    "trtexec_profile.json": ("trtexec-profile", NETWORK, [("network", "latency_ms", 4.0, None)]),
    # Answers of 128 tokens after prompts of 512: from 513 to 640 in the cache, 576 on average.
    "edge_llm.json": ("edge-llm", NAMED, [("llm_prefill", "ttft_ms", 128, 512), ("llm_decode", "tok_s", 50, 576)]),
    "vllm.json": (
        "vllm", Given(device="orin-nx-16gb", precision="fp16"),
        [("llm_prefill", "ttft_ms", 48, 512), ("llm_decode", "latency_ms", 20, 576)],
    ),
    "etdump.tsv": ("etdump", NETWORK, [("network", "latency_ms", 8.0, None)]),
    "table.md": (
        "table", Given(),
        [("llm_prefill", "ttft_ms", 520, 512), ("llm_decode", "tok_s", 38.1, 640), ("llm_decode", "tok_s", 18.9, 640)],
    ),
    "table.csv": ("table", Given(), [("llm_decode", "tok_s", 38.1, 640), ("llm_prefill", "ttft_ms", 520, 512)]),
}  # fmt: skip


def imported(*files: Path, given: Given = NAMED, format_name: str | None = None) -> Imported:
    return import_logs(files, given, format_name)


def used(found: Imported) -> list[Measurement]:
    return [row for one in found.files for row in one.used]


def changed(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """An example with texts replaced, each of which is there."""
    text = (IMPORTS / name).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def essence(rows: Sequence[Measurement]) -> list[tuple[object, ...]]:
    """All that a prediction depends on, and the account of it."""
    names = (
        "device", "model", "kind", "value", "metric", "precision", "params_b", "context", "batch", "runtime", "gmacs",
        "layers", "unit_kind", "note", "source", "gpu_layers", "case_id",
    )  # fmt: skip
    return [tuple(getattr(row, name) for name in names) for row in rows]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_rows_that_its_numbers_make_by_hand(name: str) -> None:
    title, given, expected = EXAMPLES[name]
    found = imported(IMPORTS / name, given=given)
    assert [(row.kind, row.metric, row.value, row.context) for row in used(found)] == expected
    assert found.files[0].title == next(one.title for one in FORMATS if one.name == title)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_format_recognises_its_own_examples_and_no_other(name: str) -> None:
    contents = Contents(name, (IMPORTS / name).read_text(encoding="utf-8"))
    assert [one.name for one in FORMATS if one.is_it(contents)] == [EXAMPLES[name][0]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_csv_that_is_written_reads_as_the_rows_that_were_imported(name: str, tmp_path: Path) -> None:
    found = imported(IMPORTS / name, given=EXAMPLES[name][1])
    file = tmp_path / "figures.csv"
    file.write_text(found.text, encoding="utf-8")
    assert essence(read_figures(file).rows) == essence(used(found))


def test_llama_bench_says_the_same_in_all_its_formats() -> None:
    """Markdown rounds the parameters and names no file; the rest is equal."""
    first, *others = (used(imported(IMPORTS / f"llama_bench.{form}", given=BENCH)) for form in ("csv", "json", "jsonl"))
    for rows in others:
        assert [row[:-1] for row in essence(rows)] == [row[:-1] for row in essence(first)]
    for row, same in zip(used(imported(IMPORTS / "llama_bench.md", given=BENCH)), first, strict=True):
        assert row.params_b == pytest.approx(same.params_b, rel=0.005)
        assert (row.precision, row.unit_kind, row.runtime) == (same.precision, same.unit_kind, same.runtime)


def test_rows_of_a_fixed_graph_keep_its_width_in_their_note() -> None:
    _, prompt = used(imported(IMPORTS / "genie.json", given=EXAMPLES["genie.json"][1]))
    assert prompt.prompt_tokens == 128
    assert used(imported(IMPORTS / "perf.yaml", given=Given()))[1].prompt_tokens == 128


LACKING = {
    "genie.json": "without a device, a model, a precision",
    "edge_llm.json": "without a device, a model, a precision",
    "qnn.csv": "without a device, a model, a precision",
    "trtexec_times.json": "without a device, a model, a precision",
    "etdump.tsv": "without a device, a model, a precision",
    "vllm.json": "without a device, a precision;",
    "llama_bench.json": "without a device (Orin is what its processor is called)",
}


@pytest.mark.parametrize(("name", "words"), LACKING.items())
def test_what_a_file_does_not_state_is_asked_for_by_name(name: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        imported(IMPORTS / name, given=Given())
    (fault,) = caught.value.faults
    assert words in str(fault)
    assert "--device NAME" in fault.expected
    # The control: a file that states all needs nothing.
    assert used(imported(IMPORTS / "perf.yaml", given=Given()))


JSONS = [name for name in EXAMPLES if name.endswith(".json")]


@pytest.mark.parametrize("name", JSONS)
def test_json_that_was_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    text = (IMPORTS / name).read_text(encoding="utf-8").rstrip()
    for end in range(1, len(text), max(1, len(text) // 12)):
        file = tmp_path / "cut.json"
        file.write_text(text[:end], encoding="utf-8")
        with pytest.raises(InputError, match="whole JSON"):
            imported(file, given=EXAMPLES[name][1])


TABLES = [name for name in EXAMPLES if name not in (*JSONS, "qnn.csv", "table.csv")]


@pytest.mark.parametrize("name", TABLES)
def test_of_a_table_or_yaml_that_was_cut_no_figure_is_read_that_the_whole_does_not_have(
    name: str, tmp_path: Path
) -> None:
    """A cut at a line's end cannot be seen, and half a file is fewer rows, never other ones. QNN's is a median."""
    _, given, expected = EXAMPLES[name]
    text = (IMPORTS / name).read_text(encoding="utf-8")
    known, refused = {value for _, _, value, _ in expected}, 0
    for end in range(1, len(text), max(1, len(text) // 60)):
        file = tmp_path / name
        file.write_text(text[:end], encoding="utf-8")
        try:
            assert {row.value for row in used(imported(file, given=given))} <= known, text[:end][-60:]
        except InputError:
            refused += 1
    assert refused > 10


# File, what is wrong in it, and what the message says.
WRONG = [
    ("genie.json", ('"value": 40.0', '"value": 400.0'), "figures that agree"),
    ("genie.json", ('"value": 300000,\n            "unit": "us"', '"value": 300000,\n            "unit": "h"'),
     "time-to-first-token.unit: found 'h'"),
    ("genie.json", ('"value": 40.0', '"value": -40.0'), "token-generation-rate.value: found -40.0"),
    ("genie.json", ("GenieDialog_query", "GenieDialog_reset"), "no event GenieDialog_query"),
    ("qnn.csv", ("QNN (execute) time", "QNN (finalize) time"), "sum of nothing"),
    ("qnn.csv", (",6000,", ",six,"), "line 15.time: found 'six'"),
    ("qnn.csv", (",EXECUTE,6000,US,BACKEND,ROOT,", ",EXECUTE,6000"), "a whole row"),
    ("perf.yaml", ("total: 254", "total: 250"), "the sum of its units"),
    ("perf.yaml", ("tokens_per_second: 17.0", "tokens_per_second: fast"), "found 'fast'"),
    ("perf.yaml", ("precisions:\n", "models:\n"), "the layout of 2024"),
    ("perf.yaml", ("context_length: 4096\n", "context_length: 4096\n                context_length: 1\n"), "context_l"),
    ("trtexec_times.json", ('"computeMs" : 4.2', '"computeMs" : 42.0'), "figures that agree"),
    ("trtexec_times.json", ('"endComputeMs" : 254.0', '"endComputeMs" : 24.0'), "an end after the start"),
    ("trtexec_profile.json", ('"percentage" : 62.5', '"percentage" : 2.5'), "Are layers missing?"),
    ("trtexec_profile.json", ('"averageMs" : 2.5', '"averageMs" : 25'), "figures that agree"),
    ("edge_llm.json", ('"tokens_per_second": 50.0', '"tokens_per_second": 5.0'), "figures that agree"),
    ("edge_llm.json", ('"average_time_per_run_ms": 128.0', '"average_time_per_run_ms": 12.8'), "figures that agree"),
    ("vllm.json", ('"duration": 25.9', '"duration": 2.59'), "figures that agree"),
    ("vllm.json", ('"completed": 10', '"completed": 0'), "completed: found 0"),
    ("etdump.tsv", ("p50 (ms)", "p50 (cycles)"), "p50 (ms), or in s, us or ns"),
    ("etdump.tsv", ("Method::execute", "Method::init"), "no event Method::execute"),
    ("etdump.tsv", ("\t8.0\t8.2", "\tnan\t8.2"), "found 'nan'"),
    ("llama_bench.md", ("tg128 @ d1024", "tg128 @ 1024"), "pp512, tg128 or tg128 @ d1024"),
    ("llama_bench.md", ("18.00 ± 0.10", "18,00 ± 0.10"), "found '18,00'"),
    ("table.md", ("| 38.1 |", "| 38,1 |"), "found '38,1'"),
    ("table.csv", ("decode_tok_s,38.1", "decode_tok_s,-38.1"), "found '-38.1'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "words"), WRONG, ids=lambda one: one[:30] if isinstance(one, str) else "")
def test_wrong_numbers_are_refused_with_their_place(
    name: str, change: tuple[str, str], words: str, tmp_path: Path
) -> None:
    if words == "sum of nothing":  # another event of the call stands in
        found = used(imported(changed(tmp_path, name, change), given=EXAMPLES[name][1]))
        assert [row.value for row in found] == [5.105]  # 5.3, 5.1, 5.11, 5.09: the accelerator with its waiting
        return
    with pytest.raises(InputError) as caught:
        imported(changed(tmp_path, name, change), given=EXAMPLES[name][1])
    assert words in str(caught.value)


# File, what makes a row unusable, and the reason.
UNUSED = [
    ("genie.json", ('"token-generation-rate"', '"token-acceptance-rate": {"value": 2.1, "unit": ""},\n'
                    '          "token-generation-rate"'), "it speculated (2.1 tokens a step)"),
    ("edge_llm.json", ('"reused_tokens": 0', '"reused_tokens": 64'), "64 tokens of its prompts were cached"),
    ("llama_bench.md", ("Q4_K - Medium", "Q6_K"), "weights in Q6_K are not modelled"),
    ("vllm.json", ('"max_concurrency": 1', '"max_concurrency": 8'), "requests overlapped (max_concurrency 8)"),
    ("vllm.json", ('"failed": 0', '"spec_decode_acceptance_rate": 0.6, "failed": 0'), "it speculated"),
    ("qnn.csv", ("EXECUTE,6100,", "EXECUTE,61000,"), "executions of 5.9 to 61 ms are of several graphs"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "reason"), UNUSED, ids=lambda one: one[:30] if isinstance(one, str) else "")
def test_rows_without_a_counterpart_are_left_out_with_the_reason(
    name: str, change: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    file = changed(tmp_path, name, change)
    try:
        reasons = {left.reason for left in imported(file, given=EXAMPLES[name][1]).files[0].unused}
    except InputError as error:  # no row is left
        reasons = {str(error)}
    assert any(reason in text for text in reasons)


def test_speculation_of_edge_llm_is_left_out_and_images_are_noted(tmp_path: Path) -> None:
    document = json.loads((IMPORTS / "edge_llm.json").read_text())
    document["eagle_generation"] = {
        "total_runs": 4, "total_iterations": 128, "average_acceptance_rate": 3.2,
        "overall_tokens_per_second_excluding_base_prefill": 90.0,
    }  # fmt: skip
    del document["generation"]
    document["multimodal"] = {"total_runs": 1, "average_time_per_token_ms": 0.2}
    file = tmp_path / "eagle.json"
    file.write_text(json.dumps(document))
    found = imported(file).files[0]
    assert [row.kind for row in found.used] == ["llm_prefill"]
    assert [left.reason for left in found.unused] == ["it speculated (3.2 tokens a step)"]
    assert "image token" in found.notes[0]


def test_without_the_width_of_the_prompt_graph_a_prompt_is_left_out(tmp_path: Path) -> None:
    found = imported(IMPORTS / "genie.json").files[0]
    assert [row.kind for row in found.used] == ["llm_decode"]
    assert "--prompt-width 128" in found.unused[0].reason


def test_a_device_chooses_among_those_that_a_file_names(tmp_path: Path) -> None:
    found = imported(IMPORTS / "perf.yaml", given=Given(device="sa8295p"))
    assert {(row.device, row.value) for row in used(found)} == {("sa8295p", 3.5), ("sa8295p", 370), ("sa8295p", 7.9)}
    assert {left.reason for left in found.files[0].unused} == {"it is of another device"}
    # A board of the same chip is taken where none is called like the chip itself.
    board = changed(tmp_path, "perf.yaml", ("          SA8775P ADP", "          Dragonwing IQ-9075 EVK"))
    assert [row.value for row in used(imported(board, given=Given(device="iq-9075")))] == [17, 110]
    with pytest.raises(InputError, match="of which the file has no row; expected one of SA8295P ADP, SA8775P ADP"):
        imported(IMPORTS / "perf.yaml", given=Given(device="orin-nx-16gb"))


def test_what_is_stated_may_not_contradict_the_file() -> None:
    with pytest.raises(InputError, match="--precision w8a8 beside 4/fp16"):
        imported(IMPORTS / "llama_bench.csv", given=Given(device="orin-nx-16gb", precision="w8a8"))
    for given, words in (
        (Given(model="ours"), "--model: found ours beside a file with Llama-v3.2-3B-Instruct, "),
        (Given(params_b=3), "--params: found 3 beside a file with Llama"),
        (Given(runtime="ours"), "--runtime: found ours beside a file with QNN (dlc), genie/QNN"),
        (Given(unit="gpu"), "--unit gpu beside npu"),
        (Given(kind="llm_decode"), "--kind: found files whose rows state it themselves"),
        (Given(prompt_width=128), "--prompt-width: found files"),
    ):
        with pytest.raises(InputError) as caught:
            imported(IMPORTS / "perf.yaml", given=given)
        assert words in str(caught.value)
    with pytest.raises(InputError, match="a number format such as w4"):
        imported(IMPORTS / "genie.json", given=Given(device="sa8775p", model="x", precision="quick"))


def test_a_table_in_our_own_columns_is_completed_like_a_log(tmp_path: Path) -> None:
    file = tmp_path / "ours.csv"
    file.write_text("model,kind,metric,value\nllama-3.2-3b,decode,t/s,38\n")
    with pytest.raises(InputError, match="without a device"):
        imported(file, given=Given())
    (row,) = used(imported(file))
    assert (row.device, row.precision, row.value) == ("orin-nx-16gb", "w4", 38)
    example = PROJECT / "chips/measurements/example.csv"
    assert len(used(imported(example, given=Given()))) == 4
    with pytest.raises(InputError, match="--precision w8a8 beside 4/fp16"):
        imported(example, given=Given(precision="w8a8"))


def test_passes_are_what_the_user_says_that_they_are() -> None:
    given = Given(device="sa8295p", model="llama-3.2-3b", precision="w4", kind="llm_decode", context=1024)
    (step,) = used(imported(IMPORTS / "qnn.csv", given=given))
    assert (step.kind, step.metric, step.value, step.context) == ("llm_decode", "latency_ms", 6.05, 1024)


def test_a_saved_data_frame_has_an_index_without_a_name(tmp_path: Path) -> None:
    lines = (IMPORTS / "etdump.tsv").read_text().splitlines()
    file = tmp_path / "etdump.csv"
    file.write_text("\n".join(f"{number - 1 if number else ''}\t{line}" for number, line in enumerate(lines)))
    assert [row.value for row in used(imported(file, given=NETWORK))] == [8.0]


PRECISIONS = {
    "w4": ("4", "fp16"), "W4A16": ("4", "16"), "w8a8": ("8", "8"), "16a4w": ("4", "16"), "int4": ("4", "fp16"),
    "INT4 AWQ": ("4", "fp16"), "Q4_K_M": ("4", "fp16"), "q4_0": ("4", "fp16"), "Q8_0": ("8", "8"),
    "bf16": ("fp16", "fp16"), "float": ("fp16", "fp16"), "fp16": ("fp16", "fp16"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "bits"), PRECISIONS.items())
def test_precisions_are_bits_of_weights_and_activations(text: str, bits: tuple[str, str]) -> None:
    assert bits_of(text) == bits


def test_figures_of_several_units_in_one_run_stay_apart(tmp_path: Path) -> None:
    other = """desired_compute_unit: npu
              - context_length: 4096
                tokens_per_second: 12.0
                time_to_first_token_range_milliseconds: {min: 300.0, max: 9600.0}
                desired_compute_unit: gpu
  w4:"""
    file = changed(tmp_path, "perf.yaml", ("desired_compute_unit: npu\n  w4:", other))
    rows = used(imported(file, given=Given(device="sa8775p")))
    assert [(row.unit_kind, row.value) for row in rows] == [("npu", 17), ("npu", 110), ("gpu", 12), ("gpu", 300)]


SETTINGS = {
    "4096": (4096, 1, ""), "ctx 4096; warm": (4096, 1, "ctx 4096; warm"),
    "batch 8; 2048-token prompt": (2048, 8, "batch 8; 2048-token prompt"),
    "512 tokens in cache": (512, 1, "512 tokens in cache"), "quiet": (None, 1, "quiet"), "": (None, 1, ""),
}  # fmt: skip


@pytest.mark.parametrize(("cell", "meaning"), SETTINGS.items())
def test_a_context_in_words_is_its_tokens_and_batch_and_stays_in_the_note(
    cell: str, meaning: tuple[object, ...], tmp_path: Path
) -> None:
    file = changed(tmp_path, "table.csv", ("ctx 640; warm", cell))
    row = used(imported(file, given=Given()))[0]
    assert (row.context, row.batch, row.note) == meaning


def test_requests_that_shared_their_steps_are_left_out(tmp_path: Path) -> None:
    found = imported(changed(tmp_path, "table.csv", ("ctx 640; warm", "concurrency 8")), given=Given()).files[0]
    assert [left.reason for left in found.unused] == ["8 requests shared its steps"]
    alone = imported(changed(tmp_path, "table.csv", ("ctx 640; warm", "concurrency 1")), given=Given()).files[0]
    assert alone.unused == ()


def test_boards_that_are_not_described_are_written_and_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = changed(tmp_path, "perf.yaml", ("SA8775P ADP", "Samsung Galaxy S19"))
    assert main(["import", str(file)]) == 0
    told = capsys.readouterr()
    assert told.out.count("Samsung Galaxy S19") == 2
    assert "lines 14, device: 'Samsung Galaxy S19'" in " ".join(told.err.split())


HEADERS = {
    "decode tok/s": ("llm_decode", "tok_s", 1), "Generation (t/s)": ("llm_decode", "tok_s", 1),
    "output tokens/sec": ("llm_decode", "tok_s", 1), "TPOT ms": ("llm_decode", "latency_ms", 1),
    "time per output token (s)": ("llm_decode", "latency_ms", 1e3), "prefill tok/s": ("llm_prefill", "tok_s", 1),
    "pp t/s": ("llm_prefill", "tok_s", 1), "TTFT (s)": ("llm_prefill", "ttft_ms", 1e3),
    "time to first token (s)": ("llm_prefill", "ttft_ms", 1e3), "time to first token ms": ("llm_prefill", "ttft_ms", 1),
    "latency (us)": ("network", "latency_ms", 1e-3), "inference time [ms]": ("network", "latency_ms", 1),
    "tok/s": None, "prompt tokens": None, "TTFT": None, "latency": None, "temperature": None, "status": None,
}  # fmt: skip


@pytest.mark.parametrize(("header", "meaning"), HEADERS.items())
def test_a_header_is_a_figure_where_it_says_what_and_in_which_unit(header: str, meaning: object) -> None:
    assert figure_of(header) == meaning


FOREIGN = {
    "nothing": (b"", "an empty file"),
    "blanks": (b" \n\n", "an empty file"),
    "a program": (b"import sys\nprint(sys.argv)\n", "a kind that is not known"),
    "a scenario": ((PROJECT / "scenarios/orin_8295.yaml").read_bytes(), "a scenario"),
    "other JSON": (b'{"a": 1}', "Its keys begin with a"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
    "no text": (b"\xff\xfe\xfd", "found"),
    "a header alone": (b"Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier\n",
                       "no event that times an execution"),
    "an empty list": (b"[]", "whole JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_by_the_command_and_nothing_is_written(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "what is it", tmp_path / "out.csv"
    file.write_bytes(content)
    assert main(["import", str(file), str(IMPORTS / "perf.yaml"), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""
    assert not out.exists()


def test_the_command_prints_csv_alone_and_the_account_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(IMPORTS / name) for name in ("perf.yaml", "table.md")]
    assert main(["import", *files]) == 0
    told = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(told.out)))
    assert len(rows) == 8
    assert len({row["case_id"] for row in rows}) == 8
    account = " ".join(told.err.split())
    assert "table.md: a table of figures: 3 rows" in account
    assert "columns that were not read: operator" in account
    assert "8 rows, of which validate compares 7" in account
    assert "its number of operations is not known" in account


def test_a_format_can_be_named_and_a_wrong_name_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(IMPORTS / "vllm.json"), "--format", "nsys"]) == 2
    told = capsys.readouterr().err
    assert all(one.name in told for one in FORMATS)
    with pytest.raises(InputError, match="no event GenieDialog_query"):
        imported(IMPORTS / "vllm.json", format_name="genie")


def test_one_case_in_two_files_may_not_have_two_values(tmp_path: Path) -> None:
    other = changed(tmp_path, "table.csv", ("decode_tok_s,38.1", "decode_tok_s,48.1"))
    with pytest.raises(InputError, match="one value a case"):
        imported(IMPORTS / "table.csv", other, given=Given())


def test_a_chip_file_that_was_fitted_to_a_runtime_s_rows_predicts_them_as_the_fit_did(tmp_path: Path) -> None:
    """llama.cpp reaches 0.45 of the memory rate; the file's rate is what it reached, with no second share."""
    log = IMPORTS / "llama_bench.csv"
    fit = calibrate(log, chip="orin-nx-16gb", name="mine")
    file = tmp_path / "mine.yaml"
    file.write_text(fit.text, encoding="utf-8")
    cases, left = cases_of(read_figures(log, str(file)).rows)
    assert left == []
    errors = [case.seconds(case.unit(families())) / case.measured - 1 for case in cases]
    # The file has four digits of each constant.
    assert errors == pytest.approx(list(fit.calibration.errors), abs=2e-3)
    # The control: on the shipped chip, whose rates are those of the quickest kernels, the share is taken.
    shipped, _ = cases_of(read_figures(log, "orin-nx-16gb").rows)
    assert all(case.runtime is not None for case in shipped)


def test_validate_and_calibrate_take_a_log_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log that states what its rows need; of any other the message has the command that adds it."""
    for name, chip in (("perf.yaml", "sa8295p"), ("llama_bench.md", "orin-nx-16gb")):
        file = tmp_path / "figures.csv"
        file.write_text(imported(IMPORTS / name, given=Given(device=chip)).text)
        direct = [row for row in read_figures(IMPORTS / name, chip).rows if not row.forbidden]
        assert essence(direct) == essence(read_figures(file).rows)
    assert main(["calibrate", str(IMPORTS / "llama_bench.md"), "--chip", "orin-nx-16gb"]) == 0
    assert "units.gpu.precisions.w4.memory_rate" in capsys.readouterr().out
    assert main(["calibrate", str(IMPORTS / "genie.json"), "--chip", "sa8775p"]) == 2
    assert "hilsim import" in capsys.readouterr().err
