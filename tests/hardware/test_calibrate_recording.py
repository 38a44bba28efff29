"""Chip files from recordings: known constants come back, open ones are named, nonsense shows, and faults are told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.chip import Chip, RatePoint, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.model import Model
from hilsim.hardware.measured.profile import ProfileGrid, asks
from hilsim.hardware.wire.exchange import ModelFacts
from hilsim.places import CODE as PROJECT
from tests.recordings import HERE, as_the_chip, facts_of, recorded, unit_of

STAND_INS = [facts_of(f"stand-in-{name}") for name in ("target", "draft-0.8m", "draft-0.2m")]


def figure(value: float, unit: str) -> Figure:
    return Figure(value=value, unit=unit, kind="assumed", source="a test's own truth")


def true_unit() -> Unit:
    """This computer's CPU with other constants than the shipped file's, which is where a fit begins."""
    unit = unit_of("computer-cpu", "cpu")
    points = tuple(
        RatePoint(rows=rows, rate=figure(rate, "GFLOPS")) for rows, rate in ((2, 80), (8, 110), (16, 125), (64, 140))
    )
    changed = {"memory_rate": figure(60, "GB/s"), "cache_rate": figure(8, "GB/s"), "operation_rates": points,
               "attention_rate": figure(35, "GFLOPS")}  # fmt: skip
    precision = unit.precisions["fp32"].model_copy(update=changed)
    overheads = {"step_overhead": 0.09, "layer_overhead": 0.13, "wide_layer_overhead": 0.02}
    return unit.model_copy(
        update={name: figure(value, "ms") for name, value in overheads.items()} | {"precisions": {"fp32": precision}}
    )


def calibrated(tmp_path: Path, file: Path, *options: str, chip: str = "computer-cpu") -> Chip:
    """The chip file that the command writes, loaded as any other."""
    out = tmp_path / "board.yaml"
    assert main(["calibrate", str(file), "--chip", chip, "--out", str(out), *options]) == 0
    return load_chip(str(out), HERE)


def errors(unit: Unit, truth: Unit, precision: str, facts: Sequence[ModelFacts], shapes: Sequence[Step]) -> list[float]:
    """How far off the calibrated unit is from the truth at shapes of one's own."""
    found = []
    for one in facts:
        model = load_named("model", Model, one.name, HERE)
        said, true = (Roofline(model, here, precision, one.widths, one.context) for here in (unit, truth))
        found += [abs(said.duration_ns(step) / true.duration_ns(step) - 1) for step in shapes]
    return found


UNSEEN = [
    Step(Phase.DECODE, 1, 300), Step(Phase.VERIFY, 3, 77), Step(Phase.VERIFY, 6, 200), Step(Phase.VERIFY, 12, 90),
    Step(Phase.PREFILL, 40, 0), Step(Phase.PREFILL, 100, 60),
]  # fmt: skip


def test_the_constants_that_made_a_recording_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 % noise, medians of 3: constants to 10 % (what one more than the other takes of a step is small), times to 3 %.

    Attention and cache are told apart only by long caches, so they are given 25 %.
    """
    truth = true_unit()
    file = recorded(tmp_path / "a.jsonl", STAND_INS, as_the_chip(truth, "fp32", STAND_INS), noise=0.02)
    chip = calibrated(tmp_path, file)
    unit = chip.units["cpu"]
    for name, within in (("step_overhead", 0.1), ("layer_overhead", 0.1), ("wide_layer_overhead", 0.35)):
        assert getattr(unit, name).si == pytest.approx(getattr(truth, name).si, rel=within), name
    mine, theirs = unit.precisions["fp32"], truth.precisions["fp32"]
    for name, within in (("memory_rate", 0.1), ("cache_rate", 0.25), ("attention_rate", 0.25)):
        assert getattr(mine, name).si == pytest.approx(getattr(theirs, name).si, rel=within), name
    assert max(errors(unit, truth, "fp32", STAND_INS, UNSEEN)) < 0.03
    # What it says of itself: the noise is 2 %, and the ranges hold the truth.
    assert "mean 1%" in chip.residuals
    assert all(found.kind == "fitted" for found in (unit.layer_overhead, mine.memory_rate) if found is not None)
    low, high = mine.memory_rate.range or (0, 0)
    assert low <= 60 <= high
    assert "198 steps recorded on rig, a.jsonl, 20" in mine.memory_rate.source  # 22 shapes of 3 models, 3 times
    assert (chip.name, chip.memory) == ("board", load_chip("computer-cpu", HERE).memory)
    assert "prompt_layer_overhead" in capsys.readouterr().out  # there is none, so steps cannot tell it


def test_a_recording_of_one_model_says_what_it_leaves_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one model a step costs a sum: what of it is a layer's, a weight's or nobody's cannot be told."""
    truth, facts = true_unit(), STAND_INS[:1]
    chip = calibrated(tmp_path, recorded(tmp_path / "a.jsonl", facts, as_the_chip(truth, "fp32", facts), noise=0.02))
    told = " ".join(capsys.readouterr().out.split())
    assert "Left as in the file, as these steps do not determine them:" in told
    left = told.partition("do not determine them: ")[2].partition(".")[0].split(", ")
    shipped = load_chip("computer-cpu", HERE).units["cpu"]
    for name in left:
        if name.endswith("overhead"):
            assert getattr(chip.units["cpu"], name) == getattr(shipped, name)
    assert {"step_overhead", "layer_overhead", "memory_rate"} & set(left)
    assert max(errors(chip.units["cpu"], truth, "fp32", facts, UNSEEN)) < 0.05


