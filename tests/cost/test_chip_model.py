"""The chip model term by term against arithmetic done by hand on a tiny model, and what must hold for any unit.

The numbers of the tiny model and unit are in tests/tiny.py: 1,152 weights of 4 bits and 80 of 8 are 656 bytes, which
100 B/s read in 6.56 s; 10^6 operations/s multiply a row by the layers in 2.304 ms.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.cost.network import fallback_seconds, network_seconds
from hilsim.cost.step import Phase, Step, StepCost, graphs_run, operation_rate, step_costs
from hilsim.describe.catalogue import load_chip, load_record
from hilsim.describe.chip import Fallback, Unit
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.figure import Figure
from hilsim.describe.figures import figures, with_figures
from hilsim.describe.model import Model
from hilsim.places import CODE as PROJECT
from tests.tiny import ATTENTION, BODY, CACHED, HEAD, curve, figure, model, operations_per_s, precision, unit

TINY = model()
DECODE = Step(Phase.DECODE, 1, 30)


def costs(on: Unit, step: Step, context: int = 50) -> list[StepCost]:
    widths = None if on.widths is None else on.widths.value
    return step_costs(TINY, on, on.precisions["p"], step, widths, context)


def cost(on: Unit, step: Step = DECODE, context: int = 50) -> StepCost:
    (only,) = costs(on, step, context)
    return only


def seconds(on: Unit, step: Step, context: int = 50) -> float:
    return sum(part.seconds for part in costs(on, step, context))


def with_format(widths: tuple[int, ...] | None = None, **given: Any) -> Unit:
    return unit(widths, precision(**given))


def test_weights_are_bytes_over_the_memory_rate_the_head_at_its_own_width() -> None:
    assert cost(unit()).weights_s == pytest.approx((BODY * 4 / 8 + HEAD * 8 / 8) / 100) == 6.56
    wide_head = cost(with_format(head_bits=figure(16, "bits"))).weights_s
    assert wide_head == pytest.approx(6.56 + HEAD * 8 / 8 / 100)
    assert cost(with_format(weight_bits=figure(16, "bits"))).weights_s == pytest.approx((BODY * 2 + HEAD) / 100)


def test_the_weight_rate_caps_what_the_memory_would_give() -> None:
    """1,232 weights at 1,000 a second take longer than their 656 bytes at 1,000 a second; at 10,000 they do not."""
    memory = figure(1000, "B/s")
    slow, fast = (
        with_format(memory_rate=memory, weight_rate=figure(rate / 1e9, "Gweights/s")) for rate in (1000, 10_000)
    )
    assert cost(slow).weights_s == pytest.approx((BODY + HEAD) / 1000) == 1.232
    assert cost(fast).weights_s == pytest.approx(0.656)


def test_fixed_graphs_read_their_whole_context_and_others_what_is_there() -> None:
    fixed, free = unit((1, 8)), unit()
    for cached in (0, 30, 49):
        assert cost(fixed, Step(Phase.DECODE, 1, cached)).kv_s == pytest.approx(CACHED * 50 * 2 / 100)
        # The row that is being made is stored as well.
        assert cost(free, Step(Phase.DECODE, 1, cached)).kv_s == pytest.approx(CACHED * (cached + 1) * 2 / 100)
    assert cost(fixed, context=99).kv_s == pytest.approx(CACHED * 99 * 2 / 100)
    assert cost(free, context=99) == cost(free, context=50)


def test_the_cache_has_its_own_rate_and_width_where_given() -> None:
    assert cost(with_format(cache_rate=figure(1000, "B/s"))).kv_s == pytest.approx(CACHED * 31 * 2 / 1000)
    assert cost(with_format(kv_bits=figure(8, "bits"))).kv_s == pytest.approx(CACHED * 31 / 100)


def test_attention_sees_the_past_of_every_row_and_on_fixed_graphs_the_whole_context() -> None:
    """Four rows after ten see 11, 12, 13 and 14 positions; in a graph of width 8 eight rows see all 50."""
    step = Step(Phase.VERIFY, 4, 10)
    assert cost(unit(), step).attention_s == pytest.approx(ATTENTION * (11 + 12 + 13 + 14) / 1e6)
    assert cost(unit((1, 8)), step).attention_s == pytest.approx(ATTENTION * 8 * 50 / 1e6)
    own = cost(with_format(attention_rate=operations_per_s(5e6)), step)
    assert own.attention_s == pytest.approx(ATTENTION * 50 / 5e6)
    assert own.matmul_s == cost(unit(), step).matmul_s


def test_reading_and_catching_up_want_one_row_of_logits_and_a_verify_wants_all() -> None:
    for phase, head_rows in ((Phase.PREFILL, 1), (Phase.DRAFT_PREFILL, 1), (Phase.VERIFY, 6), (Phase.DRAFT, 1)):
        found = cost(unit(), Step(phase, 6, 0)).matmul_s
        assert found == pytest.approx(2 * (BODY * 6 + HEAD * head_rows) / 1e6)
        # A graph computes the logits of every row it was compiled for.
        assert cost(unit((1, 8)), Step(phase, 6, 0)).matmul_s == pytest.approx(2 * (BODY + HEAD) * 8 / 1e6)


def test_graphs_are_as_many_as_the_limit_makes_of_layers_and_head() -> None:
    """576 bytes of layers are two graphs of at most 300, the head's 80 one more; each graph costs its 0.5 s."""
    limited = unit(graph_limit=figure(300, "B"), graph_overhead=figure(0.5, "s"), step_overhead=figure(2, "s"))
    assert cost(limited).fixed_s == pytest.approx(3 * 0.5 + 2)
    least = limited.model_copy(update={"graphs_per_step": figure(4, "graphs")})
    assert cost(least).fixed_s == pytest.approx(4 * 0.5 + 2)
    assert cost(unit(graph_overhead=figure(0.5, "s"))).fixed_s == 0.5


