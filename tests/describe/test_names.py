"""Names as people spell them, what is suggested and what never is, foreign keys, power modes, paths."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core.core_schema import ErrorType

from hilsim.commands.main import main
from hilsim.compiler.fallback_options import FallbackOption
from hilsim.cost.verdict import PlacementRemedy
from hilsim.describe.catalogue import FOLDERS, file_of, known_name, load_chip, load_record, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.complaints import expectation, records_inside
from hilsim.describe.family import Family
from hilsim.describe.foreign import KINDS, SCENARIO
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.names import KnownName, edits, hint, key_hint, near, resolve, slip, split_name, within
from hilsim.describe.profile import Profile
from hilsim.describe.runtime import Runtime
from hilsim.describe.scenario import Scenario
from hilsim.describe.study import Study
from hilsim.describe.write import typed
from hilsim.errors import InputError, ScenarioError
from hilsim.fidelity.cases import chip_of
from hilsim.measure.measures import MEASURES
from hilsim.places import CODE as PROJECT

ASKING = PROJECT / "scenarios" / "x.yaml"
ORIN = PROJECT / "scenarios" / "orin_8295.yaml"
NAMED = {
    kind: [known_name(file) for file in sorted((PROJECT / folder).glob("*.yaml"))] for kind, folder in FOLDERS.items()
}
SHIPPED = [(kind, one) for kind, known in NAMED.items() for one in known]
SPELLINGS = (
    str.upper,
    str.lower,
    str.title,
    lambda text: text.replace("-", "_"),
    lambda text: text.replace("-", " ").replace("_", " "),
    lambda text: re.sub(r"(?<=\D)[-_](?=\D)|(?<=\d)[-_](?=\D)|(?<=\D)[-_](?=\d)", "", text),
)


@pytest.mark.parametrize(("kind", "one"), SHIPPED, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_shipped_name_means_itself_however_it_is_written(kind: str, one: KnownName) -> None:
    for name in (one.name, *one.aliases):
        for spelling in SPELLINGS:
            assert resolve(spelling(name), NAMED[kind], kind) == (one.name,), spelling(name)
    for name in ("  " + one.name, one.name + " "):
        assert resolve(name, NAMED[kind], kind) == (one.name,)
    assert not one.title or one.name in resolve(one.title, NAMED[kind], kind)


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_suggestion_leads_from_one_thing_to_another(kind: str) -> None:
    """What a name is asked for in a catalogue that lacks its thing: nothing else is suggested for it."""
    for one in NAMED[kind]:
        others = [other for other in NAMED[kind] if other.name != one.name]
        for name in (one.name, one.name.upper(), *one.aliases, one.title):
            # A name that is a part of others (a size or a release is left out) may be asked back; nothing else may.
            parts = [
                one.name for one in others if any(within(split_name(name), split_name(text)) for text in one.spellings)
            ]
            assert set(near(name, others, kind)) <= set(parts), name


def blocks(record: type[BaseModel]) -> set[type[BaseModel]]:
    """A record and all that stand in it."""
    found, left = set(), [record]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += [inside for field in one.model_fields.values() for inside in records_inside(field.annotation)]
    return found


def test_no_suggestion_leads_from_one_key_to_another() -> None:
    lists = [
        [field.alias or name for name, field in record.model_fields.items()]
        for root in (Scenario, Chip, Model, Link, Family, Runtime, Profile, Study)
        for record in blocks(root)
    ]
    lists += [list(MEASURES), *(list(kinds.values()) for kinds in KINDS.values())]
    assert sum(map(len, lists)) > 400
    for known in lists:
        for one in known:
            others = [other for other in known if other.rstrip("s") != one.rstrip("s")]  # `mode`, `modes` are one word
            if one in ("loss", "lost"):  # two kinds of faults by their usual names: messages are lost, a chip is
                others = [other for other in others if other not in ("loss", "lost")]
            assert key_hint(one, others) == "", (one, key_hint(one, others))


def test_no_foreign_key_has_a_look_alike_suggested() -> None:
    everywhere = [name for record in blocks(Scenario) for name in record.model_fields]
    for foreign in ("frequency_penalty", "presence_penalty", "min_p", "n_predict", "typical_p", "mirostat", "top_a"):
        assert key_hint(foreign, everywhere) == "", foreign


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("temprature", "temperature"), ("modle", "model"), ("draft_token", "draft_tokens"), ("widhts", "widths"),
     ("draftTokens", "draft_tokens"), ("precison", "precision"), ("sede", "seed"), ("top-k", "top_k")],
)  # fmt: skip
def test_a_slip_of_the_keyboard_is_found(wrong: str, right: str) -> None:
    assert repr(right) in key_hint(wrong, [right, "other", "rate", "unit"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("orin-nx", "orin-nano"), ("sa8255p", "sa8295p"), ("sync", "async"), ("npu", "gpu"), ("pause_s", "pause_ms"),
     ("w4a8", "w4a16"), ("qwen2-57b", "qwen2.5-7b"), ("llama-3.2-1b", "llama-3.2-3b"), ("top_p", "top_k"),
     ("min_batch", "max_batch"), ("accepted", "expected"), ("agx-thor", "agx-orin"), ("phi-3-medium", "phi-3-mini")],
)  # fmt: skip
def test_what_may_be_two_things_is_no_slip(wrong: str, right: str) -> None:
    assert slip(wrong, right) is None
    assert slip(right, wrong) is None


def test_edits_are_the_least_number_of_changes() -> None:
    """Against a search through everything that one edit makes of a word."""

    def one_edit(word: str) -> set[str]:
        cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
        found = {left + right[1:] for left, right in cuts if right}
        found |= {left + letter + right for left, right in cuts for letter in "ab"}
        found |= {left + letter + right[1:] for left, right in cuts if right for letter in "ab"}
        return found | {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}

    every = ["".join(letters) for size in range(5) for letters in itertools.product("ab", repeat=size)]
    for word in every:
        near_by = one_edit(word) - {word}
        for other in every:
            assert (edits(word, other) == 1) == (other in near_by), (word, other)
            assert (edits(word, other) == 0) == (word == other)


@pytest.mark.parametrize(
    ("kind", "spelling", "name"),
    [
        ("chip", "SA8295P", "sa8295p"), ("chip", "8295", "sa8295p"), ("chip", "Qualcomm SA8295P", "sa8295p"),
        ("chip", "SA8295P ADP", "sa8295p"), ("chip", "QCS9075", "iq-9075"), ("chip", "SM8650", "snapdragon-8-gen-3"),
        ("chip", "AGX Orin 64 GB", "agx-orin-64gb"), ("chip", "NVIDIA Jetson Orin NX 8GB", "orin-nx-8gb"),
        ("chip", "Jetson AGX Orin 32GB Developer Kit", "agx-orin-32gb"), ("chip", "jetson-orin-nx", "orin-nx-16gb"),
        ("chip", "8 Elite", "snapdragon-8-elite"), ("chip", "Orin Nano Super", "orin-nano-super-8gb"),
        ("model", "Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"), ("model", "google/gemma-2-9b-it", "gemma-2-9b"),
        ("model", "meta-llama/Llama-3.2-1B", "llama-3.2-1b"), ("model", "Llama 3.1 8B Instruct", "llama-3.1-8b"),
        ("model", "llama_v3_2_3b_instruct", "llama-3.2-3b"), ("model", "meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"),
        ("link", "1000BASE-T1", "1000base-t1"), ("link", "PCIe Gen3 x4", "pcie-gen3-x4"),
        ("runtime", "llama.cpp", "llama-cpp"), ("runtime", "TensorRT-LLM", "tensorrt-llm"),
        ("family", "Hexagon V68", "hexagon-v68"), ("profile", "SA8295-2023", "sa8295_2023"),
    ],
)  # fmt: skip
def test_usual_spellings(kind: str, spelling: str, name: str) -> None:
    assert file_of(kind, spelling, ASKING).stem == name


def test_every_model_is_found_by_the_name_that_its_configuration_is_published_under() -> None:
    checked = 0
    for file in sorted((PROJECT / "models").glob("*.yaml")):
        source = load_record(Model, file).architecture.source
        if published := re.search(r"config\.json of (\S+/\S+) on Hugging Face", source):
            found = resolve(published.group(1), NAMED["model"], "model")
            assert found == (file.stem,) or load_record(Model, file).role == "draft", (published.group(1), found)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [("chip", "sa8650p"), ("chip", "Snapdragon 8 Gen 2"), ("chip", "orin-nx-4gb"), ("chip", "jetson-t4000"),
     ("chip", "xavier-nx"), ("chip", "drive-orin-n"), ("model", "Qwen/Qwen3-235B-A22B"), ("model", "llama-3.2-90b"),
     ("model", "Qwen3-4B-Instruct-2507"), ("link", "100base-t1"), ("family", "hexagon-v69")],
)  # fmt: skip
def test_what_is_not_described_is_refused_without_a_suggestion(kind: str, spelling: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        file_of(kind, spelling, ASKING)
    text = str(refused.value)
    assert "Did you mean" not in text
    assert all(one.name in text for one in NAMED[kind])


def test_what_means_several_things_is_refused_with_all_of_them() -> None:
    with pytest.raises(ScenarioError, match=r"Did you mean 'orin-nx-16gb' or 'orin-nx-8gb'\?"):
        file_of("chip", "NX", ASKING)
    twins = [KnownName("one-8gb", ("board",)), KnownName("one-16gb", ("board",)), KnownName("other")]
    assert resolve("Board", twins) == ("one-8gb", "one-16gb")
    assert hint("Board", twins) == "Did you mean 'one-8gb' or 'one-16gb'?"


def test_a_file_of_ones_own_is_found_by_its_title_and_goes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    text = (PROJECT / "chips" / "sa8295p.yaml").read_text()
    text = text.replace("name: sa8295p", "name: rig-7").replace("Qualcomm SA8295P, cockpit", "Rig seven")
    text = re.sub(r"known_as: .*", "known_as: [left-board]", text)
    (tmp_path / "chips" / "rig-7.yaml").write_text(text)
    for spelling in ("Rig Seven", "LEFT BOARD", "rig 7"):
        assert load_chip(spelling, tmp_path / "scenario.yaml").name == "rig-7"


@pytest.mark.parametrize(
    ("value", "name"),
    [("agx-orin-64gb@MAXN", "agx-orin-64gb"), ("AGX Orin 64GB@maxn", "agx-orin-64gb"),
     ("agx-orin-64gb@15w", "agx-orin-64gb@15W"), ("agx-orin-64gb@MODE_15W", "agx-orin-64gb@15W"),
     ("agx-orin-64gb@30 W", "agx-orin-64gb@30W"), ("orin-nano-8gb@MAXN_SUPER", "orin-nano-super-8gb"),
     ("orin-nano-8gb@25W", "orin-nano-super-8gb@25W"), ("orin-nano-8gb@15W", "orin-nano-8gb")],
)  # fmt: skip
def test_power_modes_by_any_spelling(value: str, name: str) -> None:
    assert load_chip(value, ASKING).name == name


def test_the_plain_figures_of_every_chip_with_modes_say_which_mode_they_are() -> None:
    for one in NAMED["chip"]:
        chip = written_chip(one.name, ASKING)
        if chip.modes:
            assert chip.mode is not None, one.name
            assert chip.mode.name in chip.title
            assert written_chip(f"{one.name}@{chip.mode.name.lower()}", ASKING) == chip
        for mode in chip.modes_elsewhere:
            assert written_chip(f"{one.name}@{mode}", ASKING).name.partition("@")[0] != one.name


def test_an_unknown_mode_is_refused_with_the_modes_and_the_plain_one() -> None:
    with pytest.raises(ScenarioError) as refused:
        load_chip("agx-orin-64gb@20W", ASKING)
    assert "MAXN (the plain agx-orin-64gb), agx-orin-64gb@50W" in str(refused.value)
    assert "Did you mean" not in str(refused.value)
    with pytest.raises(ScenarioError, match="a power mode of sa8295p: none"):
        load_chip("sa8295p@burst", ASKING)


def test_measurements_and_commands_have_one_resolver() -> None:
    for spelling in ("SA8295P", "8295", "AGX Orin 64GB", "jetson-orin-nx", "sa8775"):
        assert chip_of(spelling, "x.csv").name == load_chip(spelling, ASKING).name
    assert chip_of("Jetson AGX Orin 64GB@15W", "x.csv").name == "agx-orin-64gb@15W"


def test_a_spelling_changes_nothing_of_a_run() -> None:
    plain = load_setup(ORIN)
    spelled_out = load_setup(
        ORIN,
        ["target.chip=SA8295P", "target.unit=NPU", "target.precision=W4", "link=PCIe Gen3 x4", "application=8295",
         "target.model=meta-llama/Llama-3.2-3B-Instruct", "draft.chip=DRIVE Orin-X"],
    )  # fmt: skip
    assert spelled_out.scenario.target == plain.scenario.target
    assert (spelled_out.scenario.link, spelled_out.application) == (plain.scenario.link, plain.application)
    assert load_setup(ORIN, ["target.chip=8295"]).digest == plain.digest


def complaint(*overrides: str, file: Path = ORIN) -> str:
    with pytest.raises(InputError) as refused:
        load_setup(file, overrides)
    return str(refused.value)


@pytest.mark.parametrize(
    ("override", "says", "never"),
    [
        ("sampling={temperature: 0.7, frequency_penalty: 0.5}", "not supported", "repetition_penalty'"),
        ("sampling={temperature: 0.7, presence_penalty: 0.5}", "not supported", "Did you mean"),
        ("sampling={temperature: 0.7, min_p: 0.1}", "top_k and top_p are", "Did you mean"),
        ("sampling.repeat_penalty=1.1", "called repetition_penalty", "Did you mean"),
        ("sampling.temp=0.7", "called temperature", "Remove"),
        ("sampling.top_k=0", "leave top_k out", "Did you mean"),
        ("sampling.top_k=-1", "leave top_k out", "Did you mean"),
        ("seed=-1", "runs here repeat", "Did you mean"),
        ("max_tokens=64", "workload.max_new_tokens", "Did you mean"),
        ("n_predict=64", "workload.max_new_tokens", "Did you mean"),
        ("workload.max_tokens=64", "called max_new_tokens", "Did you mean"),
        ("ctx-size=2048", "context_tokens", "Did you mean"),
        ("policy.num_speculative_tokens=4", "called draft_tokens", "Did you mean"),
        ("policy.draft_max=4", "policy.most", "Did you mean"),
        ("policy.temperature=0.5", "belongs in the block sampling", "Did you mean"),
        ("policy.name=speculative", "Did you mean 'sync'?", "Remove"),
        ("policy.name=Target-Only", "Did you mean 'target_only'?", "Remove"),
        ("accept=rejection_sampling", "Did you mean 'ratio'?", "Remove"),
        ("accept=Greedy", "Did you mean 'greedy'?", "Remove"),
        ("payload=topk", "Did you mean 'top_k'?", "Remove"),
        ("payload=logits", "Did you mean 'full_rows'?", "Remove"),
        ("payload={k: 5}", "one of token_ids, one_hot, full_rows, top_k, scalar, top_k_after", "known kinds"),
        ("policy={draft_tokens: 4}", "one of target_only, sync, adaptive, pearl, async", "known kinds"),
        ("accept={lenience: 0.5}", "one of greedy, ratio, gumbel, sample_match", "known kinds"),
        ("target.head={k: 4}", "one of logits, argmax, top_k, top_k_sampling", "known kinds"),
        ("logits={dtype: float32}", "one of live, transcript, synthetic", "known kinds"),
        ("target.precision=int4", "With 4-bit weights there is w4", "Did you mean"),
        ("target.precision=float16", "With 16-bit weights there is fp16", "Did you mean"),
        ("verify_at=Target", "Did you mean 'target'?", "Remove"),
    ],
)
def test_what_other_programs_call_things_is_answered_with_what_is_meant(override: str, says: str, never: str) -> None:
    text = complaint(override)
    assert says in text
    assert never not in text.partition("expected")[2].partition(". ")[2]


def test_every_foreign_name_leads_to_something_that_there_is() -> None:
    paths = {""}
    left: list[tuple[str, type[BaseModel], int]] = [("", Scenario, 0)]
    while left:
        prefix, record, depth = left.pop()
        for name, field in record.model_fields.items():
            paths.add(prefix + (field.alias or name))
            left += [(f"{prefix}{name}.", one, depth + 1) for one in records_inside(field.annotation) if depth < 3]
    for meant in SCENARIO.values():
        if " " not in meant:
            assert meant in paths or meant == "units.UNIT.backend", meant
    for path in {found for meant in SCENARIO.values() for found in re.findall(r"\b[a-z]+\.[a-z_]+\b", meant)}:
        assert path in paths, path


def test_every_complaint_of_pydantic_has_words_of_our_own() -> None:
    context: dict[str, Any] = {
        "ge": 1, "gt": 1, "le": 1, "lt": 1, "expected": "'a' or 'b'", "multiple_of": 2, "pattern": "^a$",
        "min_length": 1, "max_length": 2, "actual_length": 3, "field_type": "List",
    }  # fmt: skip
    kinds = get_args(ErrorType)
    assert len(kinds) > 100
    for kind in kinds:
        text = expectation({"type": kind, "ctx": context, "msg": "Input should be a valid thing", "input": None})
        assert text, kind
        assert not re.search(r"Input|should|valid|instance|pydantic", text), (kind, text)


@pytest.mark.parametrize("path", ["~/no-such-folder-here", "$HILSIM_TEST_PLACE/x", "${HILSIM_TEST_PLACE}/x"])
def test_home_and_variables_are_filled_in_wherever_a_path_is_typed(
    path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HILSIM_TEST_PLACE", str(tmp_path))
    keys = ("target.stand_in", "workload.conversations", 'logits={source: transcript, file: "PATH"}')
    for key in keys:
        override = key.replace("PATH", path) if "PATH" in key else f"{key}={path}"
        text = complaint(override)
        assert str(tmp_path) in text
        assert f"/{path}" not in text
    assert main(["check", path]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_variable_that_is_not_set_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HILSIM_NOT_SET", raising=False)
    text = complaint("target.stand_in=$HILSIM_NOT_SET/x")
    assert "target.stand_in" in text
    assert "$HILSIM_NOT_SET is not set" in text
    with pytest.raises(SystemExit):
        main(["check", "${HILSIM_NOT_SET}/x.yaml"])
    assert "$HILSIM_NOT_SET is not set" in capsys.readouterr().err
    assert "no user's home folder" in complaint("target.stand_in=~no-such-user-here/x")


def test_a_path_that_is_there_is_read_through_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "talk.jsonl").write_text('{"id": "a", "turns": ["hello there"]}\n')
    setup = load_setup(ORIN, ["workload.conversations=~/talk.jsonl", "workload.count=1"])
    assert setup.conversations[0].turns == ("hello there",)


def test_remedies_can_be_pasted_into_a_shell() -> None:
    changes = ("target.widths=[1, 8]", "draft.head={name: top_k, k: 5}", "question=what's *this*, $HOME?", "link=ideal")
    for remedy in (PlacementRemedy(changes, "because", 0.9, 20.0), FallbackOption(changes, "because", 20.0)):
        command = str(remedy).partition("  (")[0]
        assert shlex.split(command) == [part for change in changes for part in ("--set", change)]
    assert typed(["link=ideal"]) == "--set link=ideal"
