"""Step times drawn from the residuals of their class: shares by theory, and nothing that is uncertain counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import network_ns, timer_for
from hilsim.describe.catalogue import load_chip
from hilsim.describe.digest import digest
from hilsim.describe.setup import Setup, StepFactors
from hilsim.fidelity import confidence
from hilsim.fidelity.confidence import interval_on
from hilsim.fidelity.kept_errors import KeptErrors
from hilsim.runs.run import Sources
from hilsim.study.step_classes import StepClasses, generator_of_scores, reference_steps, scores_for, step_classes
from hilsim.study.uncertainty import in_use, uncertainty, with_values
from tests.scenes import PROJECT, shipped, table_setup

SHORT = ("logits={source: synthetic, acceptance: 0.7}", "workload={requests: 3, prompt_tokens: 20, output_tokens: 12}")
DRAWS = 20_000


def forget() -> None:
    """What other errors gave."""
    for cached in (confidence.interval, confidence.strays):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    forget()


def on_orin() -> StepClasses:
    """A target on a GPU of a known device, whose rounds of speculation were measured; its draft on an NPU."""
    return step_classes(shipped("swapped", *SHORT))


def step_ns(setup: Setup, role: str, kind: str) -> int:
    """The time of the reference step of a kind."""
    step = reference_steps(setup, role)[kind]
    return timer_for(setup.roles[role], setup.scenario.context_tokens).duration_ns(step)


def factors(classes: StepClasses) -> dict[tuple[str, str], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Drawn factors by role and kind."""
    chance = generator_of_scores(5)
    drawn = [scores_for(classes.keys, chance) for _ in range(DRAWS)]
    return {
        (one.part, one.kind): np.array(one.residuals.at([one.share(scores) for scores in drawn]))
        for one in classes.found
        if one.part == "target"
    }


def test_drawn_factors_lie_in_the_interval_of_their_class_eight_times_of_ten_and_go_together_as_its_rows_do() -> None:
    """Of 20,000 draws a share of 0.8 (0.1 below, 0.1 above) within four standard deviations: 0.0113 (0.0085)."""
    classes = step_classes(shipped("orin_8295", *SHORT))
    found = factors(classes)
    assert {kind for _, kind in found} >= {"decode", "prompt"}
    for one in (one for one in classes.found if one.part == "target"):
        values = found[one.part, one.kind]
        inside = (values >= one.interval.low) & (values <= one.interval.high)
        assert inside.mean() == pytest.approx(0.8, abs=0.0113)
        assert (values < one.interval.low).mean() == pytest.approx(0.1, abs=0.0085)
    # Rank correlation of normal scores with correlation c: 6 / pi asin(c / 2); its error is below 1 / sqrt(draws).
    prompt = next(one for one in classes.found if (one.part, one.kind) == ("target", "prompt"))
    ranks = [np.argsort(np.argsort(found["target", kind])) for kind in ("decode", "prompt")]
    expected = 6 / np.pi * np.arcsin(prompt.correlation / 2)
    assert expected == pytest.approx(0.60, abs=0.01)  # of the 65 pairs of device and model on NPUs, by hand
    assert np.corrcoef(*ranks)[0, 1] == pytest.approx(expected, abs=4 / np.sqrt(DRAWS))


def test_a_reference_step_takes_as_predicted_times_its_factor_whatever_the_figures_do() -> None:
    """To a nanosecond for rounding; the negative control is the step under the same figures and no factors."""
    classes = on_orin()
    setup = classes.setup
    assert {one.kind for one in classes.found if one.part == "target"} == {"decode", "prompt", "verify"}
    given = {(one.part, one.kind): 1.1 + 0.1 * place for place, one in enumerate(classes.found)}
    other = with_values(setup, {path: (one, one.range[1]) for path, one in in_use(setup).items() if one.range})
    held = classes.held(other, given)
    moved = 0
    for one in classes.found:
        wanted = given[one.part, one.kind]
        if one.kind == "verify":  # over decode steps
            wanted *= given[one.part, "decode"]
        predicted = step_ns(setup, one.part, one.kind)
        assert step_ns(held, one.part, one.kind) == pytest.approx(wanted * predicted, rel=1e-6)
        moved += step_ns(other, one.part, one.kind) != pytest.approx(predicted, rel=1e-3)
    assert moved
    assert classes.held(setup, {}) == setup
    assert digest(held) != digest(other)  # caches of runs go by it


