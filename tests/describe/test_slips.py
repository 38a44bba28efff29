"""Slips of people who write their first files: the message blames the right thing and says what would mend it."""

import shutil
from pathlib import Path

import pytest

from hilsim.describe.catalogue import find_scenario, load_chip, load_named
from hilsim.describe.explained import explained
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.names import key_hint
from hilsim.describe.schema import RECORDS
from hilsim.describe.skeleton import new_file
from hilsim.describe.study_load import load_study
from hilsim.errors import InputError

MINE = Path("scenarios/paper_table.yaml")


def faults_of(file: Path, *overrides: str) -> list[str]:
    """The messages about a scenario; [] where it is sound."""
    try:
        load_setup(file, overrides)
    except InputError as error:
        return [str(fault) for fault in error.faults]
    return []


@pytest.mark.parametrize("kind", ["chip", "link", "model", "study"])
def test_a_file_of_another_kind_is_one_fault_and_a_faulty_scenario_is_not(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "thing.yaml"
    file.write_text(new_file(kind, "thing", None, file))
    (fault,) = faults_of(file)
    assert f"found a {kind}, not a scenario; expected a scenario." in fault
    assert "hilsim explain scenario" in fault
    # Control: with a key that no kind has, each of the keys is told.
    file.write_text(file.read_text() + "nonsense: 1\n")
    assert len(faults_of(file)) > 1


def test_no_file_can_be_whole_as_two_kinds() -> None:
    """Of two kinds, one needs a key that the other refuses: which kind a file is of follows from its keys."""
    keys, needed = {}, {}
    for kind, record in RECORDS.items():
        fields = record.model_fields.items()
        keys[kind] = {word for name, field in fields for word in (name, field.alias)}
        needed[kind] = {field.alias or name for name, field in fields if field.is_required()}
    pairs = [(one, other) for one in RECORDS for other in RECORDS if one < other]
    assert len(pairs) == len(RECORDS) * (len(RECORDS) - 1) // 2
    assert not [(one, other) for one, other in pairs if needed[one] <= keys[other] and needed[other] <= keys[one]]


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("target.chip.memory=8", "hilsim new chip NAME --like paper-target"),
        ("context_tokens.most=8", "a key inside context_tokens, which is "),
        ("target.widths[0]=8", "found no list target.widths in the scenario"),
        ("networks.0.name=x", "--set networks=[...] gives the whole list."),
        ("context_tokens=", "found nothing; expected a whole number"),
    ],
)
def test_a_set_that_leads_into_a_plain_value_says_what_is_there(override: str, wanted: str) -> None:
    (fault,) = faults_of(MINE, override)
    assert wanted in fault


def test_a_kind_in_its_short_form_can_be_gone_on_with() -> None:
    setup = load_setup(MINE, ["policy=sync", "policy.draft_tokens=3"])
    assert (setup.scenario.policy.name, setup.scenario.policy.draft_tokens) == ("sync", 3)
    assert "draft_tokens" in "".join(faults_of(MINE, "policy=sync"))  # control: alone it is not enough


def test_an_empty_file_is_at_fault_and_not_the_option(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    assert (
        faults_of(empty, "seed=1")
        == faults_of(empty)
        == [f"{empty}: top level: found nothing; expected a block of keys."]
    )


def test_tabs_and_missing_blanks_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: a\ntarget:\n\tmodel: x\n")
    assert "YAML takes no tab there" in faults_of(file)[0]
    file.write_text("name: a\ntarget: [\n")
    assert "takes no tab" not in faults_of(file)[0]  # control
    text = MINE.read_text()
    file.write_text(text.replace("draft_tokens: ", "draft_tokens:", 1))
    assert any("A blank follows the colon: `draft_tokens: " in fault for fault in faults_of(file))


def test_a_key_without_its_unit_is_found_where_only_one_goes_on_so() -> None:
    assert key_hint("pause", ["pause_ms", "count"]) == "Did you mean 'pause_ms'?"
    assert key_hint("top", ["top_k", "top_p"]) == ""
    assert key_hint("paus", ["pause_ms", "count"]) == ""


def test_keys_of_the_other_workload_are_not_offered() -> None:
    (fault,) = faults_of(MINE, "workload.pauses=5")
    own = ("requests", "prompt_tokens", "output_tokens")
    assert all(word in fault for word in own)
    assert "max_turns" not in fault


def test_a_name_of_another_kind_or_a_file_beside_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'sa8295p' is the name of a chip, not of a link"):
        load_named("link", Link, "sa8295p", MINE)
    with pytest.raises(InputError, match="'sa8295p' is the name of a chip, not of a scenario"):
        find_scenario("sa8295p")
    shutil.copy("chips/sa8295p.yaml", tmp_path / "board-7.yaml")
    with pytest.raises(InputError, match=r"A file is named by its path: board-7\.yaml"):
        load_chip("board-7", tmp_path / "x.yaml")
    with pytest.raises(InputError, match=r"Or give the path of a \.yaml file"):  # control
        load_chip("board-8", tmp_path / "x.yaml")


def test_a_list_written_as_a_block_is_told_of_dashes() -> None:
    (fault,) = faults_of(MINE, "networks={a: 1}")
    assert "A dash begins each entry of a list." in fault


def test_a_list_is_not_called_short_for_entries_at_fault(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    text = "name: s\nquestion: q\nscenario: scenarios/paper_table.yaml\naxes:\n"
    file.write_text(text + "  - {path: policy.draft_tokens, values: [3, 5]}\n")
    with pytest.raises(InputError) as caught:
        load_study(file, (), ["speedup"])
    messages = [str(fault) for fault in caught.value.faults]
    assert not any("of them" in message for message in messages)
    assert any("axes[0].path" in message and "Here it is `key` of an axis." in message for message in messages)
    file.write_text(text.replace("axes:\n", "axes: []\n"))  # control
    with pytest.raises(InputError, match=r"axes.*at least 1 of them"):
        load_study(file, (), ["speedup"])


def test_a_key_is_explained_by_its_kind_and_a_dot() -> None:
    assert explained("chip.memory") == explained("chip:memory")
    assert {key.kind for key in explained("chip.memory")[0]} == {"chip"}
    with pytest.raises(InputError):
        explained("chip.memry")


@pytest.mark.parametrize("head", ["eagle", "Medusa", "mtp"])
def test_a_policy_named_by_a_draft_head_is_sent_to_the_draft(head: str) -> None:
    (fault,) = faults_of(MINE, f"policy={head}")
    assert f"draft={{head_kind: {head.lower()}}}" in fault
    (other,) = faults_of(MINE, "policy=specinfer")
    assert "Did you mean 'tree'?" in other, "what papers call a whole policy is still that"