def test_steps_of_one_row_leave_all_operation_rates_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ProfileGrid(rows=(1,), cached=(0, 128, 512), prompts=(1,))
    took = as_the_chip(true_unit(), "fp32", STAND_INS)
    chip = calibrated(tmp_path, recorded(tmp_path / "a.jsonl", STAND_INS, took, grid=grid))
    assert "all operation rates" in capsys.readouterr().out
    shipped = load_chip("computer-cpu", HERE).units["cpu"].precisions["fp32"]
    assert chip.units["cpu"].precisions["fp32"].operation_rates == shipped.operation_rates


def test_a_board_without_overheads_is_not_given_those_of_the_file(tmp_path: Path) -> None:
    """Steps hardly tell 0.2 us from 2; that they are not the file's 30 and 60 us they tell well."""
    slim = true_unit().model_copy(
        update=dict.fromkeys(("step_overhead", "layer_overhead", "wide_layer_overhead"), figure(0.0002, "ms"))
    )
    facts, grid = STAND_INS[1:], ProfileGrid(rows=(1, 4, 32), cached=(0, 512), prompts=(64,))
    chip = calibrated(tmp_path, recorded(tmp_path / "a.jsonl", facts, as_the_chip(slim, "fp32", facts), grid=grid))
    seen = [Step(Phase.DECODE, 1, 200), Step(Phase.VERIFY, 4, 100), Step(Phase.PREFILL, 64, 0)]
    assert max(errors(chip.units["cpu"], slim, "fp32", facts, seen)) < 0.1


def test_times_of_other_shapes_give_a_bad_residual(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: the same times, dealt out anew over the shapes. No constants make sense of them, and it is said."""
    grid, facts = ProfileGrid(rows=(1, 4, 32), cached=(0, 512), prompts=(64,)), STAND_INS[:2]
    took, shapes = as_the_chip(true_unit(), "fp32", facts), asks(facts, grid)
    times = list(map(took, shapes))
    random.Random(3).shuffle(times)
    dealt = dict(zip(shapes, times, strict=True))
    file = recorded(tmp_path / "a.jsonl", facts, lambda ask: dealt[ask], grid=grid, repeats=1)
    out = tmp_path / "board.yaml"
    assert main(["calibrate", str(file), "--chip", "computer-cpu", "--out", str(out)]) == 1
    assert "No constants fit these steps." in " ".join(capsys.readouterr().out.split())
    worst = load_chip(str(out), HERE).residuals.replace("%", " ").split()
    assert min(int(share) for before, share in pairwise(worst) if before == "mean") > 30


@pytest.mark.parametrize(
    ("chip", "unit", "precision", "model", "widths"),
    [("sa8295p", "npu", "w4", "llama-3.2-1b", (1, 8, 128)), ("drive-orin-x", "gpu", "w4", "qwen2.5-0.5b", None)],
)
def test_steps_of_shipped_chips_are_met_by_their_own_form(
    chip: str, unit: str, precision: str, model: str, widths: tuple[int, ...] | None, tmp_path: Path
) -> None:
    """Compiled widths, tiles, narrow kernels, families: a board that is 30 % slower than its file is found to be so."""
    facts, truth = [facts_of(model, 1024, widths)], unit_of(chip, unit)
    took = as_the_chip(truth, precision, facts)
    rows = None if widths is not None else (1, 3, 8, 16, 128)
    file = recorded(
        tmp_path / "a.jsonl",
        facts,
        lambda ask: 1.3 * took(ask),
        noise=0.01,
        grid=ProfileGrid(rows, (0, 768), (32, 256)),
    )
    made = calibrated(tmp_path, file, "--unit", unit, "--precision", precision, chip=chip)
    there = made.units[unit]
    named = load_named("model", Model, model, HERE)
    for step in UNSEEN:
        said = Roofline(named, there, precision, widths, 1024).duration_ns(step)
        assert said == pytest.approx(1.3 * took_of(truth, precision, named, widths, step), rel=0.06), step


def took_of(unit: Unit, precision: str, model: Model, widths: tuple[int, ...] | None, step: Step) -> int:
    return Roofline(model, unit, precision, widths, 1024).duration_ns(step)


def test_other_names_are_given_by_model_arguments(tmp_path: Path) -> None:
    facts = [
        ModelFacts("verifier", 2048, 1024, None, ("tokens",)),
        ModelFacts("drafter", 2048, 1024, None, ("tokens",)),
    ]
    described = {"verifier": "stand-in-target", "drafter": "stand-in-draft-0.8m"}
    grid = ProfileGrid(rows=(1, 8), cached=(0, 512), prompts=(64,))
    file = recorded(tmp_path / "a.jsonl", facts, as_the_chip(true_unit(), "fp32", facts, described), grid=grid)
    options = [word for pair in described.items() for word in ("--model", "=".join(pair))]
    assert calibrated(tmp_path, file, *options).units["cpu"].precisions["fp32"].memory_rate.kind == "fitted"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of a model that nobody has described, and of one of another vocabulary than it is called after."""
    facts = [ModelFacts("mine", 2048, 64, None, ("tokens",)), ModelFacts("qwen3-8b", 2048, 64, None, ("tokens",))]
    grid = ProfileGrid(rows=(1, 2), cached=(0,), prompts=(8,))
    return recorded(tmp_path_factory.mktemp("strangers") / "a.jsonl", facts, lambda ask: 1e6, grid=grid, repeats=1)


CPU = ("--chip", "computer-cpu")
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "models": (
        CPU,
        ("model mine: found no described model of that name", "vocabulary of 2048 entries; expected 151936"),
    ),
    "no such model": ((*CPU, "--model", "mine=nothing"), ("--model: model: found 'nothing'", "expected one of")),
    "no model of it": (
        (*CPU, "--model", "yours=qwen3-8b"),
        ("found no model of", "with one of mine, qwen3-8b before it"),
    ),
    "units": (("--chip", "sa8295p"), ("--unit: found nothing; expected one of npu, gpu, cpu",)),
    "no such unit": (("--chip", "sa8295p", "--unit", "tpu"), ("--unit: found 'tpu'; expected one of npu",)),
    "precisions": (("--chip", "sa8295p", "--unit", "npu"), ("--precision: found nothing; expected one of",)),
    "a family": (("--family", "orin"), ("--family: found a recording; expected --chip alone",)),
    "a constant": ((*CPU, "--fit", "step_overhead"), ("--fit: found a recording",)),
    "a name": ((*CPU, "--out", "x.txt"), ("--out: found a name that no chip file may have",)),
}  # fmt: skip


