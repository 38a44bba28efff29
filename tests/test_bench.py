"""The table of speeds: rows with what they are compared with, stored runs, and what the documentation says of them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from hilsim.places import CODE as PROJECT
from tests.bench import (
    INTERRUPTED,
    SECTIONS,
    Section,
    SectionError,
    main,
    measured,
    page_of,
    readme_of,
    rows_in,
    run_sections,
    show,
)
from tests.bench_rows import Row, Rule, as_markdown, regressions, rows_of
from tests.bench_store import DOCS, DOCS_JSON, README, Run, last_of

RULES = (
    Rule("(.+)_of_bare"),
    Rule("(.+)_rounds_per_s", r"\1, kept", "rounds/s", "bare SimPy", r"\1_bare_rounds_per_s"),
    Rule("help_s", "help", "s", "aim", 0.1),
)


def a_run(date: str, cores: int = 2, **sections: dict[str, float]) -> Run:
    about = {"date": date, "commit": "abc", "machine": {"processor": "x", "cores": cores}, "load_average": [0.5],
             "versions": dict.fromkeys(("python", "torch", "numpy", "simpy"), "1")}  # fmt: skip
    return Run(about, {name: {"figures": figures} for name, figures in sections.items()})


def test_a_figure_stands_beside_its_anchor_and_every_other_figure_under_its_own_name() -> None:
    figures = {"sync_rounds_per_s": 30.0, "sync_bare_rounds_per_s": 40.0, "sync_of_bare": 0.75, "help_s": 0.2,
               "store_open_s": 0.5, "alone_rounds_per_s": 7.0}  # fmt: skip
    rows = rows_of("events", figures, RULES)
    assert rows == [
        Row("events", "sync, kept", 30.0, "rounds/s", "bare SimPy", 40.0),
        Row("events", "help", 0.2, "s", "aim", 0.1),
        Row("events", "store open s", 0.5, "s"),
        Row("events", "alone, kept", 7.0, "rounds/s", "bare SimPy", None),
    ]
    assert [row.ratio for row in rows] == [0.75, 2.0, None, None]
    assert as_markdown(rows).splitlines()[2] == "| events | sync, kept | 30 | rounds/s | bare SimPy | 40 | 0.75 |"


def test_what_is_worse_is_named_by_ratio_where_both_runs_have_one() -> None:
    """A machine that is half as fast changes figures and no ratio; an aim is no measure of the machine."""

    def row(figure: float, anchor: float | None = None, unit: str = "rounds/s", against: str = "bare SimPy") -> Row:
        return Row("events", "sync", figure, unit, against if anchor else "", anchor)

    def named(before: Row, now: Row) -> list[str]:
        return list(map(str, regressions([before], [now], of_ratio=0.1, of_figure=0.3)))

    assert named(row(30, 40), row(15, 20)) == []
    assert named(row(30, 40), row(26, 40)) == ["events: sync: ratio 0.75 before, 0.65 now, 13% worse"]
    assert named(row(30, 40), row(40, 40)) == []
    assert named(row(30), row(22)) == []
    assert named(row(30), row(20)) == ["events: sync: figure 30 rounds/s before, 20 rounds/s now, 33% worse"]
    assert named(row(1.0, unit="s"), row(1.4, unit="s")) == ["events: sync: figure 1 s before, 1.4 s now, 40% worse"]
    assert named(row(1.0, unit="s"), row(0.5, unit="s")) == []
    assert named(row(1.0, 1.3, "times", "aim"), row(1.2, 1.3, "times", "aim")) == [], "within what figures differ by"
    assert named(row(1.0, unit="s"), row(9.0, unit="ms")) == [], "another unit is another figure"
    assert len(named(row(1.0, 1.3, "times", "aim"), row(1.4, 1.3, "times", "aim"))) == 1


def test_a_section_is_compared_with_the_last_one_of_its_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "made" / "here"
    speed = {"speed": 1.0}
    others = [a_run("2026-01-01T10:00:00Z", events=speed, run=speed), a_run("2026-01-03T10:00:00Z", events=speed),
              a_run("2026-01-04T10:00:00Z", cores=64, events=speed)]  # fmt: skip
    for other in others:
        other.write(folder / other.file_name)
    found = a_run("2026-01-05T10:00:00Z", events={"speed": 0.5}, run={"speed": 1.0}, serve={"speed": 1.0})
    found.write(folder / found.file_name)
    assert Run.read(folder / found.file_name).sections == found.sections
    earlier = last_of(folder, found)
    dates = {name: run.about["date"] for name, run in earlier.items()}
    assert dates == {"events": "2026-01-03T10:00:00Z", "run": "2026-01-01T10:00:00Z"}, "the last one with that section"
    assert last_of(folder, others[0]) == last_of(tmp_path / "nothing", found) == {}
    show(found, earlier)
    text = capsys.readouterr().out
    assert "No earlier run of this machine has serve." in text
    assert "2026-01-03T10:00:00Z (abc): events; 2026-01-01T10:00:00Z (abc): run" in text
    assert "worse are\n  events: speed: figure 1" in text
    show(others[0], {})
    assert "is worse" not in capsys.readouterr().out, "nothing was compared"


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", '{"about": {}, "sections": {"events": {"figures": {}}}}'])
def test_what_is_no_stored_run_is_reported(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(sys, "argv", ["bench", "--stored", str(file)])
    assert main() == 2
    assert "a stored run of the bench" in capsys.readouterr().err


def test_a_section_that_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names, found, kept = list(SECTIONS)[:3], a_run("2026-01-01T10:00:00Z"), list[int]()

    def measure(section: Section) -> dict[str, Any]:
        if section is SECTIONS[names[1]]:
            raise SectionError("printed no figures")
        return {"figures": {"speed": 1.0}, "took_s": 1.0, "peak_mib": 10}

    failed = run_sections(names, found, lambda: kept.append(len(found.sections)), measure)
    assert failed == {names[1]: "printed no figures"}
    assert kept == [1, 2], "stored after each"
    with pytest.raises(SectionError, match="ended with status 1"):
        measured(Section("no_such_module", ()))
    monkeypatch.setattr("tests.bench.CHILD", "pass  # {module}")
    with pytest.raises(SectionError, match="printed no figures"):
        measured(Section("bench_start", ()))


def test_what_is_measured_is_kept_where_the_bench_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    names, found = list(SECTIONS), a_run("2026-01-01T10:00:00Z")

    def measure(section: Section) -> dict[str, Any]:
        if section is SECTIONS[names[2]]:
            raise KeyboardInterrupt
        return {"figures": {"speed": 1.0}, "took_s": 1.0, "peak_mib": 10}

    failed = run_sections(names, found, lambda: None, measure)
    assert failed == dict.fromkeys(names[2:], INTERRUPTED)
    assert list(found.sections) == names[:2]
    assert [row.section for row in rows_in(found)] == names[:2]
    assert "3 of" in capsys.readouterr().err


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_has_a_module_that_measures(name: str) -> None:
    """Read, not run: some take minutes, or import what takes long."""
    file = PROJECT / "tests" / f"{SECTIONS[name].module}.py"
    functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert "measure" in functions


def test_the_page_has_the_table_of_the_run_that_is_stored_beside_it() -> None:
    found = Run.read(DOCS_JSON)
    page = DOCS.read_text(encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    assert page_of(found, page) == page, "python -m tests.bench --docs writes both"
    assert readme_of(found, readme) == readme, "and the README's sentence"
    for section in found.sections.values():
        key = next(iter(section["figures"]))
        section["figures"][key] *= 2
    found.sections["decoding"] = {"figures": {"target, ratio": 1.234}}
    assert page_of(found, page) != page
    assert "decoding runs at 1.23 times the rate" in " ".join(readme_of(found, readme).split())
    found.sections.popitem()
    assert "Not measured" in page_of(found, page)
