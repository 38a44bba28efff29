"""Blocks that are one of several kinds say `kind`; the words that they said before are read everywhere as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter

from hilsim.commands.main import main
from hilsim.describe.decoding import Accept, Payload
from hilsim.describe.head import Head
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Policy
from hilsim.describe.scenario import Logits
from hilsim.describe.schema import RECORDS, schema_of
from hilsim.describe.strict_yaml import parse
from hilsim.describe.tagged import KIND, Tagged, earlier_word, other_words
from hilsim.describe.write import to_yaml
from hilsim.errors import InputError
from hilsim.places import DATA
from hilsim.study.points import label
from tests.scenes import LINK, TABLE

# The block, the word it had before, a kind of it with what that kind needs, and another kind.
BLOCKS: list[tuple[Any, str, str, dict[str, object], str]] = [
    (Policy, "name", "sync", {"draft_tokens": 4}, "pearl"),
    (Payload, "scheme", "top_k", {"k": 8}, "scalar"),
    (Accept, "rule", "lenient", {"lenience": 0.5}, "ratio"),
    (Logits, "source", "synthetic", {"acceptance": 0.5}, "live"),
    (Head, "name", "top_k", {"k": 8}, "argmax"),
]
each_block = pytest.mark.parametrize(("union", "word", "kind", "rest", "other"), BLOCKS, ids=[b[1] for b in BLOCKS])


def kinds_below(record: type[Tagged]) -> list[type[Tagged]]:
    return [one for sub in record.__subclasses__() for one in (sub, *kinds_below(sub))]


def test_every_kind_of_every_block_is_named_by_one_key() -> None:
    """And no record keeps a tag of its own beside it: a literal without a choice is called kind."""
    found = [one for one in kinds_below(Tagged) if KIND in {field.alias for field in one.model_fields.values()}]
    assert {earlier_word(one) for one in found} == {"name", "scheme", "rule", "source"}
    assert len(found) == 13 + 6 + 7 + 4 + 4
    for kind in RECORDS:
        for name, record in schema_of(kind)["$defs"].items():
            properties = record.get("properties", {}).items()
            tags = {key for key, one in properties if "const" in one and not one.get("deprecated")}
            assert tags <= {KIND}, f"{kind}: {name}"
    scenario = schema_of("scenario")
    assert scenario["properties"]["logits"]["discriminator"]["propertyName"] == KIND
    assert "anyOf" in scenario["$defs"]["Sync"], "so the loop above has seen what it is for"


@each_block
def test_both_words_make_the_same_record(union: Any, word: str, kind: str, rest: dict[str, object], other: str) -> None:
    read = TypeAdapter(union).validate_python
    record = read({KIND: kind, **rest})
    assert isinstance(record, Tagged)
    assert record == read({word: kind, **rest}) == read({KIND: kind, word: kind, **rest})
    assert type(record)(**{KIND: kind}, **rest) == type(record)(**{word: kind}, **rest) == record
    assert record != read({KIND: other, **({"draft_tokens": 4} if other == "pearl" else {})})
    assert getattr(record, word) == kind
    assert record.model_dump()[word] == kind, "digests and reports of earlier versions have that word"
    assert read(record.model_dump()) == record
    assert parse(to_yaml(record), "").data[KIND] == kind


@each_block
@pytest.mark.parametrize("turned", [False, True])
def test_two_kinds_at_once_are_refused(
    union: Any, word: str, kind: str, rest: dict[str, object], other: str, turned: bool
) -> None:
    first, second = (other, kind) if turned else (kind, other)
    with pytest.raises(ValueError, match="earlier word"):
        TypeAdapter(union).validate_python({KIND: first, word: second, **rest})


@pytest.mark.parametrize("written", ["kind", "name"])
@pytest.mark.parametrize("changed", ["kind", "name"])
def test_an_override_wins_over_the_file_by_either_word(tmp_path: Path, written: str, changed: str) -> None:
    (tmp_path / "link.yaml").write_text(LINK)
    file = tmp_path / "table.yaml"
    file.write_text(TABLE.replace("link: LINK", "link: link.yaml").replace("{name: sync", f"{{{written}: sync"))
    assert f"{written}: sync" in file.read_text()
    assert load_setup(file).scenario.policy.name == "sync"
    assert load_setup(file, [f"policy.{changed}=pearl"]).scenario.policy.name == "pearl"
    assert load_setup(file, ["policy.kind=async", f"policy={{{changed}: pearl, draft_tokens: 4}}"]).digest == (
        load_setup(file, [f"policy.{changed}=pearl"]).digest
    )


def test_a_policy_that_needs_nothing_else_is_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    file = DATA / "scenarios" / "paper_table.yaml"
    assert load_setup(file, ["policy=target_only"]).digest == load_setup(file, ["policy={kind: target_only}"]).digest
    assert main(["check", str(file), "--set", "policy=pearl"]) == 2
    assert "policy.draft_tokens: found nothing; expected the key 'draft_tokens'" in capsys.readouterr().err
    check = Draft202012Validator(schema_of("scenario"))
    data = json.loads(json.dumps(parse(file.read_text(), "").data))
    assert check.is_valid({**data, "policy": "target_only"})
    assert not check.is_valid({**data, "policy": "pearl"})


def test_only_the_tag_has_another_word() -> None:
    """The rule by which an adaptive draft stops is no tag, though accept rules were once called so."""
    file = DATA / "scenarios" / "paper_table.yaml"
    changes = ["policy.kind=adaptive", "policy.rule=schedule", "policy.draft_tokens=4"]
    policy = load_setup(file, changes).scenario.policy
    assert policy.model_dump() | {"name": "adaptive", "rule": "schedule"} == policy.model_dump()
    records: list[type[BaseModel]] = [one for one in kinds_below(Tagged) if one.__name__ == "Adaptive"]
    assert list(other_words("rule", records)) == []
    assert list(other_words("name", records)) == ["kind"]
    with pytest.raises(InputError, match="an unknown key"):
        load_setup(file, ["policy.scheme=sync"])


def test_the_schema_offers_kind_and_marks_the_earlier_word() -> None:
    schema = schema_of("scenario")
    data = json.loads(json.dumps(parse((DATA / "scenarios/orin_8295.yaml").read_text(), "").data))
    check = Draft202012Validator(schema)
    policy = schema["$defs"]["Sync"]["properties"]
    assert "deprecated" not in policy[KIND]
    assert policy["name"]["deprecated"] is True
    for block, accepted in (
        ({"kind": "sync", "draft_tokens": 4}, True),
        ({"name": "sync", "draft_tokens": 4}, True),
        ({"draft_tokens": 4}, False),
        ({"scheme": "sync", "draft_tokens": 4}, False),
    ):
        assert check.is_valid({**data, "policy": block}) is accepted, block


def test_shipped_files_say_kind() -> None:
    def earlier(data: Any, place: str) -> list[str]:
        blocks = ("policy", "payload", "accept", "logits")
        found = [f"{place}: {name}" for name in blocks if isinstance(data.get(name), dict) and KIND not in data[name]]
        heads = [role for role in ("target", "draft") if isinstance((data.get(role) or {}).get("head"), dict)]
        return [*found, *(f"{place}: {role}.head" for role in heads if KIND not in data[role]["head"])]

    files = [*sorted((DATA / "scenarios").glob("*.yaml")), *sorted((DATA / "scenarios/papers").glob("*.yaml"))]
    assert len(files) > 50
    assert [one for file in files for one in earlier(parse(file.read_text(), str(file)).data, file.name)] == []
    assert earlier({"policy": {"name": "sync"}}, "x") == ["x: policy"], "would be found"


def test_errors_list_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(DATA / "scenarios" / "paper_table.yaml")
    for change, words in (
        ("logits={}", "the key 'kind', one of live, transcript, synthetic, acceptance"),
        ("logits=live", "a block with the key 'kind', one of live, transcript, synthetic, acceptance"),
        ("payload.scheme=full_row", "kind 'full_row'; expected one of token_ids, one_hot, full_rows"),
        ("accept=typicalacceptance", "Did you mean 'typical'?"),
        ("target.head={kind: raw}", "Did you mean 'logits'?"),
        ("policy={kind: sync, name: pearl, draft_tokens: 3}", "kind 'sync' and name 'pearl'; expected kind alone"),
    ):
        assert main(["check", file, "--set", change]) == 2
        assert words in " ".join(capsys.readouterr().err.split()), change


def test_explain_finds_a_kind_by_its_earlier_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "payload.kind"]) == 0
    ours = capsys.readouterr().out
    assert main(["explain", "payload.scheme"]) == 0
    assert capsys.readouterr().out == ours
    assert "scheme, which is still read" in ours


def test_a_choice_of_a_study_goes_by_its_kind() -> None:
    assert label([{"kind": "sync", "draft_tokens": 4}]) == label([{"name": "sync", "draft_tokens": 4}])
    assert label([{"kind": "sync", "draft_tokens": 4}]) == "sync, draft_tokens 4"