def splits(limited: Unit) -> list[int]:
    """Graphs of Llama-3.2-1B, 3B and Llama-3.1-8B in w4."""
    models = [load_record(Model, PROJECT / f"models/llama-{name}.yaml") for name in ("3.2-1b", "3.2-3b", "3.1-8b")]
    return [graphs_run(loaded, limited, limited.precisions["w4"]) for loaded in models]


def test_one_gigabyte_a_graph_gives_the_published_splits() -> None:
    """NUM_SPLITS of qualcomm/ai-hub-models: 3 for Llama-3.2-1B and 3B, 5 for Llama-3.1-8B."""
    npu = load_chip("sa8775p", PROJECT / "scenarios" / "x.yaml").units["npu"]
    assert splits(npu) == [3, 3, 5]
    assert splits(npu.model_copy(update={"graph_limit": None})) == [3, 3, 3]  # so it is the limit that makes five


def test_a_graph_on_v68_holds_what_its_compiler_prints() -> None:
    """2,097,152 KB (executorch issue 17782): 3.49 GB of Llama-3.1-8B's layers are two graphs, with the head three."""
    npu = load_chip("sa8295p", PROJECT / "scenarios" / "x.yaml").units["npu"]
    assert npu.graph_limit is not None
    assert npu.graph_limit.si == 2_097_152 * 1024 < 2_309_576 * 1024  # the graph that was refused
    assert splits(npu) == [3, 3, 3]


LAUNCHED = {
    "layer_overhead": figure(0.25, "s"),
    "prompt_layer_overhead": figure(4, "s"),
    "narrow_rows": figure(5, "rows"),
}


@pytest.mark.parametrize(
    ("widths", "step", "a_layer"),
    [
        (None, Step(Phase.DECODE, 1, 0), 0.25),
        (None, Step(Phase.PREFILL, 5, 0), 0.25),  # as narrow as a decode step
        (None, Step(Phase.PREFILL, 6, 0), 4.25),
        (None, Step(Phase.VERIFY, 6, 0), 0.25),  # one launch of a recorded graph, however many rows
        ((1, 8), Step(Phase.VERIFY, 6, 0), 4.25),  # the compiled graph of eight rows, which prompts run as well
        ((1, 8), Step(Phase.DECODE, 1, 0), 0.25),
    ],
)
def test_layers_cost_their_launches_and_more_when_reading_wide(
    widths: tuple[int, ...] | None, step: Step, a_layer: float
) -> None:
    assert cost(unit(widths, **LAUNCHED), step).fixed_s == pytest.approx(2 * a_layer)


