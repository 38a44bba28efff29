"""Pages of studies, modes and validations: whole, small, true to their results, and safe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hilsim
from hilsim.commands.main import main
from hilsim.show.page.many import scaled, thinned, wide
from tests.pages import assert_self_contained

STUDY = """
name: lengths
question: How many tokens?
scenario: {scenario}
set: {{workload: {{requests: 2, prompt_tokens: 60, output_tokens: 24, pause_ms: 0}}}}
axes:
  - {{key: policy.draft_tokens, values: [1, 2, 3], name: "{head}"}}
  - {{key: seed, values: [1, 2]}}
metrics: [speedup, tokens_per_round]
"""


def study_page(tmp_path: Path, head: str = "drafts") -> str:
    study, page = tmp_path / "lengths.yaml", tmp_path / "page.html"
    scenario = Path(hilsim.load("paper_table").file).resolve()
    study.write_text(STUDY.format(scenario=scenario, head=head), encoding="utf-8")
    options = ["--workers", "1", "--out", str(tmp_path), "--csv", str(tmp_path / "all.csv"), "--html", str(page)]
    assert main(["study", str(study), *options]) == 0
    return page.read_text(encoding="utf-8")


def test_the_page_of_a_study_names_the_best_point_and_holds_its_files(tmp_path: Path) -> None:
    text = study_page(tmp_path)
    tags = assert_self_contained(text)
    assert tags.sections == ["pictures", "best-points", "left-out", "how-sure", "assumptions", "reproduce"]
    rows = [line.split(",") for line in (tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()]
    places = {name: place for place, name in enumerate(rows[0])}
    best = max(rows[1:], key=lambda row: float(row[places["speedup"]]))
    assert f"with drafts {best[places['drafts']]}, seed {best[places['seed']]}." in text
    assert "workload: {requests: 2" in text, "the study's own file"
    assert "hilsim study" in text


def test_a_name_in_a_study_is_text_in_its_page(tmp_path: Path) -> None:
    text = study_page(tmp_path, "</script><b>x")
    assert "<b>x" not in text
    assert_self_contained(text)


@pytest.mark.slow
def test_the_page_of_modes_has_each_that_ran_and_why_others_did_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "modes.html"
    changes = ["--set", "workload.requests=2", "--set", "workload.output_tokens=16"]
    assert main(["modes", "eagle_8775", *changes, "--batch", "1,2", "--json", "--html", str(page)]) == 0
    text, document = page.read_text(encoding="utf-8"), json.loads(capsys.readouterr().out)
    tags = assert_self_contained(text)
    assert {"speed-ups", "modes", "settings", "together", "not-here", "how-sure"} <= set(tags.sections)
    for mode in document["modes"]:
        assert mode["mode"].replace("&", "&amp;") in text
    assert document["verdict"] in text


def test_the_page_of_a_validation_begins_with_the_largest_misses(tmp_path: Path) -> None:
    found = hilsim.validate(Path(hilsim.__file__).parents[1] / "chips/measurements/example.csv")
    page = found.html(tmp_path / "page.html", "hilsim validate")
    tags = assert_self_contained(page.read_text(encoding="utf-8"))
    assert tags.sections[0] == "misses-first"
    worst = max(max(abs(error) for error in row.errors if error is not None) for row in found.found.rows)
    first = next(row for row in tags.rows if row)
    assert f"{worst:.0%}" in {cell.lstrip("+-") for cell in first}


@pytest.mark.parametrize(
    "arguments",
    [
        ("explore", "orin_8295_greedy"),
        ("study", "scenarios/studies/draft_length.yaml"),
        ("modes", "eagle_8775"),
        ("validate",),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--html", "/dev/null/page.html"]) == 2
    assert "--html" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--speculation", "--trace=chips/measurements/traces/amusd_humaneval.json"])
def test_a_page_of_rows_stands_alone(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", option, "--html", "page.html"]) == 2
    assert "--html" in capsys.readouterr().err


def test_of_dots_on_one_place_of_the_raster_the_first_is_kept() -> None:
    x = np.array([0.0, 0.01, 10.0, 5.0, np.nan])
    y = np.array([0.0, 0.01, 10.0, 5.0, 1.0])
    assert thinned(x, y, (False, False), (10, 10)) == [0, 2, 3]
    assert thinned(x, y, (False, False), (10_000, 10)) == [0, 1, 2, 3], "a finer raster keeps more"


def test_every_dot_has_a_neighbour_that_is_drawn_within_one_place_of_the_raster() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.lognormal(size=4000), rng.normal(size=4000)
    kept = thinned(x, y, (True, False), (40, 30))
    assert len(kept) <= 40 * 30
    width, height = np.ptp(np.log(x)) / 40, np.ptp(y) / 30
    drawn = np.stack([np.log(x[kept]) / width, y[kept] / height])
    for place in range(0, 4000, 37):
        apart = np.abs(drawn - np.array([[np.log(x[place]) / width], [y[place] / height]]))
        assert (apart.max(axis=0) <= 1 + 1e-9).any()


def test_numbers_that_a_logarithmic_axis_cannot_show_have_no_place() -> None:
    assert np.isnan(scaled(np.array([0.0, 1.0, 10.0]), True, 5)).tolist() == [True, False, False]
    assert scaled(np.array([3.0, 3.0]), False, 5).tolist() == [0.0, 0.0]
    assert wide(np.array([1.0, 5.0]))
    assert not wide(np.array([1.0, 3.9]))
    assert not wide(np.array([-1.0, 9.0]))