@pytest.mark.parametrize(("options", "expected"), REFUSED.values(), ids=list(REFUSED))
def test_what_does_not_go_with_a_recording_is_refused(
    options: tuple[str, ...], expected: tuple[str, ...], strangers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(strangers), *options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    for words in expected:
        assert words in told.err


def test_what_belongs_to_recordings_is_refused_with_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "chips/measurements/example.csv", "--chip", "orin-nx-16gb", "--model", "a=b"]) == 2
    assert "--model: found measurements; expected a recording (.jsonl)" in capsys.readouterr().err


def test_a_recording_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    assert main(["calibrate", str(tmp_path / "a.jsonl"), *CPU]) == 2
    assert "expected a recording" in capsys.readouterr().err


def test_a_rate_beyond_the_memorys_peak_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A board that reads its weights at 60 GB/s, on a chip whose memory has 40."""
    slow = tmp_path / "slow.yaml"
    text = (PROJECT / "chips" / "computer-cpu.yaml").read_text(encoding="utf-8")
    slow.write_text(
        text.replace(
            "value: 400, unit: GB/s, kind: assumed, range: [100, 1000]", "value: 40, unit: GB/s, kind: assumed"
        )
    )
    file = recorded(tmp_path / "a.jsonl", STAND_INS, as_the_chip(true_unit(), "fp32", STAND_INS))
    assert main(["calibrate", str(file), "--chip", str(slow)]) == 2
    assert "expected at most the peak of computer-cpu, 40 GB/s" in capsys.readouterr().err


CHIPS = sorted(file.stem for file in (PROJECT / "chips").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in CHIPS if not name.endswith("computer-cpu")])
def test_chips_without_a_cost_of_wide_passes_take_what_they_took(name: str) -> None:
    """To the last bit: the same as with that cost at zero, which nobody's file has."""
    model = load_named("model", Model, "llama-3.2-1b", HERE)
    for unit in load_chip(name, HERE).units.values():
        assert unit.wide_layer_overhead is None
        nothing = unit.model_copy(update={"wide_layer_overhead": figure(0, "ms")})
        widths = None if unit.widths is None else unit.widths.value
        for precision in unit.precisions:
            for step in UNSEEN:
                here, there = (Roofline(model, one, precision, widths, 1024).costs(step) for one in (unit, nothing))
                assert here == there


def test_a_wide_pass_costs_so_much_a_layer_more_and_a_narrow_one_nothing() -> None:
    unit, model = unit_of("computer-cpu", "cpu"), load_named("model", Model, "stand-in-target", HERE)
    plain, costly = (unit.model_copy(update={"wide_layer_overhead": figure(value, "ms")}) for value in (0, 0.5))
    for step, more_ns in ((Step(Phase.DECODE, 1, 10), 0), (Step(Phase.VERIFY, 2, 10), 3_000_000),
                          (Step(Phase.PREFILL, 9, 0), 3_000_000)):  # fmt: skip
        took = [Roofline(model, one, "fp32", None, 1024).duration_ns(step) for one in (plain, costly)]
        assert took[1] - took[0] == pytest.approx(more_ns, abs=1)