@pytest.mark.parametrize(("rows", "computed"), [(1, 1), (4, 4), (5, 8), (8, 8), (9, 16), (17, 24)])
def test_rows_beyond_the_narrow_ones_fill_whole_tiles(rows: int, computed: int) -> None:
    tiled = unit(narrow_rows=figure(4, "rows"), tile_rows=figure(8, "rows"))
    found = cost(tiled, Step(Phase.VERIFY, rows, 0))
    assert found.matmul_s == pytest.approx(2 * (BODY + HEAD) * computed / 1e6)
    assert found.weights_s == pytest.approx(6.56)


@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_what_does_not_overlap_is_added(overlap: float) -> None:
    """Memory: 656 bytes and the cache at 100 kB/s. Compute at 10^6 operations/s: 6 rows take longer, one row less.

    Layers, head and attention run one after another, so each hides its own.
    """
    number_format = precision(memory_rate=figure(1e5, "B/s"), operation_rates=curve((1, 1e6)))
    on = unit(None, number_format, overlap=figure(overlap, "share"))
    step = Step(Phase.VERIFY, 6, 0)
    layers, head = (BODY / 2 / 1e5, 2 * BODY * 6 / 1e6), (HEAD / 1e5, 2 * HEAD * 6 / 1e6)
    attention = (CACHED * 6 * 2 / 1e5, ATTENTION * (1 + 2 + 3 + 4 + 5 + 6) / 1e6)
    assert layers[0] < layers[1]
    assert attention[0] > attention[1]
    parts = (layers, head, attention)
    assert cost(on, step).seconds == pytest.approx(sum(max(part) + (1 - overlap) * min(part) for part in parts))
    one_row = ((BODY / 2 / 1e5, 2 * BODY / 1e6), (HEAD / 1e5, 2 * HEAD / 1e6), (CACHED * 2 / 1e5, ATTENTION / 1e6))
    assert cost(on, Step(Phase.VERIFY, 1, 0)).seconds == pytest.approx(sum(map(max, one_row)))  # narrow: all hides


UNPACKED = {
    "narrow_rows": figure(7, "rows"), "tile_rows": figure(16, "rows"), "unpack_rows": figure(64, "rows"),
    "unpack_tail": figure(0.5, "share"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "tiles"), [(7, None), (8, 1), (60, 1), (64, 1), (65, 2), (480, 8)])
def test_weights_are_unpacked_for_every_tile_of_rows_and_half_a_tile_more(rows: int, tiles: int | None) -> None:
    """1,152 body weights at 1000 a second; up to 7 rows matrix-vector kernels unpack on the way."""
    number_format = precision(unpack_rate=figure(1e-6, "Gweights/s"))
    found = cost(unit(None, number_format, **UNPACKED), Step(Phase.VERIFY, rows, 0)).matmul_s
    plain = cost(unit(None, **UNPACKED), Step(Phase.VERIFY, rows, 0)).matmul_s
    assert found - plain == pytest.approx(0 if tiles is None else (tiles + 0.5) * BODY / 1000)
    # Sixty rows of eight sequences are one pass of 480.
    batch = cost(unit(None, number_format, **UNPACKED), Step(Phase.VERIFY, 60, 0, 8)).matmul_s
    if rows == 480:
        assert batch == found


def test_a_format_that_is_unpacked_makes_a_verify_pass_cost_steps_and_one_that_is_multiplied_does_not() -> None:
    """Unpacking as slow as reading: a tile and a half of 576 bytes at 100 B/s, and the head; else reading alone."""
    native = precision(operation_rates=curve((1, 1e9)), attention_rate=operations_per_s(1e9))
    unpacked = native.model_copy(update={"unpack_rate": figure(BODY / 5.76 / 1e9, "Gweights/s")})
    for number_format, expected in ((native, 6.56), (unpacked, 1.5 * 5.76 + 0.8)):
        on = unit(None, number_format, **UNPACKED)
        found = cost(on, Step(Phase.VERIFY, 60, 0))
        assert found.seconds - found.kv_s == pytest.approx(expected, rel=1e-3)


