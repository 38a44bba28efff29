"""Rules, schemes and samplings that do not go together are refused before a run, with what was found and expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.commands.main import simulate_main
from hilsim.describe.decoding import guarantee_of
from hilsim.describe.load import load_setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from tests.scenes import shipped, table_setup

WARM, COLD, TOP_40 = "{temperature: 0.7}", "{temperature: 0}", "{temperature: 0.7, top_k: 40}"
CASES = {
    # accept, payload, verify_at, sampling: what the message finds, what it expects
    "greedy above temperature 0": (
        "greedy", "token_ids", "target", "{temperature: 1}", "accept greedy at temperature 1", "ratio",
    ),
    **{
        f"{rule} at temperature 0": (
            accept, "full_rows", "target", COLD, f"accept {rule} at temperature 0", "greedy at temperature 0",
        )
        for rule, accept in {
            "ratio": "ratio", "gumbel": "gumbel", "sample_match": "sample_match", "block": "block",
            "typical": "typical", "lenient": "{rule: lenient, lenience: 0.5}",
        }.items()
    },
    "ids alone with ratio": ("ratio", "token_ids", "target", WARM, "token_ids with the ratio rule", "full_rows"),
    "ids alone with lenient": (
        "{rule: lenient, lenience: 0.5}", "token_ids", "target", WARM, "token_ids with the lenient rule", "top_k",
    ),
    **{
        f"{scheme} with block": (
            "block", payload, "target", WARM, f"payload {scheme} with the block rule", "full_rows or top_k",
        )
        for scheme, payload in {
            "token_ids": "token_ids", "one_hot": "one_hot", "scalar": "scalar",
            "top_k_after": "{scheme: top_k_after, k: 8}",
        }.items()
    },
    **{
        f"{scheme} with {rule}": (
            rule, payload, "target", sampling, f"payload {scheme} with the {rule} rule", "token_ids",
        )
        for scheme, payload in {"scalar": "scalar", "top_k_after": "{scheme: top_k_after, k: 8}"}.items()
        for rule, sampling in {"greedy": COLD, "gumbel": WARM, "sample_match": WARM, "typical": WARM}.items()
    },
    "a support that is the whole row": (
        "ratio", "{scheme: scalar, down: support}", "target", WARM, "no sampling.top_k", "down row, or a top_k",
    ),
    **{
        f"{rule} verified at the draft": (
            rule, "full_rows", "draft", sampling, f"verify_at draft with the {rule} rule", "target",
        )
        for rule, sampling in {"greedy": COLD, "gumbel": WARM, "sample_match": WARM}.items()
    },
    **{
        f"{scheme} verified at the draft": (
            "ratio", payload, "draft", WARM, f"verify_at draft with payload {scheme}", "full_rows or top_k",
        )
        for scheme, payload in {
            "token_ids": "token_ids", "one_hot": "one_hot", "scalar": "scalar",
            "top_k_after": "{scheme: top_k_after, k: 8}",
        }.items()
    },
    "counts of the target's law": (
        "ratio", "{scheme: full_rows, format: counts8}", "draft", WARM, "rows of counts8", "fp16 or fp32",
    ),
    "a cut of the target's whole law": (
        "ratio", "{scheme: top_k, k: 64}", "draft", WARM, "64 entries of the target's distribution, which has more",
        "full_rows",
    ),
    "a cut of the target's law below top_k": (
        "ratio", "{scheme: top_k, k: 39}", "draft", TOP_40, "39 entries", "sampling.top_k at most 39",
    ),
}  # fmt: skip


def overridden(accept: str, payload: str, verify_at: str, sampling: str) -> tuple[str, ...]:
    return f"accept={accept}", f"payload={payload}", f"verify_at={verify_at}", f"sampling={sampling}"


@pytest.mark.parametrize(("accept", "payload", "verify_at", "sampling", "found", "expected"), CASES.values(), ids=CASES)
def test_what_cannot_be_exact_is_refused_before_the_run(
    tmp_path: Path, accept: str, payload: str, verify_at: str, sampling: str, found: str, expected: str
) -> None:
    with pytest.raises(InputError) as refusal:
        table_setup(tmp_path, *overridden(accept, payload, verify_at, sampling))
    (fault,) = refusal.value.faults
    assert found in fault.found
    assert expected in fault.expected


GOOD = {
    "a likeliest token with ratio": ("ratio", "one_hot", "target", WARM),
    "a support of 40": ("ratio", "{scheme: scalar, down: support}", "target", TOP_40),
    "40 entries of a law of 40": ("ratio", "{scheme: top_k, k: 40}", "draft", TOP_40),
    "a block from whole rows": ("block", "full_rows", "target", WARM),
    "a block at the draft": ("block", "full_rows", "draft", WARM),
    "shared noise": ("gumbel", "token_ids", "target", WARM),
    "shared noise near temperature 0": ("gumbel", "token_ids", "target", "{temperature: 1e-5}"),
    "greedy": ("greedy", "token_ids", "target", COLD),
    "a penalty at temperature 0": ("greedy", "token_ids", "target", "{temperature: 0, repetition_penalty: 1.3}"),
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
def test_what_can_be_exact_is_taken_and_claims_it(tmp_path: Path, parts: tuple[str, str, str, str]) -> None:
    scenario = table_setup(tmp_path, *overridden(*parts)).scenario
    made = guarantee_of(scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at)
    assert made.level == ("law" if parts[0] == "block" else "text")


LOSSY = {
    "lenience 0.5 accepts more": ("{rule: lenient, lenience: 0.5}", "full_rows"),
    "typical acceptance": ("typical", "token_ids"),
    "tests against 8 entries": ("ratio", "{scheme: top_k_after, k: 8}"),
}


@pytest.mark.parametrize("why", LOSSY)
def test_what_is_lossy_runs_and_claims_nothing(tmp_path: Path, why: str) -> None:
    accept, payload = LOSSY[why]
    scenario = table_setup(tmp_path, *overridden(accept, payload, "target", WARM)).scenario
    made = guarantee_of(scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at)
    assert made.level == "none"
    assert why in made.why


def test_a_cut_at_temperature_0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="top_k or top_p at temperature 0"):
        table_setup(tmp_path, "sampling={temperature: 0, top_k: 5}")


def test_the_target_alone_is_asked_about_its_temperature_only(tmp_path: Path) -> None:
    """Without a draft nothing crosses the link, so no payload is wrong; the rule still must go with the temperature."""
    file = PROJECT / "scenarios" / "target_alone.yaml"
    load_setup(file, ["accept=ratio", "payload=token_ids", f"sampling={WARM}"])
    with pytest.raises(InputError, match="accept ratio at temperature 0"):
        load_setup(file, ["accept=ratio", f"sampling={COLD}"])


def test_a_refusal_is_exit_status_2_and_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [f"--set={override}" for override in overridden("ratio", "token_ids", "target", WARM)]
    assert simulate_main([str(PROJECT / "scenarios" / "orin_8295_greedy.yaml"), *overrides]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "found payload token_ids with the ratio rule, which needs distributions; expected full_rows" in streams.err


@pytest.mark.parametrize("accept", ["gumbel", "sample_match", "ratio"])
def test_chips_that_number_tokens_differently_are_refused_under_every_rule(accept: str) -> None:
    """Shared noise goes by token id like everything else that crosses the link."""
    payload = "full_rows" if accept == "ratio" else "token_ids"
    rules = overridden(accept, payload, "target", WARM)
    with pytest.raises(InputError, match="vocabulary") as refusal:
        shipped("orin_8295_greedy", *rules, "draft.model=draft-68m-qwen")
    assert "give draft.model the target's vocabulary" in str(refusal.value)
