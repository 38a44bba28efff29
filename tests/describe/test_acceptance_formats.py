"""Every format of acceptance by an example in its tool's spelling, whole, cut and mistaken, against hand arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hilsim.describe.acceptance import tokens_of
from hilsim.describe.acceptance_formats.formats import load_acceptance
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.errors import InputError

HERE = Path("scenario.yaml")
# 100 steps: 40 that accept none, 30 that accept one, 20 two and 10 all three drafts.
PROFILE = {
    "schema_version": "1.0",
    "measured": True,
    "method": "eagle3",
    "target_model": {"name": "org/big"},
    "draft_checkpoint": {"name": "org/small"},
    "num_speculative_tokens": 3,
    "verification_method": "longest_prefix",
    "conditional_accept_rates": [0.6, 0.5, 0.333333],
    "marginal_accept_rates": [0.6, 0.3, 0.1],
    "mean_accept_length": 2.0,
    "acceptance_length_histogram": {"1": 40, "2": 30, "3": 20, "4": 10},
    "measurement_conditions": {"dataset": "mt_bench", "temperature": 0.0},
}
PROMETHEUS = """# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="big"} 100.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="big"} 300.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="big"} 100.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="big",position="0"} 60.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="big",position="1"} 30.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="big",position="2"} 10.0
vllm:spec_decode_num_drafts_created{engine="0",model_name="big"} 1.7e+09
"""
# 30 rounds of 0.8, 0.5 and 10 of 0.4, 0.1 by position: 0.7 and 0.4 together.
VLLM_LOG = """INFO 09-16 05:26:57 [metrics.py:120] SpecDecoding metrics: Mean acceptance length: 2.30, Accepted \
throughput: 3.90 tokens/s, Drafted throughput: 6.00 tokens/s, Accepted: 39 tokens, Drafted: 60 tokens, Per-position \
acceptance rate: 0.800, 0.500, Avg Draft acceptance rate: 65.0%
INFO 09-16 05:27:27 [metrics.py:120] SpecDecoding metrics: Mean acceptance length: 1.50, Accepted throughput: 0.50 \
tokens/s, Drafted throughput: 2.00 tokens/s, Accepted: 5 tokens, Drafted: 20 tokens, Per-position acceptance rate: \
0.400, 0.100, Avg Draft acceptance rate: 25.0%
"""
BENCHMARK = {
    "model_id": "org/big", "mean_ttft_ms": 80.0, "spec_decode_acceptance_rate": 33.3,
    "spec_decode_acceptance_length": 2.0, "spec_decode_num_drafts": 100, "spec_decode_draft_tokens": 300,
    "spec_decode_accepted_tokens": 100, "spec_decode_per_position_acceptance_rates": [0.6, 0.3, 0.1],
}  # fmt: skip
SGLANG_LOG = """[2026-08-19 00:02:25] Decode batch, #running-req: 1, #full token: 1, full token usage: 0.00, accept \
len: 2.40, accept rate: 0.19, cuda graph: True, gen throughput (token/s): 40.29, #queue-req: 0
[2026-08-19 00:02:29] Decode batch, #running-req: 1, #full token: 1, full token usage: 0.00, accept len: 2.60, accept \
rate: 0.22, cuda graph: True, gen throughput (token/s): 41.00, #queue-req: 0
"""
SGLANG_GAUGES = """sglang:spec_accept_rate{model_name="big"} 0.72
sglang:spec_accept_length{model_name="big"} 2.5
sglang:spec_num_steps{model_name="big"} 3
sglang:spec_num_draft_tokens{model_name="big"} 4
"""
# 40 rounds of 5 drafts: 200 drafted, 60 accepted, 100 tokens.
LLAMA = """n_draft   = 5
n_predict = 100
n_drafted = 200
n_accept  = 60
accept    = 30.000%
"""
LLAMA_SERVER = (
    "slot print_timing: id  0 | task 0 | draft acceptance rate = 0.30000 (   60 accepted /   200 generated)\n"
)
LLAMA_BY_PLACE = (
    "0.06.896.015 I slot print_timing: id  1 | task 0 | draft acceptance = 0.64479 (  167 accepted /   259 generated), "
    "mean acceptance length =  2.92, acceptance rate per position = (0.805, 0.632, 0.483)\n"
)
TENSORRT = "".join(
    json.dumps({
        "iter": number,
        "specDecodingStats": {
            "numDraftTokens": 24, "numAcceptedTokens": accepted, "numRequestsWithDraftTokens": 8,
            "acceptanceLength": 1 + accepted / 8,
        },
    }) + "\n"
    for number, accepted in enumerate((12, 4))
) + '{"iter": 2, "specDecodingStats": {"numDraftTokens": 0, "numAcceptedTokens": 0}}\n'  # fmt: skip
# 90 tokens in 45 rounds, then 30 in 12: 120 tokens in 57 rounds.
GENIE = {
    "header": {"artifact_type": "GENIE_PROFILE"},
    "components": [{
        "name": "dialog0", "type": "dialog",
        "events": [
            {"type": "GenieDialog_query", "num-generated-tokens": {"value": 91, "unit": ""},
             "token-acceptance-rate": {"value": 2.0, "unit": "toks/iteration"}},
            {"type": "GenieDialog_query", "num-generated-tokens": {"value": 31, "unit": ""},
             "token-acceptance-rate": {"value": 2.5, "unit": "toks/iteration"}},
        ],
    }],
}  # fmt: skip
LISTS = '{"request": 0, "accepted": [3, 0, 5], "drafted": 5}\n{"request": 1, "accepted": [1], "drafted": 5}\n'
EMITTED = '{"emitted": [4, 1, 6]}\n{"emitted": [2]}\n'
CSV = "request,accepted,drafted\n0,3,5\n0,0,5\n0,5,5\n1,1,5\n"
OWN = """name: mine
title: Big with small
drafter: model
kind: measured
source: my board
workloads:
  commands: {text: commands, acceptance: {conditional: [0.9, 0.8]}}
  chat: {text: chat, acceptance: {marginal: [0.5, 0.25]}}