def test_a_mask_that_is_data_hides_no_future() -> None:
    """Four rows after ten: 14 positions each, also those that a row must not see; a triangle spares 6 of 56."""
    tree, chain = Step(Phase.VERIFY, 4, 10, tree=True), Step(Phase.VERIFY, 4, 10)
    assert cost(unit(), tree).attention_s == pytest.approx(ATTENTION * 14 * 4 / 1e6)
    assert cost(unit(), tree).attention_s > cost(unit(), chain).attention_s
    assert cost(unit(), tree).kv_s == cost(unit(), chain).kv_s


def test_logits_are_made_of_the_rows_that_are_wanted_and_passed_over() -> None:
    """A row of logits of 4 bytes an entry, written and read once, at 100 B/s."""
    on = unit(logits_passes=figure(2, "times"))
    row_s = 2 * 4 * TINY.vocabulary.entries / 100
    assert cost(on, Step(Phase.VERIFY, 6, 0)).logits_s == pytest.approx(6 * row_s)
    some = cost(on, Step(Phase.VERIFY, 6, 0, 3, logits=2))
    assert some.logits_s == pytest.approx(3 * 2 * row_s)
    assert some.head_matmul_s == pytest.approx(2 * HEAD * 6 / 1e6)
    assert cost(on, Step(Phase.PREFILL, 6, 0)).logits_s == pytest.approx(row_s)


def test_a_long_prompt_takes_several_of_the_widest_graph_and_the_next_width_up() -> None:
    on = unit((1, 8, 32))
    wide, narrow = (costs(on, Step(Phase.PREFILL, rows, 0))[0] for rows in (32, 8))
    assert [part.width for part in costs(on, Step(Phase.PREFILL, 70, 0))] == [32, 32, 8]
    assert costs(on, Step(Phase.PREFILL, 70, 0)) == [wide, wide, narrow]
    # Padding is computed: 9 rows cost what 32 do, and 33 cost one more pass of a single row.
    assert costs(on, Step(Phase.PREFILL, 9, 0)) == [wide]
    assert seconds(on, Step(Phase.PREFILL, 33, 0)) == pytest.approx(wide.seconds + seconds(on, DECODE))
    assert len(costs(unit(), Step(Phase.PREFILL, 70, 0))) == 1  # no widths, one pass


def test_a_batch_reads_weights_once_and_everything_else_per_sequence() -> None:
    for on in (unit(), unit((1, 8))):
        one, four = cost(on, Step(Phase.VERIFY, 3, 10)), cost(on, Step(Phase.VERIFY, 3, 10, 4))
        assert (four.weights_s, four.fixed_s) == (one.weights_s, one.fixed_s)
        for part in ("kv_s", "matmul_s", "attention_s"):
            assert getattr(four, part) == pytest.approx(4 * getattr(one, part))


def test_the_operation_rate_is_straight_between_its_points_and_flat_beyond() -> None:
    number_format = precision(operation_rates=curve((11, 1e6), (21, 1.8e6)))
    found = [operation_rate(number_format, rows) for rows in (1, 11, 16, 21, 500)]
    assert found == pytest.approx([1e6, 1e6, 1.4e6, 1.8e6, 1.8e6])
    assert cost(unit(None, number_format), Step(Phase.VERIFY, 16, 0)).matmul_s == pytest.approx(
        2 * (BODY + HEAD) * 16 / 1.4e6
    )