def test_a_verify_without_a_class_keeps_the_ratio_to_a_decode_step_that_the_figures_draw() -> None:
    """SA8295P: what a pass of 8 rows costs beyond one row is an assumption with a range, which must not be lost."""
    classes = step_classes(shipped("orin_8295", *SHORT))
    setup = classes.setup
    assert "verify" not in {one.kind for one in classes.found}
    path = next(path for path in in_use(setup) if path.endswith("npu.prompt_layer_overhead"))
    figure = in_use(setup)[path]
    assert figure.range is not None
    other = with_values(setup, {path: (figure, figure.range[1])})
    held = classes.held(other, {("target", "decode"): 1.3})

    def ratio(of: Setup) -> float:
        return step_ns(of, "target", "verify") / step_ns(of, "target", "decode")

    assert ratio(held) == pytest.approx(ratio(other), rel=1e-6)
    assert ratio(held) > 1.05 * ratio(setup)


def test_typed_times_have_no_class_and_are_not_drawn(tmp_path: Path) -> None:
    setup = table_setup(tmp_path)
    classes = step_classes(setup)
    assert not classes.found
    assert classes.drawn(setup, {}) is setup
    found = uncertainty(setup, Sources(setup, remember=True), draws=20, seed=3)
    assert not found.classes
    assert all(one.low == one.nominal == one.high for one in found.intervals.values())


def kept(scatter: float) -> dict[str, KeptErrors]:
    """Rows of decode steps and prompts on both kinds of unit, whose logarithms scatter evenly by so much either way."""
    return {
        f"{unit} {kind} {place}": KeptErrors(
            unit, kind, f"d{place % 4}", f"m{place % 5}", (float(np.expm1(error)),) * 3
        )
        for unit in ("gpu", "npu")
        for kind in ("decode", "prefill")
        for place, error in enumerate(np.linspace(-scatter, scatter, 40))
    }


def test_a_wider_class_gives_a_wider_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else being equal, and the same draws: the target alone decodes as much slower as its steps take longer."""
    setup, widths = shipped("swapped", *SHORT, "policy={name: target_only}", "workload.output_tokens=60"), []
    for scatter in (0.03, 0.3):
        monkeypatch.setattr(confidence, "kept_errors", lambda scatter=scatter: kept(scatter))
        forget()
        found = uncertainty(setup, Sources(setup, remember=True), draws=40, seed=1, resample=False)
        interval = found.intervals["output_token_throughput"]
        widths.append(np.log(interval.high / interval.low))
        assert interval.movers[0].figure == "agx-orin-64gb.gpu decode steps"
    assert widths[1] > 5 * widths[0]


def test_factors_are_of_the_kind_of_a_step_and_of_a_network() -> None:
    setup = shipped("orin_8295", *SHORT)
    target = replace(setup.target, factors=StepFactors(decode=2, prompt=3, verify=5))
    plain, slow = (timer_for(one, 1024) for one in (setup.target, target))
    steps = {
        Step(Phase.DECODE, 1, 100): 2, Step(Phase.VERIFY, 1, 100): 2, Step(Phase.VERIFY, 6, 100): 5,
        Step(Phase.PREFILL, 40, 0): 3, Step(Phase.DRAFT, 2, 100): 2, Step(Phase.DRAFT_PREFILL, 1, 0): 3,
    }  # fmt: skip
    for step, factor in steps.items():
        assert slow.duration_ns(step) == pytest.approx(factor * plain.duration_ns(step), rel=1e-6)
    for network in setup.networks:
        assert network_ns(replace(network, factor=2.0)) == pytest.approx(2 * network_ns(network), abs=1)


def test_a_chip_whose_own_rates_were_fitted_is_no_unseen_device() -> None:
    """What `calibrate` writes for a device that no shipped row is of; its family's rates would be assumed here."""
    chip = load_chip("sa8295p", PROJECT / "_.yaml")
    chip = chip.model_copy(update={"name": "my-board"})
    unit = chip.units["npu"]
    own = unit.precisions["w4"]

    def level(kind: str) -> str:
        rate = own.memory_rate.model_copy(update={"kind": kind})
        on = unit.model_copy(update={"precisions": {"w4": own.model_copy(update={"memory_rate": rate})}})
        found = interval_on(chip, on, "w4", "decode", "llama-3.2-3b")
        assert found is not None
        return found.level

    assert (level("assumed"), level("fitted"), level("measured")) == ("unseen device", "seen", "seen")
