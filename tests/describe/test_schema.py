"""JSON Schemas take what is shipped and refuse what is wrong; keys, skeletons, explanations are of the same records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from hilsim.commands.main import main
from hilsim.describe.catalogue import FOLDERS, load_record
from hilsim.describe.cockpit import Budget
from hilsim.describe.decoding import Greedy
from hilsim.describe.explained import explained
from hilsim.describe.figure import Record
from hilsim.describe.keys import bounds, example_of, keys_of
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.placement import HeadPlacement, Placement
from hilsim.describe.schema import RECORDS, meaning_of, schema_of
from hilsim.describe.skeleton import KINDS, SCHEMA_LINE, SCHEMAS
from hilsim.describe.strict_yaml import parse
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.places import DATA

SHIPPED = [(kind, file) for kind in RECORDS for file in sorted((DATA / FOLDERS[kind]).glob("*.yaml"))]


def data_of(file: Path) -> Any:
    """A file's content as JSON has it."""
    return json.loads(json.dumps(parse(file.read_text(encoding="utf-8"), str(file)).data))


def records_below(record: type[Record]) -> Iterator[type[Record]]:
    for below in record.__subclasses__():
        yield from (below, *records_below(below))


def test_records_that_are_defaults_are_as_validation_makes_them() -> None:
    """They are constructed without validation; negative control: one constructed with a value that is refused."""
    load_setup(DATA / "scenarios" / "orin_8295.yaml")  # whose records are all imported then
    found = 0
    for record in records_below(Record):
        for field in record.model_fields.values():
            if isinstance(field.default, Record):
                made = type(field.default)()
                assert field.default == made
                assert field.default.model_dump_json() == made.model_dump_json()
                found += 1
    assert found >= 11
    with pytest.raises(ValidationError):
        Budget.model_validate(Budget.model_construct(gap_ms=-1.0).model_dump())


@pytest.mark.parametrize("kind", RECORDS)
def test_every_shipped_file_follows_its_schema_and_names_it(kind: str) -> None:
    schema = schema_of(kind)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    files = [file for one, file in SHIPPED if one == kind]
    assert files
    for file in files:
        assert [(list(error.absolute_path), error.message) for error in validator.iter_errors(data_of(file))] == []
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(SCHEMA_LINE), file
        assert (file.parent / first.removeprefix(SCHEMA_LINE)).resolve() == (SCHEMAS / f"{kind}.json").resolve()


@pytest.mark.parametrize("kind", RECORDS)
def test_the_shipped_schema_is_that_of_the_records(kind: str) -> None:
    assert json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8")) == schema_of(kind), "make schemas"


@pytest.mark.parametrize("kind", RECORDS)
def test_every_key_has_a_meaning(kind: str) -> None:
    """A short one, of its own; that of a tag, whose value chooses a block, is what the block is."""
    schema = schema_of(kind)
    for record in (schema, *schema["$defs"].values()):
        about = record.get("description", "") if "properties" in record else "not asked for"
        assert about, f"{record['title']} has no docstring"
        for key, found in record.get("properties", {}).items():
            meaning = found.get("description", "")
            place = f"{record['title']}.{key}"
            assert meaning or "const" in found, f"{place}: a docstring below the field says what it means"
            assert len(meaning.split()) <= 30, f"{place}: {len(meaning.split())} words"
            assert not meaning or meaning.endswith("."), f"{place}: a sentence ends with a full stop"
    for key in keys_of(kind):
        assert key.meaning or (key.is_tag and key.about), key


def test_meanings_are_those_below_the_fields_also_of_records_that_inherit_them() -> None:
    assert (
        meaning_of(HeadPlacement, "chip") == meaning_of(Placement, "chip") == "The chip, by name, CHIP@MODE, or file."
    )
    assert meaning_of(HeadPlacement, "model") != meaning_of(Placement, "model")
    assert meaning_of(Model, "no_such_key") == meaning_of(Greedy, "kind") == ""


