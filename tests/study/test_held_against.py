"""What a speed-up owes to its link, what a wanted one takes, and what a faster export of the target leaves of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hilsim.cost.payload import distribution_bytes, prompt_bytes, verdict_bytes
from hilsim.describe.chip import FasterExport
from hilsim.describe.decoding import (
    FullRows,
    OneHot,
    Payload,
    Sampling,
    Scalar,
    TokenIds,
    TopKAfter,
    TopKRows,
    VerifyAt,
)
from hilsim.describe.figure import Figure
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.measure.round_cost import round_cost
from hilsim.runs.run import RunPair, Sources, run_both
from hilsim.show.run import held_against
from hilsim.show.sentences import faster_export_sentence, rows_sentences, wanted_sentence
from hilsim.sim.messages import Messages
from hilsim.sim.run import simulate
from hilsim.sources.luck import ByChance
from hilsim.sources.supposed import Supposed
from hilsim.study.reaching import reaching
from hilsim.study.rows_over_link import MATTERS, replayed_speedup, rows_over_link
from hilsim.study.wanted import over_faster_exports, wanted
from hilsim.study.what_ifs import with_link, with_rate
from tests.scenes import shipped, table_setup

ROWS = ("accept=ratio", "payload=full_rows", "sampling={temperature: 1.0}")
PAYLOADS: tuple[Payload, ...] = (
    TokenIds(),
    OneHot(),
    FullRows(format="fp16"),
    FullRows(format="fp32"),
    TopKRows(k=64, scheme="top_k"),
    TopKAfter(k=8, scheme="top_k_after"),
    Scalar(),
)


def ran(setup: Setup) -> tuple[Setup, RunPair, Sources]:
    """A setup with its runs and the sources that replay them."""
    sources = Sources(setup, remember=True)
    return setup, run_both(setup, sources), sources


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.scheme)
@pytest.mark.parametrize("verify_at", ["target", "draft"])
def test_a_message_holds_the_distributions_that_were_put_into_it(payload: Payload, verify_at: VerifyAt) -> None:
    entries = 1000
    rules = shipped("orin_8295").scenario.model_copy(
        update={"payload": payload, "verify_at": verify_at, "sampling": Sampling(temperature=1.0)}
    )
    sizes, row = Messages(rules, entries), distribution_bytes(payload, entries)
    for drafted in (0, 1, 5):
        assert sizes.distributions("drafts", sizes.drafts(drafted)) == drafted * row * (verify_at == "target")
    assert sizes.distributions("verdict", verdict_bytes()) == 0
    assert sizes.distributions("prompt", prompt_bytes(100)) == 0
    down = sizes.distributions("verdict", sizes.answer(5, 2, 6))
    if verify_at == "draft":
        assert down == 6 * row
    else:
        assert down == (2 * entries if payload.scheme == "scalar" else 0), "the row that a rejection sends down"


def test_bytes_and_the_least_rate_are_those_of_paper_arithmetic(tmp_path: Path) -> None:
    """Always right, 4 drafts: alone 100 + 10 x 50 ms; with drafts 100, then two rounds of 4 x 5 + 60.

    Over this link a message takes 3 ms beside its bytes: the first token's verdict, two blocks up and the first round's
    verdict delay the answer, 12 ms in all, and every block does by its bytes. Those of verdicts are left out.
    """
    setup, outcome, sources = ran(table_setup(tmp_path, *ROWS))
    found = rows_over_link(setup, outcome, sources)
    assert found is not None
    entries = setup.target.model.vocabulary.entries
    assert found.bytes == 2 * 4 * entries * 2
    assert found.bytes_per_round == 4 * entries * 2
    assert found.speedup_without_link == pytest.approx(600 / 260, rel=1e-6)
    for_bytes_s = (260 / (1 - MATTERS) - 260 - 12) / 2 / 1000
    block = 16 + 4 * (4 + 2 * entries)
    assert found.least_bytes_s == pytest.approx(block / for_bytes_s, rel=0.005)
    # All four messages fall into the two rounds, which begin at the delivery before them.
    assert found.share_of_rounds == pytest.approx(12 / (2 * 80 + 12), rel=1e-3)


def test_the_least_rate_is_where_the_speedup_falls_so_far() -> None:
    logits = "logits={source: transcript, file: transcripts/shift-draft-0.8m-ratio-full_rows.npz}"
    setup, outcome, sources = ran(shipped("orin_8295", "workload.count=1", "networks=[]", logits))
    found = rows_over_link(setup, outcome, sources)
    assert found is not None
    assert found.least_bytes_s is not None
    assert found.speedup_without_link is not None
    wanted_there = (1 - MATTERS) * found.speedup_without_link
    at, below = (
        replayed_speedup(with_rate(setup, share * found.least_bytes_s), outcome, sources) for share in (1, 0.9)
    )
    assert at == pytest.approx(wanted_there, rel=1e-3)
    assert below < wanted_there * 0.998, "a rate that is too low must show"
    drafted = sum(closed.drafted for closed in outcome.speculative.rounds) if outcome.speculative else 0
    assert found.bytes == drafted * 128256 * 2


def test_where_messages_take_too_long_no_rate_is_enough_and_token_ids_carry_no_rows(tmp_path: Path) -> None:
    setup, outcome, sources = ran(with_link(table_setup(tmp_path, *ROWS), 1e12, 0.05))
    found = rows_over_link(setup, outcome, sources)
    assert found is not None
    assert found.least_bytes_s is None
    assert "no rate of" in rows_sentences(vars(found), 1.5)[1]
    ids = ran(table_setup(tmp_path))
    assert rows_over_link(*ids) is None
    assert rows_over_link(setup, outcome, None) is not None, "without sources the run's own bytes are there"


def test_a_wanted_speedup_takes_the_acceptance_that_brings_it(tmp_path: Path) -> None:
    """A run by chance 0.8 is what acceptance 0.8 amounts to, and its own speed-up, wanted, takes just that."""
    many = ("workload={requests: 200, prompt_tokens: 10, output_tokens: 41}", "logits.acceptance=0.8")
    setup, outcome, sources = ran(table_setup(tmp_path, *many, "wanted_speedup=1.5"))
    found = wanted(setup, outcome, sources)
    assert found is not None
    assert found.acceptance == pytest.approx(0.8, abs=0.02)
    assert found.acceptance_needed is not None
    again = wanted(*ran(table_setup(tmp_path, *many[:1], f"logits.acceptance={found.acceptance_needed}",
                                    "wanted_speedup=1.5")))  # fmt: skip
    assert again is not None
    assert again.acceptance == pytest.approx(found.acceptance_needed, abs=0.02)
    assert again.tokens_per_round == pytest.approx(found.tokens_per_round_needed, abs=0.1)
    assert found.reached == (found.acceptance > found.acceptance_needed)
    assert outcome.speculative is not None
    cost = round_cost(outcome.baseline, outcome.speculative, setup.scenario.seed)
    assert cost is not None
    assert cost.acceptance is not None
    assert found.acceptance == cost.acceptance.at_hand, "the verdict and the wanted speed-up name one acceptance"
    out_of_reach = wanted(*ran(table_setup(tmp_path, "wanted_speedup=100")))
    assert out_of_reach is not None
    assert out_of_reach.acceptance_needed is None
    assert not out_of_reach.reached
    assert "always right" in wanted_sentence(vars(out_of_reach))


def test_where_drafts_overlap_the_acceptance_is_the_one_that_brings_the_speed_up(tmp_path: Path) -> None:
    """There the verdict names no acceptance, as tokens a round do not follow from it."""
    ahead = ("policy={name: async, min_batch: 1}", "logits.acceptance=0.8", "wanted_speedup=1.2")
    setup, outcome, sources = ran(
        table_setup(tmp_path, "workload={requests: 50, prompt_tokens: 10, output_tokens: 41}", *ahead)
    )
    assert outcome.speculative is not None
    cost = round_cost(outcome.baseline, outcome.speculative, setup.scenario.seed)
    found = wanted(setup, outcome, sources)
    assert cost is not None
    assert cost.acceptance is None
    assert found is not None
    assert found.acceptance == pytest.approx(0.8, abs=0.03)


def test_over_a_faster_export_the_target_alone_gains_all_of_its_speed() -> None:
    """The target alone has nothing but its own passes, so the speed-up over it is the one at hand over the factor."""
    lengths = "workload={requests: 20, prompt_tokens: 30, output_tokens: 20}"
    given = ("networks=[]", lengths, "logits={source: synthetic, acceptance: 0.7}")
    setup, outcome, sources = ran(shipped("orin_8295_greedy", *given))
    (found,) = over_faster_exports(setup, outcome, sources)
    document = held_against(setup, outcome, sources)
    assert document["wanted"]["speedup"] == 2.5
    ours = replayed_speedup(setup, outcome, sources)
    assert found.precision == "w4a16"
    assert found.speedup_over_it == pytest.approx(ours / found.times, rel=1e-4)
    assert found.speedup_over_it < found.speedup_with_it < ours, "draft and link do not get faster"
    text = faster_export_sentence(document["faster_exports"][0], {"precision": "w4"}, ours)
    assert "2.66 times as fast as in w4 (1.59 to 2.66, assumed)" in text
    elsewhere = shipped("orin_8295_greedy", *given, "target.chip=iq-9075", "target.precision=w4a16")
    assert elsewhere.target.faster_exports == ()
    assert held_against(setup, outcome, None) == {}


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wanted_speedup"):
        table_setup(tmp_path, "wanted_speedup=0.5")
    slower = Figure(value=0.5, unit="times", kind="assumed", source="a slower one")
    chip = shipped("orin_8295_greedy").target.unit
    with pytest.raises(ValueError, match="above 1"):
        type(chip).model_validate(
            vars(chip) | {"faster_exports": (FasterExport(of="w4", precision="x", speed=slower),)}
        )


def test_a_level_is_reached_in_few_evaluations() -> None:
    """A straight line at once; a bent one soon; at a jump beside it."""
    for function, place, most in (
        (lambda x: 1 + 3 * x, 0.5, 3),
        (lambda x: 1 + x**3, 0.3, 11),
        (lambda x: 1.0 if x < 0.4 else 2.0, 0.4, 14),
    ):
        asked: list[float] = []

        def value(x: float, function: Callable[[float], float] = function, asked: list[float] = asked) -> float:
            asked.append(x)
            return function(x)

        level = 1.5 if place == 0.4 else function(place)
        assert reaching(value, level, 0.0, 1.0, 1e-6) == pytest.approx(place, abs=0.01)
        assert len(asked) <= most


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.8, 1.0])
def test_chances_between_the_uniforms_of_a_run_make_the_same_run(tmp_path: Path, acceptance: float) -> None:
    """So replays of one need not be run for the other; beyond the next uniform the drafts are others."""
    setup = table_setup(tmp_path, "workload={requests: 5, prompt_tokens: 10, output_tokens: 41}")
    source = Sources(setup).fresh("baseline")
    texts = {request.number: [7] * request.output_tokens for request in simulate(setup, source).requests}

    def run(chance: float) -> tuple[ByChance, list[tuple[int, int, int]]]:
        luck = ByChance(chance, seed=1)
        trace = simulate(setup, Supposed(source, texts, luck))
        return luck, [(closed.delivered_ns, closed.drafted, closed.accepted) for closed in trace.rounds]

    luck, rounds = run(acceptance)
    lowest = max(0.0, math.nextafter(luck.right_up_to, 2))
    for other in (lowest, luck.wrong_from, (lowest + luck.wrong_from) / 2):
        assert luck.decides_alike(other)
        assert run(other)[1] == rounds
    above, below = math.nextafter(luck.wrong_from, 2), luck.right_up_to
    for other in [above] * (luck.wrong_from < 1) + [below] * (below >= 0):
        assert not luck.decides_alike(other)
        assert run(other)[1] != rounds
