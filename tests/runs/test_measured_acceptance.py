"""Scenarios with a real pair's acceptance: over conversations, screened, in studies, by the shorthand, in reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hilsim.commands.main import main, simulate_main
from hilsim.describe.acceptance_formats.formats import load_acceptance
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.measure.accepted import accepted_lists, profile_of, whole_rounds
from hilsim.runs.replay import numbers_of
from hilsim.runs.run import Sources, content_key, run_both
from hilsim.runs.transcripts import text_of
from hilsim.screen.costs import Tables
from hilsim.screen.tokens import supposed_answers, with_lookup_by_luck
from tests.documents import document_of
from tests.scenes import shipped
from tests.screened import differences

EAGLE = "eagle-llama-3.1-8b/sharegpt"
RECORDED = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"
FEW = "workload.count=4"


LOOKUP = "n-gram-llama-3.1-8b/code"


def as_of(name: str | Path, *overrides: str, **given: object) -> Setup:
    """The first scenario with the acceptance of a real pair."""
    more = "".join(f", {key}: {value}" for key, value in given.items())
    return shipped("orin_8295_greedy", f"logits={{source: acceptance, file: {name}{more}}}", FEW, *overrides)


PAIRED = (
    (EAGLE, "{name: target_only}"), (EAGLE, "{name: sync, draft_tokens: 5}"),
    (EAGLE, "{name: adaptive, rule: schedule, most: 12}"), (EAGLE, "{name: pearl, draft_tokens: 4}"),
    ("llama-3.2-1b-llama-3.1-8b/mt-bench", "{name: sync, draft_tokens: 7}"),
    (LOOKUP, "{name: prompt_lookup, draft_tokens: 4}"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "policy"), PAIRED)
def test_conversations_are_screened_as_events_tell_them(name: str, policy: str) -> None:
    setup = as_of(name, f"policy={policy}")
    answers = supposed_answers(setup, text_of(setup))
    if "prompt_lookup" in policy:
        answers = with_lookup_by_luck(answers, 4)
    assert differences(setup, answers, Sources(setup).fresh(), Tables()) == []
    if "sync" in policy:  # the control: with the luck of another pair
        other = supposed_answers(as_of("t5-small-t5-xxl/cnndm-t1", f"policy={policy}"), text_of(setup))
        assert differences(setup, other, Sources(setup).fresh(), Tables())


def test_recorded_rounds_are_screened_as_events_tell_them(tmp_path: Path) -> None:
    setup = as_of(rounds_file(tmp_path), use="blocks")
    answers = supposed_answers(setup, text_of(setup))
    assert differences(setup, answers, Sources(setup).fresh(), Tables()) == []


def test_answers_are_the_target_s_own_and_only_the_rounds_change() -> None:
    """Questions, answers and first clauses are those of the scenario's own run, token by token."""
    own, ours = shipped("orin_8295_greedy", RECORDED, FEW), as_of(EAGLE)
    theirs, found = run_both(own, Sources(own)), run_both(ours, Sources(ours))
    assert theirs.speculative is not None
    assert found.speculative is not None
    kept = [(one.number, one.answer, one.prompt_tokens, one.clause_tokens) for one in theirs.speculative.requests]
    assert [(one.number, one.answer, one.prompt_tokens, one.clause_tokens) for one in found.baseline.requests] == kept
    assert [
        (one.number, one.answer, one.prompt_tokens, one.clause_tokens) for one in found.speculative.requests
    ] == kept
    assert found.baseline.spans == theirs.baseline.spans
    assert found.speculative.spans != theirs.speculative.spans


def test_rules_of_sampling_have_an_answer_too() -> None:
    """Where tokens depend on more than their position no transcript holds them, but the target's text alone does."""
    warm = ("sampling={temperature: 0.7, top_k: 40, top_p: 0.95}", "accept=gumbel", "payload=token_ids")
    setup = as_of(EAGLE, *warm)
    assert setup.guarantee.level == "text"
    ratio = as_of(EAGLE, warm[0], "accept=ratio", "payload={scheme: top_k, k: 64}")
    assert run_both(ratio, Sources(ratio)).baseline.requests == run_both(setup, Sources(setup)).baseline.requests


