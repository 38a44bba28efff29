"""The memory ledger line by line, the cuts that an NPU's limits make, and the longest context that fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.cost.largest_context import largest_context
from hilsim.cost.memory import Split, kv_bytes, ledgers, role_items, split
from hilsim.describe.chip import Ability, Unit
from hilsim.describe.placement import Placement
from hilsim.describe.setup import Placed, Setup
from tests.scenes import shipped
from tests.tiny import BODY, CACHED, HEAD, chip, figure, model, precision, unit

ALONE = shipped("target_alone")
SHARED = Ability(value=True, kind="assumed", source="a test's own")
WEIGHTS = BODY // 2 + HEAD  # 576 bytes of 4-bit layers and 80 of the 8-bit head


def placed(on: Unit, **shape: Any) -> Placed:
    placement = Placement(model="tiny", chip="tiny-chip", unit="u", precision="p")
    return Placed("target", placement, model(**shape), chip({"u": on}), on, None)


def activations(rows: int, context: int, logits_rows: int) -> int:
    """Hidden state in and out and twice for the residual, two of the feed-forward, scores; fp16. Logits in fp32."""
    return 2 * (rows * (4 * 8 + 2 * 16) + rows * 2 * context) + 4 * logits_rows * 10


def test_networks_of_stages_and_tasks_are_in_the_ledger_of_their_chip() -> None:
    recogniser = "model: {shape: {gmacs: 1, parameters_m: 9000}}"
    plain = shipped("orin_8295", "speech={recognition: {unit: npu}}")
    heard = shipped("orin_8295", f"speech={{recognition: {{unit: npu, {recogniser}}}}}")
    chip, other = plain.target.chip.name, plain.draft.chip.name

    def added(setup: Setup, name: str) -> dict[str, int]:
        before = {item.what for item in ledgers(plain)[name].items}
        return {item.what: item.bytes for item in ledgers(setup)[name].items if item.what not in before}

    bits = plain.target.chip.units["npu"].precisions[plain.target.chip.units["npu"].of_networks].weight_bits.si
    named = f"recognition: parameters, {bits:g}-bit"
    assert added(heard, chip) == {named: round(9000e6 * bits / 8)}
    assert added(heard, other) == {}
    assert ledgers(plain)[chip].fits
    assert not ledgers(heard)[chip].fits
    # What is swapped with the target lies in its place, and beyond it as `megabytes` says.
    swapped = shipped(
        "orin_8295", f"speech={{recognition: {{unit: npu, {recogniser}}}, "
        "swap: {stage: recognition, megabytes: 1, flash_mb_per_s: 100}}",
    )  # fmt: skip
    assert added(swapped, chip) == {}
    task = "name: monitor, chip: drive-orin-x, unit: gpu, period_ms: 33"
    watched = shipped(
        "orin_8295", "speech={recognition: {unit: npu}}",
        f"background=[{{{task}, work: {{shape: {{gmacs: 1, parameters_m: 5}}, precision: fp16}}}}]",
    )  # fmt: skip
    assert added(watched, other) == {"monitor: parameters, 16-bit": 10_000_000}
    timed = shipped("orin_8295", "speech={recognition: {unit: npu}}", f"background=[{{{task}, work: {{ms: 3}}}}]")
    assert added(timed, other) == {}


def test_every_item_of_a_role_by_hand() -> None:
    on = unit((1, 8, 32))
    found = [item.bytes for item in role_items(placed(on), context=50, talkers=3)]
    # Three graphs, each with its own copy; the embedding in fp16; 16 numbers of two bytes a token and talker.
    assert found == [3 * BODY // 2, 3 * HEAD, 2 * HEAD, 3 * CACHED * 50 * 2, activations(32, 50, 32)]
    sharing = [item.bytes for item in role_items(placed(unit((1, 8, 32), shared_weights=SHARED)), 50, 3)]
    assert sharing == [BODY // 2, HEAD, *found[2:]]
    # Without fixed graphs a pass is as wide as the context, up to 512 rows.
    assert [role_items(placed(unit()), context, 1)[-1].bytes for context in (50, 2000)] == [
        activations(50, 50, 64),
        activations(512, 2000, 64),
    ]


def test_only_a_tied_head_of_sixteen_bits_is_the_embedding_as_well() -> None:
    wide = unit(None, precision(head_bits=figure(16, "bits")))

    def embedding(on: Unit, *, tied: bool) -> bool:
        return any("embedding" in item.what for item in role_items(placed(on, tied_head=tied), 50, 1))

    assert not embedding(wide, tied=True)
    assert embedding(wide, tied=False)
    assert embedding(unit(), tied=True)


def test_the_bits_of_the_cache_are_the_precisions() -> None:
    assert kv_bytes(placed(unit()), 50) == 2 * kv_bytes(placed(unit(None, precision(kv_bits=figure(8, "bits")))), 50)


def test_contexts_are_as_many_as_the_limit_makes_of_all_that_is_mapped() -> None:
    """Weights of every graph, the cache of every talker and the working set, in pieces of at most 1,000 bytes."""
    on = unit((1, 8), context_limit=figure(1000, "B"), graph_limit=figure(300, "B"))
    mapped = 2 * WEIGHTS + 3 * CACHED * 50 * 2 + activations(8, 50, 8)
    assert 9 * 1000 < mapped <= 10 * 1000
    assert split(placed(on), 50, talkers=3) == Split(graphs=3, contexts=10)
    assert split(placed(on.model_copy(update={"context_limit": None})), 50, 3).contexts == 1
    assert split(placed(on.model_copy(update={"shared_weights": SHARED})), 50, 3).contexts == 9
    # Exactly full is one context; a byte less room makes two.
    for room, contexts in ((mapped, 1), (mapped - 1, 2)):
        assert split(placed(on.model_copy(update={"context_limit": figure(room, "B")})), 50, 3).contexts == contexts


def test_every_context_needs_its_own_runtime() -> None:
    setup = shipped("orin_8295_greedy", "networks=[]")
    npu = setup.target.chip.units["npu"]
    parts = split(setup.target, setup.scenario.context_tokens).contexts
    runtime = {item.what: item.bytes for item in ledgers(setup)["sa8295p"].items}[f"npu runtime x {parts} contexts"]
    assert parts == 2
    assert runtime == 2 * npu.reserve.si
    beside = {item.what: item.bytes for item in ledgers(shipped("orin_8295_greedy"))["sa8295p"].items}
    assert beside["npu runtime x 3 contexts"] == 3 * npu.reserve.si  # a network has a context of its own


def with_memory(setup: Setup, size_bytes: float) -> Setup:
    """The target's chip with another size of memory, and nothing published that would stop a context before it does."""
    changed = setup.target.chip.model_copy(update={"memory": figure(size_bytes, "B")})
    unit = setup.target.unit.model_copy(update={"published_limits": ()})
    return replace(setup, target=replace(setup.target, chip=changed, unit=unit))


