"""What precisions cost in text: shares and intervals by arithmetic, fp32 as itself, the docs' table measured anew."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import main
from hilsim.describe.catalogue import described, load_chip
from hilsim.describe.known_quality import quality_record, quality_text
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.rounding import COMPARED, FLOAT, rounding_of
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.study.quality import Answered, QualityMeasurement, Share, load_measurable, whole_answers
from tests.documents import document_of

ORIN = PROJECT / "scenarios/orin_8295.yaml"
DOCS = PROJECT / "docs/quantisation.md"


def floats(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)


def test_shares_are_ratios_of_sums_and_their_intervals_hold_them() -> None:
    assert Share(floats(1, 3), floats(2, 6)).value == 0.5
    assert Share(floats(1, 3), floats(2, 6)).interval == (0.5, 0.5)  # both conversations alike
    assert Share(floats(2, 4), floats(1, 2), exponential=True).value == pytest.approx(np.exp(2))
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):  # shares of 60 conversations whose own is 0.7 on average
        counts = random.integers(5, 20, 60)
        low, high = Share(random.binomial(counts, 0.7).astype(float), counts.astype(float)).interval
        held += low <= 0.7 <= high
    assert 180 <= held <= 199  # 95 %, within three standard errors


def test_whole_answers_are_counted_as_enumerated() -> None:
    one = Answered(np.arange(10), (range(2, 4), range(6, 9)))
    assert one.before.tolist() == [1, 2, 5, 6, 7]
    for wrong, whole in (((), 2), ((0,), 1), ((4,), 1), ((1, 2), 0)):
        same = np.array([place not in wrong for place in range(5)])
        assert whole_answers([one], [same]).value == whole / 2


def test_bits_beyond_whole_ones_are_scales_of_groups() -> None:
    chips = {name: load_chip(name, PROJECT / "scenarios") for name in ("sa8295p", "drive-orin-x")}
    today = rounding_of("w4", chips["sa8295p"].units["npu"].precisions["w4"])
    assert (today.weight_bits, today.head_bits, today.scales, today.activations) == (4, 8, "channel", "fp16")
    grouped = rounding_of("w4", chips["drive-orin-x"].units["gpu"].precisions["w4"])
    assert (grouped.weight_bits, grouped.scales, grouped.group) == (4, "group", 64)  # 4.25 bits
    half = rounding_of("fp16", chips["sa8295p"].units["npu"].precisions["fp16"])
    assert (half.weight_bits, half.weights_by, half.inputs_by) == (16, "", "")


@pytest.fixture(scope="module")
def small() -> QualityMeasurement:
    return load_measurable(ORIN, [], 2, 1)


def test_float32_is_itself_and_rounding_is_seen(small: QualityMeasurement) -> None:
    exact = small.of("target", FLOAT)
    assert (exact.tokens.value, exact.answers.value, exact.against_float.value) == (1.0, 1.0, 1.0)
    w4 = next(one for one in COMPARED if one.name == "w4a16" and one.scales == "tensor")
    rounded = small.of("target", w4)
    assert rounded.tokens.value < 1  # the control
    assert rounded.answers.value < 1
    assert rounded.against_float.value > 1
    assert exact.acceptance is not None
    assert 0 < exact.acceptance.value < 1


def test_a_draft_that_is_its_target_is_always_accepted(small: QualityMeasurement) -> None:
    assert small.acceptance(small.answers, small.answers).value == pytest.approx(1.0)


def table_of_the_docs() -> dict[tuple[str, str, str], float]:
    """Perplexity by precision and what shares scales, as the docs have it."""
    found = {}
    for line in DOCS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| target |"):
            found[cells[1], cells[2], cells[3]] = float(cells[4])
    return found


@pytest.mark.slow
def test_the_table_of_the_docs_is_what_is_measured() -> None:
    measurement = load_measurable(ORIN, [], 2, 12)
    known = table_of_the_docs()
    assert len(known) == len(COMPARED)
    for rounding in (FLOAT, *[one for one in COMPARED if one.name in ("w8a8", "w4a16")]):
        value = measurement.perplexity(measurement.rounded("target", rounding)).value
        stated = known[rounding.name, rounding.weights_by or "-", rounding.inputs_by or "-"]
        assert value == pytest.approx(stated, rel=2e-3)


@pytest.mark.slow
def test_the_command_prints_a_document_and_writes_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [f"--csv={tmp_path / 'q.csv'}", f"--plot={tmp_path / 'q.svg'}"]
    assert main(["quality", str(ORIN), "--conversations", "2", "--dialogues", "1", "--json", *files]) == 0
    document = document_of("quality --json", capsys.readouterr().out)
    rows = document["precisions"]
    assert [row["precision"] for row in rows if not row["deployed"] and row["role"] == "target"] == [
        one.name for one in COMPARED
    ]
    assert [(row["role"], row["precision"], row["draft"]) for row in rows if row["deployed"]] == [
        ("target", "w4", "w4"), ("draft", "w4", None),
    ]  # fmt: skip
    for row in rows:
        assert row["tokens_low"] <= row["tokens"] <= row["tokens_high"]
    assert {row["role"] for row in document["activations"]} == {"target", "draft"}
    with (tmp_path / "q.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert (tmp_path / "q.svg").stat().st_size > 1000


@pytest.mark.parametrize(("scenario", "part"), [
    ("paper_table", "logits.source"), ("voice_orin_nano", "logits.source"),
])  # fmt: skip
def test_scenarios_without_stand_ins_are_refused(scenario: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_measurable(PROJECT / f"scenarios/{scenario}.yaml", [], 2, 1)


# What deployed models state.


def test_a_figure_is_stated_or_that_none_is_known() -> None:
    setup = load_setup(ORIN)
    assert quality_text(setup.target).startswith("quality of w4: none known; of w4a8: MMLU (5-shot) 60.5 against 63.4")
    assert "of its stand-in: perplexity" in quality_text(setup.target)
    assert quality_record(setup.target)["of"] == "w4a8"
    assert setup.draft is not None
    assert quality_text(setup.draft).startswith("quality of w4: none known; of its stand-in:")
    assert quality_record(setup.draft)["figure"] is None
    half = load_setup(ORIN, ["target.precision=fp16"])
    assert quality_text(half.target) == "quality of fp16: taken as the model's own"


def test_figures_are_in_no_digest_and_every_one_has_a_source() -> None:
    models = described("model", Model)
    known = {model.name: model.quality for model in models if model.quality}
    assert len(known) >= 7
    assert all(figure.source and figure.kind == "measured" for one in known.values() for figure in one.values())
    assert all("quality" not in model.model_dump_json() for model in models)


def test_a_figure_without_its_source_is_refused(tmp_path: Path) -> None:
    text = (PROJECT / "models/llama-3-8b.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("name: llama-3-8b", "name: mine", 1).replace("kind: measured,", "kynd: measured,", 1))
    with pytest.raises(InputError, match="kynd"):
        load_setup(ORIN, [f"target.model={file}"])