def rounds_file(folder: Path) -> Path:
    """The rounds of the shipped stand-ins, as `export` writes them."""
    own = shipped("orin_8295_greedy", RECORDED, FEW)
    trace = run_both(own, Sources(own)).speculative
    assert trace is not None
    lists = accepted_lists(trace)
    file = folder / "rounds.jsonl"
    rows = [{"accepted": rounds, "drafted": lists.drafts_of(number)} for number, rounds in enumerate(lists.accepted)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_rounds_that_were_exported_replay_as_they_were(tmp_path: Path) -> None:
    file = rounds_file(tmp_path)
    setup = as_of(file)
    trace = run_both(setup, Sources(setup)).speculative
    assert trace is not None
    given = load_acceptance(str(file), file).acceptance
    assert isinstance(given, AcceptedLists)
    assert accepted_lists(trace).accepted == given.accepted


def test_rounds_of_other_conversations_are_refused(tmp_path: Path) -> None:
    setup = as_of(rounds_file(tmp_path), "workload.count=3")
    with pytest.raises(InputError, match=r"a list for every request of the run.*logits.use=blocks"):
        Sources(setup)


def test_an_exported_profile_is_the_run_s_own_acceptance(tmp_path: Path) -> None:
    own = shipped("orin_8295_greedy", RECORDED)
    trace = run_both(own, Sources(own)).speculative
    assert trace is not None
    file = tmp_path / "speculation_profile.json"
    file.write_text(json.dumps(profile_of(own, trace)))
    whole = whole_rounds(accepted_lists(trace), 5)
    found = load_acceptance(str(file), file)
    assert found.conditional == pytest.approx(whole.chances, abs=1e-6)
    assert (found.rounds, found.title) == (whole.rounds, "models/target with models/draft-0.8m")


def test_content_depends_on_the_profile_and_on_how_it_is_used(tmp_path: Path) -> None:
    file = rounds_file(tmp_path)
    setups = [as_of(EAGLE), as_of("dflash-minimax-m2.7/mt-bench"), as_of(file), as_of(file, use="blocks")]
    assert len({content_key(setup) for setup in setups}) == len({setup.digest for setup in setups}) == len(setups)


def test_numbers_of_studies_are_those_of_events() -> None:
    setup = as_of(EAGLE)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    found = numbers_of(setup)
    from hilsim.measure.metrics import speculation, speedup

    assert found["speedup"] == pytest.approx(speedup(outcome.baseline, outcome.speculative), rel=1e-12)
    assert found["mean_acceptance_length"] == speculation(outcome.speculative)["mean_acceptance_length"]


def test_every_answer_states_whose_acceptance_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--set", "workload.count=1", "--set", "workload.max_turns=1"]
    assert simulate_main(["orin_8295_greedy", "--acceptance", EAGLE, "--json", *few]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["acceptance"]["name"] == EAGLE
    assert report["acceptance"]["kind"] == "measured"
    assert "SpecDecode-Bench" in report["acceptance"]["source"]
    assert report["roles"]["draft"]["stand_in"] is None
    notes = " ".join(report["notes"])
    assert "not of this scenario's models" in notes
    assert "llama-3.2-3b would answer with another text" in notes
    assert simulate_main(["paper_table", "--acceptance", EAGLE, "--plain", "--set", "workload.requests=2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "The profile holds at" not in told
    assert "Acceptance as of Llama-3.1-8B with EAGLE over ShareGPT conversations, measured." in told
    assert "the text is not real" in told
    warm = ["--acceptance", "lamda-8b-lamda-137b/dialog-t1", "--plain", "--set", "workload.requests=2"]
    assert simulate_main(["paper_table", *warm]) == 0
    assert "holds at temperature 1; the scenario samples at 0" in " ".join(capsys.readouterr().out.split())


def test_a_study_takes_the_shorthand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Speed-up over drafts under EAGLE's acceptance: below that of the shipped stand-ins everywhere."""
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: short\nquestion: How many?\nscenario: scenarios/orin_8295_greedy.yaml\n"
        "axes:\n  - {key: policy.draft_tokens, from: 2, to: 4}\n"
        "metrics: [speedup, tokens_per_round]\n"
    )
    speeds = {}
    for name, more in (("own", ()), ("eagle", ("--acceptance", EAGLE))):
        out = ["--out", str(tmp_path / name), "--csv", str(tmp_path / f"{name}.csv"), "--workers", "1"]
        assert main(["study", str(study), *out, "--set", FEW, *more]) == 0
        header, *rows = [line.split(",") for line in (tmp_path / f"{name}.csv").read_text().splitlines()]
        speeds[name] = [float(row[header.index("speedup")]) for row in rows]
    capsys.readouterr()
    assert len(speeds["own"]) == 3
    assert all(eagle < own for own, eagle in zip(speeds["own"], speeds["eagle"], strict=True))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            (f"logits={{source: acceptance, file: {EAGLE}}}", "policy={name: cascade, draft_tokens: 3}"),
            "that of one way of drafting",
        ),
        ((f"logits={{source: acceptance, file: {EAGLE}, drafted: 4}}",), "as a profile of the library has it"),
        ((f"logits={{source: acceptance, file: {LOOKUP}}}",), "the acceptance of a lookup; expected"),
        (
            (f"logits={{source: acceptance, file: {EAGLE}}}", "policy={name: prompt_lookup, draft_tokens: 3}"),
            "the acceptance of a head; expected the acceptance of a lookup",
        ),
        ((f"logits={{source: acceptance, file: {EAGLE}, use: shuffled}}",), "one of 'replay', 'blocks', 'profile'"),
        (("logits={source: acceptance}",), "the key 'file'"),
    ],
)
def test_what_a_scenario_cannot_use_is_refused(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError) as caught:
        shipped("orin_8295_greedy", *overrides)
    assert words in str(caught.value)