"""


def loaded(folder: Path, name: str, content: object, **given: Any) -> AcceptanceProfile:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_acceptance(str(file), HERE, **given)


# name, content, what the user states, chances by place or tokens a round of so many drafts, rounds
BY_PLACE = [
    ("speculation_profile.json", PROFILE, {}, (0.6, 0.5, 1 / 3), 100),
    ("metrics.txt", PROMETHEUS, {}, (0.6, 0.5, 1 / 3), 100),
    ("metrics.prom", PROMETHEUS.replace("vllm:", "llamacpp:"), {}, (0.6, 0.5, 1 / 3), 100),
    ("vllm.log", VLLM_LOG, {}, (0.7, 4 / 7), 40),
    ("bench.json", BENCHMARK, {}, (0.6, 0.5, 1 / 3), 100),
    ("server.log", LLAMA_BY_PLACE, {}, (0.805, 0.632 / 0.805, 0.483 / 0.632), 87),
    ("rounds.jsonl", LISTS, {}, (0.75, 2 / 3, 1.0, 0.5, 1.0), 4),
    ("rounds.jsonl", EMITTED, {"drafted": 5}, (0.75, 2 / 3, 1.0, 0.5, 1.0), 4),
    ("rounds.csv", CSV, {}, (0.75, 2 / 3, 1.0, 0.5, 1.0), 4),
    ("own.yaml", OWN, {"workload": "chat"}, (0.5, 0.5), None),
]  # fmt: skip
BY_ROUND = [
    ("sglang.log", SGLANG_LOG, {"drafted": 3}, 2.5, 3),
    ("gauges.txt", SGLANG_GAUGES, {}, 2.5, 3),
    ("llama.log", LLAMA, {}, 2.5, 5),
    ("server.log", LLAMA_SERVER, {"drafted": 5}, 2.5, 5),
    ("stats.jsonl", TENSORRT, {}, 2.0, 3),
    ("genie.json", GENIE, {"drafted": 5}, 120 / 57, 5),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "given", "chances", "rounds"), BY_PLACE)
def test_what_a_tool_counts_by_place_is_read_as_chances(
    name: str, content: object, given: dict[str, object], chances: tuple[float, ...], rounds: int | None, tmp_path: Path
) -> None:
    found = loaded(tmp_path, name, content, **given)
    assert found.conditional == pytest.approx(chances, abs=1e-5)
    assert found.rounds == rounds
    assert name in found.source or found.source == "my board"


@pytest.mark.parametrize(("name", "content", "given", "tokens", "drafted"), BY_ROUND)
def test_what_a_tool_counts_by_round_is_read_as_tokens_a_round(
    name: str, content: object, given: dict[str, object], tokens: float, drafted: int, tmp_path: Path
) -> None:
    found = loaded(tmp_path, name, content, **given)
    assert tokens_of(found.conditional, drafted) == pytest.approx(tokens, abs=1e-9)


def test_lists_are_kept_round_by_round(tmp_path: Path) -> None:
    wanted = AcceptedLists(accepted=((3, 0, 5), (1,)), drafted=5)
    assert loaded(tmp_path, "a.jsonl", LISTS).acceptance == wanted
    assert loaded(tmp_path, "a.csv", CSV).acceptance == wanted
    for separator in ";\t":
        assert loaded(tmp_path, "a.csv", CSV.replace(",", separator)).acceptance == wanted
    with pytest.raises(InputError, match="none of the formats knows"):  # control
        loaded(tmp_path, "a.csv", CSV.replace(",", "|"))
    assert loaded(tmp_path, "b.jsonl", EMITTED, drafted=5).acceptance == wanted


def test_a_profile_names_pair_and_text(tmp_path: Path) -> None:
    found = loaded(tmp_path, "speculation_profile.json", PROFILE)
    assert (found.title, found.text, found.temperature) == ("org/big with org/small", "mt_bench", 0.0)


def test_a_profile_of_marginal_rates_alone_is_not_read_as_conditional(tmp_path: Path) -> None:
    """The negative control: 0.6, 0.3, 0.1 as chances would be 1.798 tokens a round instead of 2."""
    alone = {key: value for key, value in PROFILE.items() if key != "conditional_accept_rates"}
    found = loaded(tmp_path, "speculation_profile.json", alone)
    assert tokens_of(found.conditional, 3) == pytest.approx(2.0)
    assert tokens_of((0.6, 0.3, 0.1), 3) == pytest.approx(1.798)
    mistaken = alone | {"conditional_accept_rates": alone["marginal_accept_rates"]}
    del mistaken["marginal_accept_rates"]
    with pytest.raises(InputError, match="Is the list of the other kind"):
        loaded(tmp_path, "speculation_profile.json", mistaken)


def changed(**given: object) -> dict[str, object]:
    return {key: value for key, value in {**PROFILE, **given}.items() if value != "gone"}


BROKEN = {
    "above 1": ("p.json", changed(conditional_accept_rates=[1.6, 0.5, 0.3]), "1.6; expected 0 to 1"),
    "percent": ("p.json", changed(marginal_accept_rates=[60, 30, 10]), "0.6 if it is in percent"),
    "rising": ("p.json", changed(conditional_accept_rates="gone", marginal_accept_rates=[0.3, 0.6, 0.1]), "rises"),
    "exchanged": (
        "p.json",
        changed(conditional_accept_rates=[0.6, 0.3, 0.1], marginal_accept_rates=[0.6, 0.3, 0.1]),
        "0.3 at place 2; expected 0.18",
    ),
    "no word": (
        "p.json",
        changed(conditional_accept_rates="gone", marginal_accept_rates="gone", accept_rates=[0.6, 0.3]),
        "accept_rates and neither of the two",
    ),
    "placeholder": ("p.json", changed(measured=False), "a placeholder"),
    "block": ("p.json", changed(verification_method="block"), "longest_prefix"),
    "short list": ("p.json", changed(num_speculative_tokens=5), "3 positions; expected 5"),
    "null": ("p.json", changed(conditional_accept_rates=[0.6, None, 0.3]), "null; expected a number"),
    "cut profile": ("p.json", json.dumps(PROFILE)[:200], "whole JSON"),
    "cut counters": ("m.txt", PROMETHEUS.replace(' 60.0\n', ' 6'), "expected"),
    "missing position": ("m.txt", "\n".join(line for line in PROMETHEUS.splitlines() if '"1"' not in line), "0, 2"),
    "two models": ("m.txt", PROMETHEUS + PROMETHEUS.replace('"big"', '"other"'), "big, other"),
    "no rounds": ("m.txt", "vllm:spec_decode_num_draft_tokens_total 300.0\n", "expected rounds"),
    "cut log": ("v.log", VLLM_LOG[:-90], "a whole line of SpecDecoding"),
    "no drafts a round": ("s.log", SGLANG_LOG, "--drafted"),
    "more than can be": ("s.log", SGLANG_LOG.replace("2.40", "9.40"), "at most 4"),
    "half a list": ("l.jsonl", '{"accepted": [1, 2', "whole JSON"),
    "no word in a list": ("l.jsonl", '{"acc_len": [1, 2]}', "may or may not have the target's own token"),
    "a bare list": ("l.jsonl", "[1, 2, 3]\n[2]\n", "a list without a name"),
    "accepted above drafted": ("l.jsonl", '{"accepted": [6], "drafted": 5}', "6 accepted of 5 drafted in round 0"),
    "emitted none": ("l.jsonl", '{"emitted": [0], "drafted": 5}', "at least 1"),
    "half a token": ("l.jsonl", '{"accepted": [0.5], "drafted": 5}', "a whole number of tokens"),
    "cut csv": ("l.csv", "request,accepted,drafted\n0,3,5\n0,", "2 of 3 cells"),
    "csv without request": ("l.csv", "accepted,drafted\n3,5\n", "a column request"),
    "accepted above n_drafted": ("a.log", LLAMA.replace("= 60", "= 600"), "at most n_drafted"),
    "uneven": ("t.jsonl", TENSORRT.replace('"numDraftTokens": 24', '"numDraftTokens": 20'), "2.5 drafts a round"),
    "genie without drafts": ("g.json", GENIE, "--drafted"),
    "foreign json": ("x.json", '{"hello": 1}', "none of the formats knows"),
    "foreign text": ("x.txt", "Once upon a time\n", "none of the formats knows"),
    "empty": ("x.txt", "", "an empty file"),
    "several": ("own.yaml", OWN, "one of commands, chat"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_or_does_not_say_which_it_is_has_one_message(
    name: str, content: object, words: str, tmp_path: Path
) -> None:
    given = {"drafted": 3} if "2.40" not in str(content) and "9.40" in str(content) else {}
    with pytest.raises(InputError) as caught:
        loaded(tmp_path, name, content, **given)
    assert len(caught.value.faults) == 1
    assert words in str(caught.value)


def test_a_statement_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3, as the file has it"):
        loaded(tmp_path, "gauges.txt", SGLANG_GAUGES, drafted=5)
    with pytest.raises(InputError, match="nothing, as the file has drafted itself"):
        loaded(tmp_path, "l.jsonl", LISTS, drafted=5)
    with pytest.raises(InputError, match="nothing, as a profile of the library has it"):
        load_acceptance("eagle-llama-3.1-8b/code", HERE, drafted=5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eagle-llama-3.1-8b", "eagle-llama-3.1-8b/{sharegpt,code}"),
        ("eagle-llama-3.1-8b/sharegtp", "Did you mean 'eagle-llama-3.1-8b/sharegpt'?"),
        ("nothing-like-it", "Or give the path of a file."),
        ("not-there.json", "no such file"),
    ],
)
def test_an_unknown_name_is_refused_with_what_is_near(name: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_acceptance(name, HERE)
    assert words in str(caught.value)


def test_usual_spellings_of_a_name_are_understood() -> None:
    assert load_acceptance("EAGLE Llama 3.1 8B/ShareGPT", HERE).name == "eagle-llama-3.1-8b/sharegpt"