@pytest.mark.parametrize(
    "change",
    [
        {"sed": 1}, {"seed": "one"}, {"seed": -1}, {"policy": {"name": "synk", "draft_tokens": 5}},
        {"policy": {"name": "sync", "draft_tokens": 0}}, {"payload": "full_row"}, {"accept": "lenient"},
        {"target": {"chip": "sa8295p"}}, {"verify_at": "both"},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_records_refuse_in_a_key_the_schema_refuses(change: dict[str, Any], tmp_path: Path) -> None:
    found = data_of(DATA / "scenarios/orin_8295_greedy.yaml") | change
    assert not Draft202012Validator(schema_of("scenario")).is_valid(found)
    file = tmp_path / "wrong.yaml"
    file.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(InputError):
        load_record(RECORDS["scenario"], file)


def test_units_of_figures_are_those_of_their_dimension() -> None:
    link = data_of(DATA / "chips/links/pcie-gen3-x4.yaml")
    validator = Draft202012Validator(schema_of("link"))
    assert validator.is_valid(link)
    link["rate"]["unit"] = "ms"
    assert not validator.is_valid(link)


def test_every_key_of_a_shipped_file_is_listed() -> None:
    def paths(data: Any, known: set[str], path: str) -> set[str]:
        """Those of a file's keys that are not known; figures and values of the user's choice have none below."""
        if isinstance(data, list):
            return {one for item in data for one in paths(item, known, f"{path}[]")}
        if not isinstance(data, dict) or {"value", "unit"} <= set(data) or path in ANYTHING:
            return set()
        missing = set()
        for name, value in data.items():
            own = f"{path}.{name}" if path else name
            named = f"{path}.NAME"
            below = own if own in known else named
            held = own in known or any(key == named or key.startswith(f"{named}.") for key in known)
            free = path in known  # a mapping whose values are no blocks
            missing |= paths(value, known, below) if held else set() if free else {own}
        return missing

    ANYTHING = {"set", "policy.parameters", "axes[].linked", "axes[].values[]"}
    ANYTHING |= {"faults[]", "policies[]"}  # of a campaign: of a scenario with lists of values, of a scenario
    for kind, file in SHIPPED:
        known = {key.path for key in keys_of(kind)}
        assert paths(data_of(file), known, "") == set(), file


def test_examples_are_shipped_values_of_their_block() -> None:
    keys = {(key.path, key.block): key for key in keys_of("scenario")}
    assert example_of(keys["policy.kind", "pearl"])[0] in ("", "pearl")
    assert example_of(keys["target.precision", ""])[0]
    assert example_of(keys["draft.model", "Placement"])[0]
    assert example_of(keys["draft.model", "HeadPlacement"]) == ("", "")  # heads have none


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_file_follows_its_schema(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    assert main(["new", kind, "mine", "--out", str(file)]) == 0
    assert str(file) in capsys.readouterr().out
    assert list(Draft202012Validator(schema_of(kind)).iter_errors(data_of(file))) == []
    assert load_record(RECORDS[kind], file).model_dump()["name"] == "mine"
    written = file.read_text(encoding="utf-8")
    assert main(["new", kind, "mine", "--out", str(file)]) == 2  # nothing is written over
    assert file.read_text(encoding="utf-8") == written


def test_new_files_are_used_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, like in (("scenario", []), ("link", []), ("chip", ["--like", "sa8295p"])):
        assert main(["new", kind, f"my-{kind}", *like]) == 0
    changes = ["--set=link=my-link.yaml", "--set=target.chip=my-chip.yaml", "--set=workload.max_new_tokens=4"]
    short = ["--set=workload.count=1", "--set=workload.max_turns=1"]
    assert main(["simulate", "my-scenario.yaml", "--json", *changes, *short]) == 0
    found = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert "my-chip.npu" in json.dumps(found)


@pytest.mark.parametrize(
    "arguments",
    [["senario", "x"], ["scenario", "a/b"], ["scenario", ""], ["chip", "x", "--like", "nowhere"]],
    ids=" ".join,
)
def test_what_cannot_be_made(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", *arguments]) == 2
    assert "expected" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_explain_finds_a_key_by_its_end_by_its_kind_and_by_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert {key.block for key in explained("policy.draft_tokens")[0]} >= {"sync", "adaptive", "pearl"}
    assert {key.kind for key in explained("memory")[0]} == {"chip"}
    assert main(["explain", "chip:memory"]) == 0
    assert "GiB" in capsys.readouterr().out
    assert main(["explain", "drft_tokens"]) == 2
    assert "draft_tokens" in capsys.readouterr().err
    for empty in ("", ".", "chip:", "[]"):
        assert main(["explain", empty]) == 2
        assert "expected a key" in capsys.readouterr().err


def test_explain_names_the_keys_of_that_name_inside_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    for word, name in (("kind", "kind"), ("source", "kind")):
        assert main(["explain", word]) == 0
        _, found, also = capsys.readouterr().out.partition("  also  ")
        assert found
        assert "scenario:logits.kind" in also, word
        for key in ("policy", "accept", "payload", "draft.head", "faults.inject"):
            assert (f"scenario:{key}.{name}" in also) is (word == "kind"), key
        for one in also.replace(",", " ").split():
            assert explained(one)[0], one


@pytest.mark.parametrize("word", ["policy", "scenario", "chip:units.NAME.precisions", "study:axes[].values", "faults"])
def test_a_list_of_keys_fits_eighty_columns_and_says_of_each_what_it_means(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["explain", word]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    text = "".join(printed.split())
    keys, _ = explained(word)
    for key in keys:
        assert key.path.rpartition(".")[2] in text
        assert key.is_tag or key.meaning.split()[0] in text


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"minimum": 1, "maximum": 64}, "1 to 64"),
        ({"exclusiveMinimum": 0, "maximum": 10**7}, "above 0, at most 10,000,000"),
        ({"minItems": 2, "maxItems": 2}, "2 of them"),
        ({"minLength": 1}, "1 letter or more"),
        ({"minimum": 0, "exclusiveMaximum": 2**63}, "0 or more, below 9.22337e+18"),
        ({"items": {"minimum": 0.5}}, "each 0.5 or more"),
    ],
    ids=str,
)
def test_ranges_in_words(schema: dict[str, Any], text: str) -> None:
    assert sorted(bounds(schema, {})) == sorted(text.split(", "))


def test_explain_prints_a_schema() -> None:
    typed = [sys.executable, "-m", "hilsim", "explain", "link", "--schema"]
    printed = subprocess.run(typed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == schema_of("link")