def test_the_command_shows_compares_and_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acceptance", "show", EAGLE]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "ShareGPT conversations" in told
    assert "5 0.651 0.0907 2.48" in told
    file = tmp_path / "rounds.jsonl"
    file.write_text('{"accepted": [3, 0, 5, 1]}\n')
    for out in ("mine.yaml", "speculation_profile.json"):
        made = str(tmp_path / out)
        given = ["--drafted", "5", "--title", "Big with small", "--text", "commands", "--temperature", "0"]
        assert main(["acceptance", "convert", str(file), "--out", made, *given]) == 0
        capsys.readouterr()
        assert main(["acceptance", "compare", EAGLE, made, "--json"]) == 0
        theirs, ours = document_of("acceptance show --json", capsys.readouterr().out)
        assert theirs["tokens_a_round"]["3"] == pytest.approx(2.25)
        assert ours["conditional"] == pytest.approx([0.75, 2 / 3, 1.0, 0.5, 1.0], abs=1e-6)
        assert (ours["title"], ours["text"], ours["temperature"]) == ("Big with small", "commands", 0.0)
    assert main(["acceptance", "convert", EAGLE, "--out", str(tmp_path / "eagle.yaml")]) == 0
    assert (
        load_acceptance(str(tmp_path / "eagle.yaml"), tmp_path).acceptance
        == load_acceptance(EAGLE, tmp_path).acceptance
    )


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["show", "no-such-pair"], "expected PAIR/WORKLOAD"),
        (["convert", EAGLE, "--out", str(tmp_path / "x.txt")], "a name that ends in .yaml or .json"),
        (["export", "paper_table", "--out", str(tmp_path / "x.json")], "what is put in would come out"),
        (
            ["export", "gumbel", "--set", "policy={name: target_only}", "--out", str(tmp_path / "x.json")],
            "sync without a fallback",
        ),
    ):
        assert main(["acceptance", *arguments]) == 2
        assert words in capsys.readouterr().err
