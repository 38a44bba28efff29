"""Break-even: tokens a round that make speculation as fast as plain decoding, by hand from typed-in step times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import simulate_main
from hilsim.describe.acceptance import tokens_a_round
from hilsim.measure.round_cost import RoundCost, decoding_ns, interval_of_tokens, later_tokens, round_cost
from hilsim.measure.round_cost import answers_of as answers
from hilsim.runs.run import Sources, run_both
from hilsim.show.break_even import break_even, break_even_sentence
from hilsim.sim.trace import RequestRecord, Round
from tests.scenes import LINK, TABLE, table_setup

# Drafting 4 x 5, a message of 2 + 1 up, a verify of 60 and a message of 2 + 1 down; a plain step is 50.
ROUND_MS, PLAIN_MS = 4 * 5 + 3 + 60 + 3, 50


def cost_of(folder: Path, *overrides: str) -> RoundCost:
    setup = table_setup(folder, *overrides)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    found = round_cost(outcome.baseline, outcome.speculative, setup.scenario.seed)
    assert found is not None
    return found


def test_the_break_even_is_a_round_over_a_plain_step(tmp_path: Path) -> None:
    """Always accepted: two rounds of five tokens, 86 ms each; 1.72 tokens would do."""
    found = cost_of(tmp_path)
    assert (found.round_ms, found.plain_step_ms) == (ROUND_MS, PLAIN_MS)
    assert found.break_even == pytest.approx(1.72)
    assert (found.tokens_a_round, found.low, found.high) == (5, 5, 5)
    assert (found.count, found.unit) == (2, "rounds")
    assert found.verdict == "speculate"
    assert found.acceptance is not None
    assert found.acceptance.at_hand == pytest.approx(1)
    assert found.acceptance.needed is not None
    assert tokens_a_round(found.acceptance.needed, 4) == pytest.approx(1.72)
    # Five tokens are worth 250 ms of plain steps: 164 more than the round takes may go into the verify.
    assert found.verify_ms is not None
    assert (found.verify_ms.at_hand, found.verify_ms.needed) == (60, pytest.approx(60 + 250 - 86))


def test_at_the_needed_verify_and_at_the_needed_acceptance_it_breaks_even(tmp_path: Path) -> None:
    """The turning points typed in: a verify of 224 ms makes a round of 250, as long as five plain steps."""
    found = cost_of(tmp_path, "target.timer.verify={'8': 224}")
    assert found.break_even == pytest.approx(5)
    assert found.tokens_a_round == 5
    assert found.verdict == "too close to call"


def test_a_draft_that_is_never_right_loses_and_no_cheaper_verify_helps(tmp_path: Path) -> None:
    """One token in 86 ms; the last rounds draft 3, 2 and 1, and the last one is a plain step and its message, 53 ms.

    A verify would have to take less than a plain step; one draft costs 71 ms for one token.
    """
    setup = table_setup(tmp_path, "logits.acceptance=0.0", "workload.output_tokens=101")
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    found = round_cost(outcome.baseline, outcome.speculative, 1)
    assert found is not None
    assert (found.tokens_a_round, found.verdict) == (1, "do not speculate")
    assert found.round_ms == pytest.approx((96 * 86 + 81 + 76 + 71 + 53) / 100)
    assert found.verify_ms is not None
    assert found.verify_ms.needed is None
    block = break_even(setup, outcome.baseline, outcome.speculative, [0.0, None, None, None])
    assert block is not None
    assert block["turned_by"]["draft_tokens"] == {"needed": 1, "speedup": pytest.approx(50 / (5 + 3 + 60 + 3))}
    sentence = break_even_sentence(block)
    assert sentence.startswith("Do not speculate: a round makes 1.00 tokens")
    assert "and 1.71 break even, as a round takes 85.4 ms and a plain step 50.0 ms" in sentence
    assert "What would turn it: an acceptance of 0.43 instead of 0.00 (4 drafts a round)." in sentence
    assert "No cheaper verify alone; no shorter draft turns it." in sentence


def test_a_verify_beyond_all_drafts_is_turned_by_no_acceptance(tmp_path: Path) -> None:
    """A verify of 400 ms: 426 / 50 = 8.5 tokens a round, of at most five."""
    found = cost_of(tmp_path, "target.timer.verify={'8': 400}")
    assert found.break_even == pytest.approx(426 / 50)
    assert found.acceptance is not None
    assert found.acceptance.needed is None
    assert found.verdict == "do not speculate"


def test_shorter_drafts_are_named_where_they_win(tmp_path: Path) -> None:
    """Only the first draft is ever right: four cost 86 ms for two tokens that are worth 100, with 20 ms a draft 146."""
    overrides = ("logits.acceptance={conditional: [1.0, 0.0]}", "draft.timer.decode=20", "draft.timer.verify={'2': 20}")
    setup = table_setup(tmp_path, *overrides)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    block = break_even(setup, outcome.baseline, outcome.speculative, [1.0, 0.0])
    assert block is not None
    assert block["verdict"] == "do not speculate"
    # One draft: 20 + 66 ms for two tokens.
    assert block["turned_by"]["draft_tokens"] == {"needed": 1, "speedup": pytest.approx(100 / 86)}
    assert "or drafting 1 (1.16 times as fast on paper)" in break_even_sentence(block)


def test_an_interval_around_the_break_even_is_too_close_to_call(tmp_path: Path) -> None:
    """An acceptance of 0.44 makes 1.76 tokens over rounds without end: few answers do not tell it from 1.72."""
    overrides = ("logits.acceptance=0.44", "workload.requests=8")
    found = cost_of(tmp_path, *overrides)
    assert (found.count, found.unit) == (8, "conversations")
    assert found.low < found.break_even < found.high
    assert found.verdict == "too close to call"
    setup = table_setup(tmp_path, *overrides)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    block = break_even(setup, outcome.baseline, outcome.speculative, [0.44])
    assert block is not None
    guess = "to speculate" if found.pays else "not to speculate"
    assert break_even_sentence(block).startswith(f"Too close to call, the better guess is {guess}: a round makes")


@pytest.mark.parametrize(
    "policy", ["{name: sync, draft_tokens: 4}", "{name: pearl, draft_tokens: 4}", "{name: async, min_batch: 2}"]
)
def test_tokens_over_break_even_is_the_speed_of_decoding(tmp_path: Path, policy: str) -> None:
    """Whatever overlaps: by the definition of both, over the same answers."""
    setup = table_setup(tmp_path, f"policy={policy}", "logits.acceptance=0.6", "workload.requests=5")
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    found = round_cost(outcome.baseline, outcome.speculative, 1)
    assert found is not None
    plain, ours = (sum(map(decoding_ns, answers(trace))) for trace in (outcome.baseline, outcome.speculative))
    assert found.tokens_a_round / found.break_even == pytest.approx(plain / ours)
    assert (found.verify_ms is None, found.acceptance is None) == (("name: sync" not in policy),) * 2


def test_the_interval_holds_the_true_mean_nine_times_of_ten() -> None:
    """Of 300 samples of 40 answers with six rounds of 1 to 5 tokens, mean 3: within four standard deviations, 0.07."""
    chance, held = np.random.default_rng(8), 0
    for sample in range(300):
        records, rounds = [], {}
        for number in range(40):
            tokens = chance.integers(1, 6, 6)
            record = RequestRecord(number, number, 0, "", "", 0, 0, 1, int(tokens.sum()) + 1, 1, "end")
            first = Round(number, 0, 0, 0, 0, 0, 0, 1, 0, (0,), (0.0,), 0)
            rounds[number] = [first, *(first._replace(number=n + 1, emitted=int(t)) for n, t in enumerate(tokens))]
            records.append(record)
        low, high, count, unit = interval_of_tokens(records, rounds, sample)
        assert (count, unit) == (40, "conversations")
        assert later_tokens(rounds[0]) == records[0].output_tokens - 1
        held += low <= 3 <= high
    assert held / 300 == pytest.approx(0.9, abs=0.07)


def test_the_document_and_the_report_state_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.yaml").write_text(LINK)
    file = tmp_path / "table.yaml"
    file.write_text(TABLE.replace("LINK", "link.yaml"))
    assert simulate_main([str(file), "--json"]) == 0
    block = json.loads(capsys.readouterr().out)["break_even"]
    assert block["tokens_a_round_needed"] == pytest.approx(1.72)
    assert block["verdict"] == "speculate"
    assert simulate_main([str(file), "--plain"]) == 0
    assert "Speculate: a round makes 5.00 tokens (5.00 to 5.00 over 2 rounds), and 1.72" in capsys.readouterr().out
    assert simulate_main([str(file), "--json", "--set", "policy={name: target_only}"]) == 0
    assert json.loads(capsys.readouterr().out)["break_even"] is None
    # One token an answer leaves nothing to compare.
    assert simulate_main([str(file), "--json", "--set", "workload.output_tokens=1"]) == 0
    assert json.loads(capsys.readouterr().out)["break_even"] is None
