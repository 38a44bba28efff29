"""What a person is shown: nothing is heard before speech exists, what differs is never cut, the answer stands last."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hilsim.cost.memory import Item, Ledger, compiled_items, ledgers
from hilsim.describe.compiled import Compiled
from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.show.document import document
from hilsim.show.kinds import PARTS
from hilsim.show.numbers import abbreviate, three_digits
from hilsim.show.report import render
from hilsim.show.sentences import headline, outside_sentence
from hilsim.show.terminal.layout import parts_of
from hilsim.show.terminal.plain import PlainLines
from tests.show.test_show import both

HEARING = re.compile(r"\bhear(s|d|ing)?\b", re.IGNORECASE)
SOURCES = sorted([*(PROJECT / "hilsim").rglob("*.py"), *(PROJECT / "scripts").glob("*.py"), PROJECT / "simulate.py"])


def strings_of(file: Path) -> Iterator[tuple[int, str]]:
    """String constants of a module but for the docstrings inside it; a script's own docstring is its help."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    docs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.Module) and node.body:
            first = node.body[0]
            is_help = isinstance(node, ast.Module) and "scripts" in file.parts
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and not is_help:
                docs.add(first.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.lineno, node.value


def test_no_string_uses_words_of_speech_for_tokens() -> None:
    """Before speech synthesis there is nothing to hear: a clause is ready. Names of fields are no sentences."""
    found = [
        f"{file.relative_to(PROJECT)}:{line}: {text!r}"
        for file in SOURCES
        for line, text in strings_of(file)
        if HEARING.search(text) and " " in text
    ]
    assert found == []


def test_scenarios_chips_and_tutorials_say_nothing_of_hearing() -> None:
    files = [*(PROJECT / "scenarios").glob("*.yaml"), *(PROJECT / "scenarios/studies").glob("*.yaml"),
             *(PROJECT / "chips").rglob("*.yaml"), *(PROJECT / "docs/tutorials").glob("*.md")]  # fmt: skip
    assert len(files) > 40
    assert [file.name for file in files if HEARING.search(file.read_text(encoding="utf-8"))] == []


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""Heard."""\nFIRST = f"the passenger hears {1} thing"\n\ndef f():\n    "hears"\n', encoding="utf-8"
    )
    assert [text for _, text in strings_of(file) if HEARING.search(text)] == ["the passenger hears "]


def shown(found: dict, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    render(json.loads(json.dumps(found)), console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def found() -> dict:
    setup, alone, ours = both()
    return document(setup, ledgers(setup), alone, ours)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_answer_stands_first_and_last(found: dict, width: int) -> None:
    text = shown(found, width)
    lines = text.rstrip().split("\n")
    answer = f"{found['scenario']}: speedup"
    places = [place for place, line in enumerate(lines) if line.startswith(answer)]
    assert len(places) == 2
    last = " ".join(lines[places[1] :])
    assert last in " ".join(" ".join(lines).split())
    assert "The first clause is ready after" in last


def test_a_published_limit_stands_in_the_first_and_the_last_line(found: dict) -> None:
    caveat = {"kind": "published limit", "about": "x", "text": "at most 9 tokens", "source": ""}
    against = "this scenario exceeds a published limit"
    assert " ".join(shown(found | {"caveats": [caveat]}).split()).count(against) == 2
    assert against not in shown(found)
    assert against not in shown(found | {"caveats": [caveat | {"kind": "memory"}]})


def test_the_headline_quotes_the_widest_error_bar(found: dict) -> None:
    ends = {"low": 0.5, "high": 2.25}
    inner = {"low": 1, "high": 1.5}
    sampled = inner | {"with_sampling": {"low": 0.9, "high": 2}, "with_other_pairs": ends}
    bars: list[dict] = [ends, inner | {"with_sampling": ends}, sampled]
    for bar in bars:
        said = headline(found | {"uncertainty": {"headline": {"speedup": bar}}})
        assert f"speedup {found['speedup']:.2f} (0.5 to 2.25 by its widest error bar):" in said
    assert "error bar" not in headline(found)
    assert "error bar" not in headline(found | {"uncertainty": {"headline": {"speedup": {"low": 1.0, "high": 1.0}}}})


@pytest.mark.parametrize(
    ("value", "words"),
    [(999.4, "999"), (999.5, "1,000"), (999.99, "1,000"), (-999.7, "-1,000"), (1000, "1,000"), (12345.6, "12,346"),
     (0.98765, "0.988"), (99.96, "100"), (0, "0")],
)  # fmt: skip
def test_three_digits_have_no_exponent_around_a_thousand(value: float, words: str) -> None:
    assert three_digits(value) == words


def test_the_notes_name_what_is_not_in_the_number(found: dict) -> None:
    notes = " ".join(found["notes"])
    for missing in ("speech recognition", "speech synthesis", "load of other work", "second passenger", "heat"):
        assert missing in notes


def test_energy_stands_beside_energy_an_answer(found: dict) -> None:
    for run in ("baseline", "speculative"):
        block = found[run]
        assert block["energy_j_per_answer"] * block["requests"] == pytest.approx(block["energy_j"])
    assert "energy_j_per_answer" in shown(found)


def test_plain_lines_and_the_report_have_one_definition_of_tokens_a_round() -> None:
    """One request: its line is the report's number, first token and reading round left out of both."""
    out = io.StringIO()
    with PlainLines(out) as seen:
        setup, _, ours = both("workload.requests=1", observer=seen)
    tokens = ours.requests[0].output_tokens
    rounds = [closed for closed in ours.rounds if closed.number]
    expected = (tokens - 1) / len(rounds)
    assert sum(closed.emitted for closed in rounds) == tokens - 1
    assert f"{expected:.2f} tokens/round" in out.getvalue()
    assert document(setup, ledgers(setup), ours, ours)["speculative"]["tokens_per_round"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["orin_8295", "orin_8295_greedy", "one_chip", "target_1b", "losing", "eagle3", "trip"])
def test_every_line_of_a_ledger_is_in_the_part_that_its_words_say(name: str) -> None:
    for ledger in ledgers(load_setup(PROJECT / f"scenarios/{name}.yaml", [])).values():
        parts = parts_of(ledger)
        assert sum(parts.values()) == ledger.used_bytes
        for item in ledger.items:
            what = item.what.rpartition(": ")[2]
            words = {"KV cache": "KV", "activations": "buffers", "runtime": "runtime", "system reserve": "system"}
            assert item.part == next((part for word, part in words.items() if word in what), "weights"), item
        assert parts["weights"] >= sum(item.bytes for item in ledger.items if ": layers" in item.what) > 0


def test_weights_of_every_sort_are_weights() -> None:
    """Vision towers, adapters, forecast tokens and what is compiled beside them, whatever the model is called."""
    compiled = Compiled("p", items=(("parameters x 2 graphs", 1), ("activations", 2), ("working set of rewrites", 4)))
    found = parts_of(Ledger("c", 9, (*compiled_items("runtime: KV cache", compiled), Item("r", 8, "runtime"))))
    assert found == dict.fromkeys(PARTS, 0) | {"weights": 1, "buffers": 6, "runtime": 8}
    vision = load_setup(
        PROJECT / "scenarios/paper_table.yaml",
        [
            "draft=null",
            "link=null",
            "policy={kind: target_only}",
            "target={model: qwen3-vl-4b, chip: agx-orin-64gb, unit: gpu, precision: w4}",
        ],
    )
    (tower,) = [one for one in ledgers(vision)["agx-orin-64gb"].items if "vision tower" in one.what]
    assert tower.part == "weights"


WORD = st.text(st.characters(min_codepoint=97, max_codepoint=102), min_size=1, max_size=9)


@settings(max_examples=200)
@given(st.lists(st.lists(WORD, min_size=1, max_size=8).map(" ".join), min_size=2, max_size=6), st.integers(1, 40))
def test_what_differs_stays_different(texts: list[str], width: int) -> None:
    cut = abbreviate(texts, width)
    assert len(set(cut)) == len(set(texts))
    assert all(len(short) <= max(len(text), 3) for short, text in zip(cut, texts, strict=True))


def test_a_common_beginning_goes_and_the_difference_stays() -> None:
    policies = [f"adaptive, rule expected, most 14, fallback {{window: {n}}}, x" for n in (4, 16)]
    assert abbreviate(policies, 30) == ["… 4}, …", "… 16}, …"]
    assert abbreviate(["sync 3", "sync 5"], 30) == ["sync 3", "sync 5"]
    assert abbreviate(["the same"] * 2, 3) == ["the same"] * 2


def test_a_role_outside_the_car_is_loud_in_document_and_report() -> None:
    setup, alone, ours = both()
    assert setup.draft is not None
    assert document(setup, ledgers(setup), alone, ours)["talk_leaves_car"] == []
    far = replace(setup, draft=replace(setup.draft, chip=setup.draft.chip.model_copy(update={"place": "cloud"})))
    found = document(far, ledgers(setup), alone, ours)
    assert found["talk_leaves_car"] == ["draft on drive-orin-x"]
    assert found["notes"][0] == outside_sentence(["draft on drive-orin-x"])
    text = " ".join(shown(found).split())
    assert text.count("CONVERSATIONS LEAVE THE CAR: draft on drive-orin-x") == 2
