"""Every key of the JSON documents has a meaning, and every meaning is that of a key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import hilsim
from hilsim.describe.skeleton import SCHEMAS
from hilsim.show.json_documents import DOCUMENTS, DocumentKey, document_keys, paths_of, report_schema, without_meaning

VALUES = Path(__file__).parents[1] / "golden/values"
RUNS = ("live", "replayed", "changed", "papers")
# Blocks of boards, of wall time and of runs that ended early, and rewrites: no golden document has any.
ELSEWHERE = ("compile.rewrites.bytes", "realtime.**", "hardware.**", "shadow.**", "distributed.**", "lost")


def unfolded(node: Any) -> Any:
    """A golden document with a long list in place of what it is stored as: its first element stands for all."""
    if isinstance(node, dict):
        if {"first", "length"} <= set(node):
            return [unfolded(node["first"])]
        return {key: unfolded(inside) for key, inside in node.items()}
    return list(map(unfolded, node)) if isinstance(node, list) else node


def golden() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for file in (file for kind in RUNS for file in (VALUES / kind).glob("*.json")):
        found |= set(paths_of(unfolded(json.loads(file.read_text(encoding="utf-8")).get("document", {}))))
    return found - {()}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A document with its texts, which golden values leave out."""
    return hilsim.simulate(hilsim.load("paper_table", {"workload.requests": 1}), uncertainty=10).report


def uncovered(paths: set[tuple[str, ...]]) -> list[str]:
    return sorted({".".join(path) for path in paths if not any(key.covers(path) for key in document_keys())})


def test_every_key_of_every_golden_document_has_a_meaning() -> None:
    assert uncovered(golden()) == []


def test_every_key_of_a_live_document_has_a_meaning(report: dict[str, Any]) -> None:
    assert uncovered(set(paths_of(report))) == []


def test_every_meaning_is_that_of_a_key(report: dict[str, Any]) -> None:
    there = golden() | set(paths_of(report))
    texts = {"text", ""}  # golden values leave texts out
    idle = [
        key.pattern
        for key in document_keys()
        if key.pattern not in ELSEWHERE and key.unit not in texts and not any(map(key.covers, there))
    ]
    assert idle == []


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("check --json", "check/*.json"),
        ("validate --json", "validate/[ep]*.json"),
        ("validate --trace --json", "validate/trace.json"),
    ],
)
def test_every_key_of_other_golden_documents_has_a_meaning(command: str, files: str) -> None:
    documents = [unfolded(json.loads(file.read_text(encoding="utf-8"))["document"]) for file in VALUES.glob(files)]
    assert documents
    assert {key for document in documents for key in without_meaning(command, document)} == set()


@pytest.mark.parametrize("command", DOCUMENTS)
def test_a_strange_key_of_any_document_is_found(command: str) -> None:
    assert without_meaning(command, {"made_up": 1}) == ["made_up"]


def test_a_key_without_a_meaning_is_found() -> None:
    assert uncovered({("speedup",), ("speed_up",), ("baseline", "made_up_ms")}) == ["baseline.made_up_ms", "speed_up"]


@pytest.mark.parametrize(
    ("pattern", "path", "covers"),
    [
        ("a.b|c", ("a", "c"), True),
        ("a.b|c", ("a", "d"), False),
        ("a.*.c", ("a", "x.y", "c"), True),
        ("a.*_ms", ("a", "turn_ms"), True),
        ("a.*_ms", ("a", "turn"), False),
        ("a.of_*", ("a", "of_8"), True),
        ("a.of_*", ("a", "on_8"), False),
        ("a.**", ("a", "b", "c"), True),
        ("a.**", ("a",), True),
        ("a.**", ("b", "c"), False),
        ("a", ("a", "b"), False),
    ],
)
def test_patterns(pattern: str, path: tuple[str, ...], covers: bool) -> None:
    assert DocumentKey(pattern, "", "").covers(path) is covers


def test_documents_are_of_the_schema_and_strange_ones_are_not(report: dict[str, Any]) -> None:
    document: dict[str, Any] = json.loads(json.dumps(report))
    written = json.loads((SCHEMAS / "report.json").read_text(encoding="utf-8"))
    assert written == report_schema(), "make schemas"
    validator = Draft202012Validator(written)
    validator.check_schema(report_schema())
    assert not [error.message for error in validator.iter_errors(document)]
    assert not validator.is_valid(document | {"made_up": 1})
    assert not validator.is_valid(document | {"speedup": "2.5"})
    assert not validator.is_valid(document | {"link": 3})


@pytest.mark.parametrize("file", sorted(VALUES.glob("replayed/*.json")), ids=lambda file: file.stem)
def test_golden_documents_are_of_the_schema(file: Path) -> None:
    document = unfolded(json.loads(file.read_text(encoding="utf-8"))["document"])
    assert not [error.message[:200] for error in Draft202012Validator(report_schema()).iter_errors(document)]