NETWORK = unit(
    None,
    precision(
        weight_bits=figure(8, "bits"), memory_rate=figure(2, "GB/s"), pass_overhead=figure(3, "ms"),
        operation_rates=curve((1, 1e9), (100, 50e9)),
    ),
    graph_overhead=figure(1, "ms"), operator_overhead=figure(10, "us"),
    fallback=Fallback(penalty=figure(4, "times"), crossing=figure(2, "ms")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("gmacs", "params_b", "longer_s"),
    [(5.0, 0.1, 2 * 5 / 50), (0.5, 0.1, 0.1 / 2)],  # ten Gop at the curve's plateau; 100 MB at 2 GB/s
)
def test_a_network_is_the_longer_of_operations_and_parameters_and_its_overheads(
    gmacs: float, params_b: float, longer_s: float
) -> None:
    load = NetworkLoad(gmacs, params_b, operators=200)
    here = network_seconds(load, NETWORK, NETWORK.precisions["p"])
    assert here == pytest.approx(1e-3 + 3e-3 + 200 * 10e-6 + longer_s)
    assert network_seconds(NetworkLoad(gmacs, params_b, 0), NETWORK, NETWORK.precisions["p"]) < here


def test_what_leaves_the_unit_takes_its_penalty_and_a_crossing_each_way() -> None:
    """A quarter of 206 ms at four times, and three crossings of 2 ms."""
    load, p = NetworkLoad(5.0, 0.1, 200), NETWORK.precisions["p"]
    assert fallback_seconds(load, NETWORK, p, share=0.25, crossings=3) == pytest.approx(
        0.206 * 0.75 + 0.206 * 0.25 * 4 + 3 * 2e-3
    )
    assert fallback_seconds(load, NETWORK, p, share=0, crossings=0) == network_seconds(load, NETWORK, p)
    with pytest.raises(ValueError, match="without fallback figures"):
        fallback_seconds(load, unit(), precision(), share=0.5, crossings=1)


# What must hold on any unit. Rates span what makes weights, cache or arithmetic decide.
PASSING = st.sampled_from([Phase.DECODE, Phase.VERIFY, Phase.PREFILL])


@st.composite
def units(draw: st.DrawFn, rising: bool = False) -> Unit:
    """Any unit; its rate is a curve as chip files may have it (never quicker for more rows), attention apart."""

    def maybe(**choices: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {name: draw(choice) for name, choice in choices.items() if draw(st.booleans())}

    rate, rows = draw(st.floats(1e7, 1e9)), draw(st.integers(2, 60))
    high = rate * draw(st.floats(1 if rising else 0.2, 0.999 * rows))
    number_format = precision(
        memory_rate=figure(draw(st.floats(1e4, 1e6)), "B/s"),
        operation_rates=curve((1, rate), (rows, high)),
        attention_rate=operations_per_s(draw(st.floats(1e6, 1e9))),
        **maybe(
            weight_rate=st.floats(1e4, 1e6).map(lambda n: figure(n / 1e9, "Gweights/s")),
            cache_rate=st.floats(1e4, 1e6).map(lambda n: figure(n, "B/s")),
            unpack_rate=st.floats(1e4, 1e6).map(lambda n: figure(n / 1e9, "Gweights/s")),
        ),
    )
    count, a_while = st.integers(1, 40), (st.just(0) | st.floats(1e-9, 3)).map(lambda n: figure(n, "s"))
    return unit(
        (1, 8, 32) if draw(st.booleans()) else None,
        number_format,
        **maybe(
            layer_overhead=a_while, prompt_layer_overhead=a_while, step_overhead=a_while, graph_overhead=a_while,
            overlap=(st.just(0) | st.floats(1e-6, 1)).map(lambda n: figure(n, "share")),
            narrow_rows=count.map(lambda n: figure(n, "rows")), tile_rows=count.map(lambda n: figure(n, "rows")),
            unpack_rows=count.map(lambda n: figure(n, "rows")), unpack_tail=st.just(figure(0.3, "share")),
            logits_passes=count.map(lambda n: figure(n, "times")),
        ),
    )  # fmt: skip


STEPS = st.builds(Step, PASSING, st.integers(1, 80), st.integers(0, 300), st.integers(1, 5))
RATES = {
    "memory": {"memory_rate", "weight_rate", "cache_rate"},
    "operations": {"rate", "attention_rate", "unpack_rate"},
}


def quicker(on: Unit, part: str, factor: float) -> Unit:
    """The unit with every rate of its memory, or of its arithmetic, a factor higher."""
    rates = {path: rate for path, rate in figures(on).items() if path.rpartition(".")[2] in RATES[part]}
    return with_figures(on, {path: rate.model_copy(update={"value": rate.value * factor})
                             for path, rate in rates.items() if isinstance(rate, Figure)})  # fmt: skip


@pytest.mark.parametrize("part", RATES)
@given(on=units(), step=STEPS, factor=st.floats(1.01, 50))
def test_more_bandwidth_and_more_operations_are_never_slower(part: str, on: Unit, step: Step, factor: float) -> None:
    assert seconds(quicker(on, part, factor), step) <= seconds(on, step) * (1 + 1e-12)


@given(units(), STEPS)
def test_a_thousand_times_both_leaves_the_overheads(on: Unit, step: Step) -> None:
    """The control of the claim above: the rates do decide, and nothing but the fixed costs stays."""
    fixed = sum(part.fixed_s for part in costs(on, step))
    all_quicker = quicker(quicker(on, "memory", 1000), "operations", 1000)
    assert seconds(all_quicker, step) - fixed == pytest.approx((seconds(on, step) - fixed) / 1000)


@given(units(), PASSING, st.integers(1, 79), st.integers(0, 300), st.integers(1, 20))
def test_more_rows_are_never_cheaper(on: Unit, phase: Phase, rows: int, cached: int, more: int) -> None:
    fewer, wider = (seconds(on, Step(phase, n, cached)) for n in (rows, rows + more))
    assert wider >= fewer * (1 - 1e-12)


def test_a_wider_pass_is_not_cheaper_where_the_rate_grows_as_fast_as_rows_may() -> None:
    """A tile of 32 rows runs at 32 times the rate of one row: everything in it takes as long, nothing less."""
    number_format = precision(memory_rate=figure(1, "GB/s"), operation_rates=curve((1, 1e6), (32, 32e6)))
    on = unit(None, number_format, tile_rows=figure(32, "rows"))
    assert seconds(on, Step(Phase.VERIFY, 2, 300)) >= seconds(on, Step(Phase.VERIFY, 1, 300))


@given(units(), STEPS, st.integers(1, 200))
def test_a_longer_context_is_never_faster(on: Unit, step: Step, longer: int) -> None:
    further = Step(step.phase, step.rows, step.cached + longer, step.sequences)
    assert seconds(on, further, context=400 + longer) >= seconds(on, step, context=400) * (1 - 1e-12)


@given(units(), PASSING, st.integers(1, 40), st.integers(0, 300), st.integers(2, 8))
def test_a_batch_is_never_faster_than_one_sequence(on: Unit, phase: Phase, rows: int, cached: int, batch: int) -> None:
    one, several = (seconds(on, Step(phase, rows, cached, n)) for n in (1, batch))
    assert several >= one * (1 - 1e-12)


SAME_KERNELS = {"narrow_rows": None, "tile_rows": None, "overlap": None, "prompt_layer_overhead": None}


@given(units(rising=True), PASSING, st.integers(1, 40), st.integers(0, 300), st.integers(2, 8))
def test_a_batch_by_the_same_kernels_is_never_slower_than_its_sequences_one_by_one(
    on: Unit, phase: Phase, rows: int, cached: int, batch: int
) -> None:
    number_format = on.precisions["p"].model_copy(update={"unpack_rate": None})
    same = on.model_copy(update=SAME_KERNELS | {"precisions": {"p": number_format}})
    one, several = (seconds(same, Step(phase, rows, cached, n)) for n in (1, batch))
    assert several <= batch * one * (1 + 1e-12)


def test_a_batch_that_needs_other_kernels_may_be_slower_than_its_sequences_one_by_one() -> None:
    """The condition of the claim above is needed: two rows fill a tile of 32 and hide nothing."""
    number_format = precision(memory_rate=figure(1e5, "B/s"), operation_rates=curve((1, 1e6)))
    on = unit(None, number_format, tile_rows=figure(32, "rows"), overlap=figure(0, "share"))
    assert seconds(on, Step(Phase.DECODE, 1, 0, 2)) > 2 * seconds(on, Step(Phase.DECODE, 1, 0))
