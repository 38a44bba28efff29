"""Files of conversations: every format that people have, nothing in them dropped without a word, and system texts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hilsim.describe.conversation import Conversation, read_conversations
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import CheckpointError, ScenarioError
from hilsim.runs.record import recorded
from hilsim.runs.run import Sources, run_both
from hilsim.screen.costs import Tables
from hilsim.screen.tokens import recorded_answers
from hilsim.show.document import notes
from hilsim.sim.trace import Trace
from hilsim.sources.recorded_with import recorded_with
from hilsim.sources.transcript import TranscriptSource, save
from hilsim.text.tokenizer import load_tokenizer
from tests.screened import differences

PROJECT = Path(__file__).resolve().parents[2]
ANSWERS = "the assistant's answers"
USER, SYSTEM, ASSISTANT = ({"role": role, "content": f"A {role}'s words."} for role in ("user", "system", "assistant"))

TEXT = {"type": "text", "text": "One."}

FORMATS: dict[str, tuple[list[Any], Conversation]] = {
    "turns": ([{"id": "a", "turns": ["One.", "Two."]}], Conversation("a", ("One.", "Two."))),
    "turns with a label": ([{"id": "a", "domain": "car", "turns": ["One."]}], Conversation("a", ("One.",))),
    "a number for an id": ([{"id": 3, "turns": ["One."]}], Conversation("3", ("One.",))),
    "a system text": (
        [{"id": "a", "turns": ["One."], "system": "Be brief."}],
        Conversation("a", ("One.",), "Be brief."),
    ),
    "a question file": (
        [{"question_id": 81, "category": "x", "turns": ["One.", "Two."], "reference": ["1", "2"]}],
        Conversation("81", ("One.", "Two."), None, ("category", "reference")),
    ),
    "chat messages": (
        [{"messages": [SYSTEM, USER, ASSISTANT, USER]}],
        Conversation("line 1", ("A user's words.",) * 2, "A system's words.", (ANSWERS,)),
    ),
    "chat messages in parts": (
        [{"id": "m", "messages": [{"role": "user", "content": [TEXT, TEXT]}]}],
        Conversation("m", ("One.One.",)),
    ),
    "shared chats": (
        [{"id": "s", "conversations": [{"from": "human", "value": "One."}, {"from": "gpt", "value": "Yes."}]}],
        Conversation("s", ("One.",), None, (ANSWERS,)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("layout", ["lines", "list", "indented list"])
@pytest.mark.parametrize(("rows", "expected"), FORMATS.values(), ids=FORMATS)
def test_every_format_is_read(rows: list[Any], expected: Conversation, layout: str, mark: str, tmp_path: Path) -> None:
    file = tmp_path / "talk"
    text = "\r\n".join(map(json.dumps, rows)) + "\n"
    if layout != "lines":
        text = json.dumps(rows, indent=2 if layout == "indented list" else None)
    file.write_bytes((mark + text).encode())
    (found,) = read_conversations(file, None, None)
    assert replace(found, id=expected.id) == expected
    assert found.id == expected.id or (expected.id == "line 1" and found.id == "line 2" and "indented" in layout)


REFUSED = {
    "no id": ({"turns": ["One."]}, ["line 2: found no id; it has turns", '"question_id"']),
    "no turns": ({"id": "b"}, ["line 2: found no turns; 'id'"]),
    "turns mistyped": ({"id": "b", "turn": ["One."]}, ["found no turns; 'id', 'turn'", "Did you mean 'turns'?"]),
    "an unknown key": (
        {"id": "b", "turns": ["One."], "sytem": "Be brief."},
        ["line 2: found an unknown key, 'sytem'; expected one of id, turns, system, domain", "Did you mean 'system'?"],
    ),
    "tools": ({"messages": [USER], "tools": []}, ["found an unknown key, 'tools'"]),
    "an id again": ({"id": "a", "turns": ["One."]}, ["line 2: found the id 'a' again", "line 1 has it"]),
    "an id that is a list": ({"id": [], "turns": ["One."]}, ["found id: list; expected text or a whole number"]),
    "another role": (
        {"messages": [USER, {"role": "tool", "content": "x"}]},
        ["message 2 of 'tool'", "user, assistant"],
    ),
    "roles of any kind": ({"messages": [USER, USER | {"role": []}, USER]}, ["message 2 of []"]),
    "no role": ({"messages": [{"content": "x"}]}, ["message 1 without 'role'; expected role and content"]),
    "no content": ({"messages": [{"role": "user"}]}, ["message 1 without 'content'"]),
    "a name": ({"messages": [USER | {"name": "x"}]}, ["message 1 with 'name'"]),
    "a picture": ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, ["content that is no text"]),
    "a system text in the middle": ({"messages": [USER, ASSISTANT, SYSTEM]}, ["message 3 of 'system'"]),
    "two questions at once": ({"messages": [USER, USER, ASSISTANT]}, ["message 2 of 'user' after another"]),
    "answers alone": ({"messages": [ASSISTANT]}, ["no turn of the passenger"]),
    "two system texts": ({"messages": [SYSTEM, USER], "system": "Be brief."}, ["two system texts"]),
    "an empty system text": (
        {"id": "b", "turns": ["One."], "system": " "},
        ["system: text; expected a text that is not empty"],
    ),
    "a key twice": ('{"id": "b", "turns": ["One."], "turns": ["Two."]}', ["the key 'turns' twice"]),
    "no object": ("[1]", ["line 2: found a JSON list"]),
    "no JSON": ("{", ["line 2: found unreadable JSON"]),
}


@pytest.mark.parametrize(("row", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_by_name_and_line(row: Any, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text('{"id": "a", "turns": ["One."]}\n' + (row if isinstance(row, str) else json.dumps(row)))
    with pytest.raises(ScenarioError) as caught:
        read_conversations(file, None, None)
    assert all(word in str(caught.value) for word in words), caught.value


def test_every_bad_entry_of_a_list_is_named_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text('[\n {"id": "a", "turns": ["One."]},\n {"turns": ["One."]},\n\n 7\n {"id": "b"}]')
    with pytest.raises(ScenarioError) as caught:
        read_conversations(file, None, None)
    assert [fault.place for fault in caught.value.faults] == ["line 3", "line 5", "line 5"]


def setup_of(folder: Path, rows: list[dict[str, Any]], template: str = "", *overrides: str) -> Setup:
    """The first scenario over some conversations, its stand-ins with a template of their own."""
    file = folder / "talk.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    changes = [f"workload.conversations={file}", f"workload.count={len(rows)}", "networks=[]", *overrides]
    for role, name in (("target", "target"), ("draft", "draft-0.2m")) if template else ():
        if not (folder / name).exists():
            shutil.copytree(PROJECT / "models" / name, folder / name)
        (folder / name / "chat_template.jinja").write_text(template)
        changes.append(f"{role}.stand_in={folder / name}")
    return load_setup(PROJECT / "scenarios/orin_8295_greedy.yaml", ["workload.max_new_tokens=8", *changes])


def run(setup: Setup) -> tuple[Trace, Trace]:
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    return outcome.baseline, outcome.speculative


TURNS = ["Open the window.", "Close it again.", "Thank you."]


def test_a_system_text_is_read_once_and_its_cache_kept(tmp_path: Path) -> None:
    rows = [{"id": "a", "turns": TURNS}]
    without = run(setup_of(tmp_path, rows))
    setup = setup_of(tmp_path, [rows[0] | {"system": "You are the voice of a car."}])
    tokenizer = load_tokenizer(PROJECT / "models/target")
    more = len(tokenizer.first_turn(TURNS[0], "You are the voice of a car.")) - len(tokenizer.first_turn(TURNS[0]))
    assert more > 5
    for ours, bare in zip(run(setup), without, strict=True):
        added = [
            one.prompt_tokens - other.prompt_tokens for one, other in zip(ours.requests, bare.requests, strict=True)
        ]
        assert added == [more, 0, 0]
        reads = [span.rows for span in ours.spans if span.kind == "prefill"]
        assert sum(reads) < sum(request.prompt_tokens for request in ours.requests) + 3 * 2
    assert setup.digest != setup_of(tmp_path, rows).digest
    assert recorded_with(setup)["conversations"] != recorded_with(setup_of(tmp_path, rows))["conversations"]


LOSES_ANSWERS = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% else %}<|assistant|>"
    "{{ m.content[:3] }}<|end|>{% endif %}{% endfor %}<|assistant|>"
)
USERS_ALONE = LOSES_ANSWERS.replace("{% else %}", "{% elif m.role == 'assistant' %}")


def test_a_system_text_that_a_template_leaves_out_or_refuses_is_named(tmp_path: Path) -> None:
    rows = [{"id": "a", "turns": TURNS, "system": "Be brief."}]
    for template, words in (
        (USERS_ALONE, "leaves the system text out, for conversation 'a'"),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + USERS_ALONE,
         "no system here"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError) as caught:
            Sources(setup_of(tmp_path, rows, template))
        assert words in str(caught.value)
        assert "Leave its system text out" in str(caught.value)


def test_what_is_known_and_not_used_is_noted(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "category": "x", "turns": ["Open the window."]}]
    setup = setup_of(tmp_path, rows)
    assert any("Not used from the conversations' file: category" in note for note in notes(setup, run(setup)[0]))
    plain = setup_of(tmp_path, [{"id": "1", "turns": ["Open the window."]}])
    assert not any("not used" in note for note in notes(plain, run(plain)[0]))


def test_caches_are_cut_where_a_template_changes_what_it_wrote_and_a_replay_does_the_same(tmp_path: Path) -> None:
    rows = [{"id": name, "turns": TURNS} for name in ("a", "b")]
    rows[1]["turns"] = [*reversed(TURNS)]
    exact = "logits={source: live, dtype: float64}"  # the same to the bit however many rows a pass has
    setup = setup_of(tmp_path, rows, LOSES_ANSWERS, exact)
    live = run(setup)
    for trace in live:
        assert len(trace.reread) == 4
        assert any("4 turns" in note and f"{sum(trace.reread)} tokens" in note for note in notes(setup, trace))
        target = [
            span for span in trace.spans if span.kind == "prefill" and span.track.startswith(setup.target.chip.name)
        ]
        read = [span.rows for span in target]
        kept = [span.cached for span in target]
        prompts = [request.prompt_tokens for request in trace.requests]
        assert read == prompts  # all that is new, and nothing twice
        assert kept[0] == kept[3] == 0 < min(kept[1:3] + kept[4:])
    file = tmp_path / "talk.npz"
    known = recorded(setup, 16)
    save(known, file)
    replayed = setup_of(tmp_path, rows, LOSES_ANSWERS, f"logits={{source: transcript, file: {file}}}")
    for ours, theirs in zip(live, run(replayed), strict=True):
        assert ours.spans == theirs.spans
        assert ours.requests == theirs.requests
        assert ours.rounds == theirs.rounds
    source = Sources(replayed).fresh()
    assert isinstance(source, TranscriptSource)
    words = recorded_answers(replayed, source)
    for policy in ("{name: sync, draft_tokens: 4}", "{name: pearl, draft_tokens: 4}", "{name: target_only}"):
        changed = setup_of(
            tmp_path, rows, LOSES_ANSWERS, f"logits={{source: transcript, file: {file}}}", f"policy={policy}"
        )
        assert differences(changed, words, Sources(changed).fresh(), Tables()) == []