def fits(setup: Setup, tokens: int) -> bool:
    scenario = setup.scenario.model_copy(update={"context_tokens": tokens})
    return all(ledger.fits for ledger in ledgers(replace(setup, scenario=scenario)).values())


def test_the_largest_context_fits_and_one_token_more_does_not() -> None:
    setup = with_memory(ALONE, 14e9)
    found = largest_context(setup)
    assert 0 < found.tokens < setup.target.model.architecture.context
    assert fits(setup, found.tokens)
    assert not fits(setup, found.tokens + 1)
    assert found.stopped_by == "the memory of sa8295p"


def test_with_memory_to_spare_the_models_own_limit_stops_it() -> None:
    """The draft's limit where it has the shorter one: of draft-68m-llama3, 2048."""
    for name, limit in (("target_alone", 131072), ("orin_8295_greedy", 2048)):
        setup = with_memory(shipped(name), 1e12)
        found = largest_context(setup)
        assert found.tokens == limit
        assert found.stopped_by.endswith("has no longer one")


def test_where_the_weights_alone_do_not_fit_no_context_does() -> None:
    found = largest_context(with_memory(ALONE, 8e9))
    assert found.tokens == 0
    assert found.stopped_by == "the memory of sa8295p"


@settings(max_examples=30)
@given(st.floats(5e9, 80e9), st.floats(1, 2))
def test_more_memory_never_shortens_the_largest_context(size: float, factor: float) -> None:
    shorter, longer = (largest_context(with_memory(ALONE, n)).tokens for n in (size, size * factor))
    assert shorter <= longer
    for tokens in (shorter, longer):
        assert tokens == 0 or fits(with_memory(ALONE, size * factor), tokens)


def test_forecast_tokens_and_their_prefix_are_in_the_ledger() -> None:
    """Two embeddings of 3,072 numbers of 2 bytes, and sixteen positions of the cache; with other policies nothing."""
    setup = shipped("ssd_8elite")
    kept, cached = (
        [item for item in ledgers(setup)[setup.target.chip.name].items if what in item.what]
        for what in ("forecast tokens", "KV cache")
    )
    assert len(kept) == len(cached) == 1
    assert kept[0].bytes == 2 * 2 * 3072 + cached[0].bytes * 16 // setup.scenario.context_tokens
    assert kept[0].bytes < 2 * 2**20
    plain = shipped("ssd_8elite", "policy={name: target_only}")
    assert not [item for item in ledgers(plain)[plain.target.chip.name].items if "forecast" in item.what]
