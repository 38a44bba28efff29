"""Draft heads in bytes and seconds: the ledger line by line, a pass by the shape of the head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hilsim.cost.memory import ledgers, role_items
from hilsim.cost.payload import HEADER_BYTES, hidden_bytes
from hilsim.cost.step import Phase, Step, duration_ns, step_costs
from hilsim.cost.timer import Roofline
from hilsim.describe.chip import Ability, Unit
from hilsim.describe.drafting import ONE_PASS, HeadKind
from hilsim.describe.placement import HeadPlacement
from hilsim.describe.setup import Placed, deployed_head
from tests.scenes import shipped
from tests.tiny import chip, curve, figure, model, precision, unit

# Of the tiny target (h = 8, 10 words): 4-bit weights, an 8-bit output head, a 16-bit cache.
LAYER, SQUARE, HEAD, EMBEDDING = 576, 64, 80, 160
BOUND_BY_ARITHMETIC = unit(None, precision(memory_rate=figure(1e9, "B/s")))  # 1,000,000 operations/s
SHARED = Ability(value=True, kind="assumed", source="a test's own")


def head(kind: HeadKind, on: Unit, *, with_target: bool = True, **given: Any) -> Placed:
    """A head of four positions where it has any."""
    given |= {"positions": 4} if kind in ONE_PASS else {}
    placement = HeadPlacement(head_kind=kind, chip="tiny-chip", unit="u", precision="p", **given)
    shape = deployed_head(placement, model())
    return Placed("draft", placement, shape, chip({"u": on}), on, None, with_target=with_target)


def items(placed: Placed) -> dict[str, int]:
    """The ledger's lines by what they are, without the name of the model."""
    return {item.what.partition(": ")[2].split()[0]: item.bytes for item in role_items(placed, 50, 1)}


def test_a_head_on_its_targets_unit_holds_neither_the_embedding_nor_a_head_that_is_the_targets() -> None:
    states = 50 * (4 + 1) * 8 + 50 * 2 * 16  # in and out, residual twice, the target's state; feed-forward twice
    scores, logits = 50 * 2 * 50, 4 * 64 * 10
    mtp = items(head("mtp", unit()))
    assert mtp == items(head("eagle", unit())) == {
        "layers": (LAYER + 2 * SQUARE) // 2, "KV": 8 * 50 * 2,
        "activations": 2 * (states + scores) + logits,
    }  # fmt: skip
    assert items(head("mtp", unit(), with_target=False)) == mtp | {"output": HEAD, "embedding": EMBEDDING}
    assert items(head("eagle3", unit()))["output"] == HEAD


def test_a_trimmed_head_is_held_by_itself() -> None:
    trimmed = items(head("mtp", unit(), head_entries=5))
    assert trimmed["output"] == HEAD // 2
    assert trimmed["activations"] == items(head("mtp", unit()))["activations"] - 4 * 64 * 5


def test_graphs_that_hold_their_own_weights_hold_the_targets_head_once_more() -> None:
    apart, together = unit((1, 8)), unit((1, 8), shared_weights=SHARED)
    assert items(head("mtp", apart))["output"] == 2 * HEAD
    assert "output" not in items(head("mtp", together))


