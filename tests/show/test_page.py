"""The page of a run: whole, self-contained, small, and nothing that a scenario holds can become code in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hilsim
from hilsim.commands.main import main
from hilsim.show.page.charts import why
from hilsim.sim.trace import Round, Span
from tests.pages import assert_self_contained

SHORT = {"workload.count": 1, "workload.max_turns": 2, "workload.max_new_tokens": 12}
SECTIONS = (
    "conversation",
    "timeline",
    "where-time-goes",
    "times",
    "acceptance",
    "memory",
    "compile",
    "how-sure",
    "assumptions",
    "whole-report",
    "reproduce",
)


def page_of(tmp_path: Path, **changes: object) -> str:
    file = tmp_path / "page.html"
    hilsim.simulate(hilsim.load("orin_8295_greedy", SHORT | changes)).html(file, "hilsim simulate orin_8295_greedy")
    return file.read_text(encoding="utf-8")


def test_a_page_is_whole_small_and_needs_no_network(tmp_path: Path) -> None:
    text = page_of(tmp_path)
    tags = assert_self_contained(text)
    assert set(SECTIONS) <= set(tags.sections)
    assert "hilsim simulate orin_8295_greedy" in text
    assert 'class="drafted"' in text
    assert 'class="own"' in text


def test_the_conversation_is_the_answers_of_the_run(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    run = hilsim.simulate(hilsim.load("orin_8295_greedy", SHORT))
    run.html(file)
    turns = re.findall(r'<span class="(?:drafted|own)">(.*?)</span>', file.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert run.speculative is not None
    answers = "".join(record.answer for record in run.speculative.requests)
    assert "".join(turns).replace("&#39;", "'").strip() == answers.strip()


def test_what_a_scenario_holds_is_text_in_the_page(tmp_path: Path) -> None:
    wicked = "<script>alert(1)</script>"
    text = page_of(tmp_path, name=wicked, question=f"{wicked}?")
    assert wicked not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_target_alone_has_a_page(tmp_path: Path) -> None:
    text = page_of(tmp_path, policy={"name": "target_only"})
    assert 'id="conversation"' in text
    assert 'id="acceptance"' not in text


def test_a_page_that_cannot_be_written_is_refused_before_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "orin_8295_greedy", "--html", "/dev/null/page.html"]) == 2
    assert "--html" in capsys.readouterr().err


def test_why_a_span_is_there_is_said_in_its_numbers() -> None:
    span = Span("npu", "verify", 2_000_000, 5_000_000, 0, 1, 1_000_000, 5_000_000, 6, 8, 0, 40)
    closed = Round(0, 1, 0, 0, 0, 5, 3, 4, 3, (1, 2, 3, 4), (), 0)
    assert (
        why(span, closed) == "6 rows run at width 8 after 40 cached; waited 1.00 ms; 3 of 5 drafts accepted, 4 tokens"
    )