def test_eagle3_holds_what_fuses_three_states_and_medusa_a_head_a_position_and_no_cache() -> None:
    assert items(head("eagle3", unit()))["layers"] == (LAYER + 3 * SQUARE + 8 * 16) // 2
    medusa = items(head("medusa", unit()))
    assert (medusa["layers"], medusa["output"]) == (4 * SQUARE // 2, 4 * HEAD)
    assert "KV" not in medusa
    assert medusa["activations"] == 2 * (50 * 5 * 8 + 50 * 2 * 16) + 4 * 64 * 4 * 10  # no scores


def test_the_ledger_of_a_chip_with_a_head_is_the_sum_of_its_lines() -> None:
    setup = shipped("eagle_8775")
    (ledger,) = ledgers(setup).values()
    assert ledger.used_bytes == sum(item.bytes for item in ledger.items)
    assert not any("llama-3.1-8b-eagle" in item.what and "embedding" in item.what for item in ledger.items)
    assert sum(item.what.endswith("embedding table") for item in ledger.items) == 1


def test_a_runtime_that_takes_its_memory_in_advance_does_so_once_for_target_and_head() -> None:
    share = "target.runtime=vllm"
    on_gpu = ("target.chip=agx-orin-64gb", "target.unit=gpu", "target.precision=w4")
    (ledger,) = ledgers(shipped("eagle_8775", *on_gpu, share)).values()
    taken = [item for item in ledger.items if "when it starts" in item.what]
    assert len(taken) == 1
    assert [item.what for item in ledger.items if item.what.startswith("gpu runtime")] == ["gpu runtime"]
    # What is left of the share lies beside the models, so that both together make the share.
    inside = [item for item in ledger.items if item.what.startswith(("target", "draft"))]
    assert sum(item.bytes for item in inside) == pytest.approx(0.9 * ledger.cap_bytes, rel=0.2)


def seconds(kind: HeadKind, rows: int, logits: int, cached: int = 10) -> float:
    """One pass on a unit of 100 B/s whose arithmetic is free."""
    on = unit(None, precision(operation_rates=curve((1, 1e12))))
    placed = head(kind, on)
    step = Step(Phase.DRAFT, rows, cached, logits=logits)
    (cost,) = step_costs(placed.model, on, on.precisions["p"], step, None, 50)
    return cost.seconds


def test_a_pass_reads_the_layer_what_fuses_and_the_output_heads() -> None:
    cache = 8 * 2 * 11
    assert seconds("eagle", 1, 1) == pytest.approx(((LAYER + 2 * SQUARE) / 2 + HEAD + cache) / 100)
    assert seconds("eagle3", 1, 1) == pytest.approx((LAYER / 2 + HEAD + cache) / 100)
    assert seconds("medusa", 1, 4) == pytest.approx((4 * SQUARE / 2 + 4 * HEAD) / 100)
    # A block of four after two unread tokens: five layers, whose caches then hold 16 positions.
    assert seconds("block", 6, 4) == pytest.approx(((5 * LAYER + 5 * SQUARE) / 2 + HEAD + 5 * 8 * 2 * 16) / 100)


def test_every_output_head_multiplies_the_rows_of_its_own_position() -> None:
    on = BOUND_BY_ARITHMETIC
    placed = head("medusa", on)
    costs = {
        logits: step_costs(placed.model, on, on.precisions["p"], Step(Phase.DRAFT, 1, 0, logits=logits), None, 50)[0]
        for logits in (1, 4)
    }
    assert costs[4].head_matmul_s == pytest.approx(4 * 2 * HEAD / 1e6)
    # A fixed graph makes the logits of all positions of all its rows.
    (fixed,) = step_costs(placed.model, on, on.precisions["p"], Step(Phase.DRAFT, 1, 0), (2,), 50)
    assert fixed.head_matmul_s == pytest.approx(2 * 4 * 2 * HEAD / 1e6)


def test_a_timer_knows_steps_of_different_logits_apart() -> None:
    """A level of a token tree wants the logits of all its rows, a pass that catches up the last one's alone."""
    on = BOUND_BY_ARITHMETIC
    timer = Roofline(model(), on, "p", None, 50)
    few, many = (timer.duration_ns(Step(Phase.DRAFT, 4, 10, logits=logits)) for logits in (1, 4))
    fresh = Roofline(model(), on, "p", None, 50)
    assert fresh.duration_ns(Step(Phase.DRAFT, 4, 10, logits=4)) == many > few
    masked = timer.duration_ns(Step(Phase.DRAFT, 4, 10, tree=True, logits=4))
    assert masked == duration_ns(timer.costs(Step(Phase.DRAFT, 4, 10, tree=True, logits=4)))


def test_hidden_states_are_two_bytes_a_number() -> None:
    assert hidden_bytes(5 * 3 * 4096) == HEADER_BYTES + 5 * 3 * 4096 * 2
    far = shipped("eagle_far")
    assert far.draft is not None
    assert replace(far.draft).states_read == 1
