"""Times of nodes: bytes over rates, views for nothing, sums of parts, and the published rows of a slow export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from hilsim.compiler.findings import SlowFinding
from hilsim.compiler.islands import islands_of
from hilsim.compiler.language import language_counts
from hilsim.compiler.nodes import constants_of, operator_of
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.plan import GraphPlan, Plan, timed
from hilsim.compiler.program import Subject, exported
from hilsim.compiler.scenario_times import with_pass_times
from hilsim.compiler.site import CompileSite
from hilsim.compiler.slow.heads import REPEATED
from hilsim.compiler.whole_graph import cut_finding, launch_finding, parts_finding
from hilsim.cost.extra import work_seconds
from hilsim.cost.step import Phase, Step, cost_of, si, step_costs
from hilsim.cost.timer import timer_for
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.model import Architecture, Model
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile
from tests.scenes import shipped

HERE = Path("test")


def site(chip: str = "sa8797p", precision: str = "w8a16", unit: str = "npu") -> CompileSite:
    found = load_chip(chip, HERE).units[unit]
    return CompileSite(found, found.precisions[precision], load_profile(found.profiles[0], HERE), Compile())


class Moves(nn.Module):
    """A view, a repeat of heads, a permutation, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(64, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (2, 8, 16, 64)."""
        repeated = x.unsqueeze(2).expand(2, 8, 3, 16, 64).reshape(2, 24, 16, 64)
        made: Tensor = self.weight(repeated.permute(0, 2, 1, 3).contiguous())
        return made


def nodes_of(*, of: CompileSite) -> tuple[PassTime, dict[str, list[fx.Node]]]:
    program = exported(Subject("moves", Moves(), (torch.randn(2, 8, 16, 64),)))
    found: dict[str, list[fx.Node]] = {}
    for node in program.graph.nodes:
        found.setdefault(operator_of(node), []).append(node)
    return PassTime(of, constants_of(program)), found


def test_a_view_costs_nothing() -> None:
    clock, nodes = nodes_of(of=site())
    free = [*nodes["aten.unsqueeze.default"], *nodes["aten.view.default"], *nodes["aten.clone.default"]]
    assert clock.seconds(free) == 0


def test_a_repeat_is_its_numbers_over_the_units_rate() -> None:
    clock, nodes = nodes_of(of=site())
    (expand,) = nodes["aten.expand.default"]
    assert clock.node_seconds(expand) == pytest.approx(2 * 24 * 16 * 64 / 1.066e9)
    span = clock.range([expand])
    assert (span.low, span.high) == pytest.approx((2 * 24 * 16 * 64 / 1.21e9, 2 * 24 * 16 * 64 / 1.0e9))


def test_times_add_up() -> None:
    clock, nodes = nodes_of(of=site())
    every = [node for same in nodes.values() for node in same]
    assert clock.seconds(every) == pytest.approx(sum(map(clock.node_seconds, every)))
    assert clock.seconds(every) == pytest.approx(clock.seconds(every[:4]) + clock.seconds(every[4:]))


def test_tensorrt_fuses_a_repeat() -> None:
    clock, nodes = nodes_of(of=site("agx-orin-64gb", "fp16", "gpu"))
    assert clock.seconds(nodes["aten.expand.default"]) == 0


def test_another_hexagon_has_an_assumed_rate_with_a_range() -> None:
    clock, nodes = nodes_of(of=site("sa8295p", "w4"))
    span = clock.range(nodes["aten.expand.default"])
    assert span.low < span.value < span.high
    assert clock.multiply is not None
    assert clock.multiply.kind == "assumed"


class Sorted(nn.Module):
    """All numbers of a row in order, its largest 40, its heads by index."""

    def forward(self, x: Tensor, heads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`x` (1, 1 << 16), `heads` (2, 1 << 10)."""
        again = torch.tensor([0, 0, 1, 1])
        return x.sort(-1)[0], x.topk(40, -1)[0], heads[again], heads[torch.tensor([1, 0])]


def test_a_sort_is_its_levels_of_comparisons_and_repeating_by_index_is_between_a_copy_and_a_multiply() -> None:
    """16 levels of 65,536 numbers, 6 where 40 are kept; a bitonic network has 1 + 2 + ... of them."""
    of = site()
    program = exported(Subject("sorted", Sorted(), (torch.randn(1, 1 << 16), torch.randn(2, 1 << 10))))
    clock = PassTime(of, constants_of(program))
    nodes = {node.name: node for node in program.graph.nodes}
    rate, numbers = 1.066e9, 1 << 16
    for name, levels in (("sort", 16), ("topk", 6)):
        span = clock.span(nodes[name])
        assert span.value == pytest.approx(numbers * levels / rate)
        assert (span.low, span.high) == pytest.approx(
            (numbers * levels / 1.21e9, numbers * levels * (levels + 1) / 2 / 1.0e9)
        )
    again, turned = (clock.span(node) for name, node in nodes.items() if name.startswith("index"))
    assert again.high == pytest.approx(4 * (1 << 10) / 1.0e9)
    assert again.low == again.value < again.high
    assert turned.low == turned.value == turned.high, "nothing is repeated"
    other = PassTime(site("agx-orin-64gb", "fp16", "gpu"), constants_of(program)).span(nodes["sort"])
    assert other.low == other.value == other.high


class PlainAttention(nn.Module):
    """Grouped-query attention over a cache; `copied`: heads copied for all query heads, as transformers has it."""

    def __init__(self, hidden: int, heads: int, kv_heads: int, dim: int, *, copied: bool):
        super().__init__()
        self.heads, self.kv_heads, self.dim, self.copied = heads, kv_heads, dim, copied
        self.q_proj = nn.Linear(hidden, heads * dim, bias=False)
        self.k_proj = nn.Linear(hidden, kv_heads * dim, bias=False)
        self.v_proj = nn.Linear(hidden, kv_heads * dim, bias=False)
        self.o_proj = nn.Linear(heads * dim, hidden, bias=False)

    def forward(self, x: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`x` (1, rows, hidden), `mask` (rows, positions), `keys` and `values` (1, kv_heads, cached, dim)."""
        rows, group = x.shape[1], self.heads // self.kv_heads
        q = self.q_proj(x).view(1, rows, self.heads, self.dim).transpose(1, 2)
        k = torch.cat((keys, self.k_proj(x).view(1, rows, self.kv_heads, self.dim).transpose(1, 2)), 2)
        v = torch.cat((values, self.v_proj(x).view(1, rows, self.kv_heads, self.dim).transpose(1, 2)), 2)
        if self.copied:
            k, v = (
                part[:, :, None]
                .expand(1, self.kv_heads, group, part.shape[2], self.dim)
                .reshape(1, self.heads, -1, self.dim)
                for part in (k, v)
            )
        else:
            q, mask = q.reshape(1, self.kv_heads, group * rows, self.dim), mask.repeat(group, 1)
        mixed = torch.softmax(q @ k.transpose(2, 3) * self.dim**-0.5 + mask, -1) @ v
        together = mixed.reshape(1, self.heads, rows, self.dim).transpose(1, 2).reshape(1, rows, -1)
        made: Tensor = self.o_proj(together)
        return made


class PlainDecoder(nn.Module):
    """Layers of attention and a gated feed-forward, an embedding, and a head over the same table."""

    def __init__(self, shape: Architecture, entries: int, layers: int, *, copied: bool):
        super().__init__()
        hidden, inner = shape.hidden, shape.intermediate
        self.embed = nn.Embedding(entries, hidden)
        self.attention = nn.ModuleList(
            PlainAttention(hidden, shape.heads, shape.kv_heads, shape.head_dim, copied=copied) for _ in range(layers)
        )
        self.gate = nn.ModuleList(nn.Linear(hidden, inner, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(hidden, inner, bias=False) for _ in range(layers))
        self.down = nn.ModuleList(nn.Linear(inner, hidden, bias=False) for _ in range(layers))
        self.head = nn.Linear(hidden, entries, bias=False)

    def forward(self, ids: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`ids` (1, rows); `keys` and `values` (layers, 1, kv_heads, cached, dim)."""
        x = self.embed(ids)
        for index, attention in enumerate(self.attention):
            x = x + attention(x, mask, keys[index], values[index])
            x = x + self.down[index](nn.functional.silu(self.gate[index](x)) * self.up[index](x))
        logits: Tensor = self.head(x)
        return logits


QWEN = load_named("model", Model, "qwen3-0.6b", HERE)
CONTEXT = 1152


def decoder(rows: int, layers: int, *, copied: bool) -> ExportedProgram:
    """Qwen3-0.6B's sizes in fake tensors, with a cache that fills the context."""
    shape = QWEN.architecture
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module = PlainDecoder(shape, QWEN.row_entries, layers, copied=copied)
        past = torch.zeros(layers, 1, shape.kv_heads, CONTEXT - rows, shape.head_dim)
        inputs = (torch.zeros(1, rows, dtype=torch.int64), torch.zeros(rows, CONTEXT), past, past.clone())
    return exported(Subject("decoder", module, inputs))


def of_layers(layers: int) -> Model:
    """The model with so many of its layers."""
    return QWEN.model_copy(
        update={"architecture": QWEN.architecture.model_copy(update={"layers": layers, "kinds": ()})}
    )


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize(("chip", "precision"), [("sa8797p", "w8a16"), ("sa8295p", "w4")])
@pytest.mark.parametrize("rows", [1, 32])
def test_an_exported_decoder_has_the_clock_of_described_ones(
    rows: int, chip: str, precision: str, *, copied: bool
) -> None:
    """What a graph reads and computes is what its architecture says, to the last bit: there is no second clock."""
    of = site(chip, precision)
    counts = language_counts(decoder(rows, 2, copied=copied), of.unit, of.precision)
    assert counts is not None
    described = step_costs(of_layers(2), of.unit, of.precision, Step(Phase.VERIFY, rows, 0), (rows,), CONTEXT)
    assert cost_of(counts, of.unit, of.precision).seconds == pytest.approx(described[0].seconds, rel=1e-12)


def test_a_network_without_cache_and_vocabulary_is_no_language_model() -> None:
    of = site()
    assert (
        language_counts(exported(Subject("moves", Moves(), (torch.randn(2, 8, 16, 64),))), of.unit, of.precision)
        is None
    )


def test_the_published_slow_export_is_predicted_from_its_graph() -> None:
    """SA8797P, Qwen3-0.6B w8a16 at 1152: 146.3 ms a step with copied heads, 22.37 in groups, 6.5 times."""
    of, layers = site(), QWEN.architecture.layers
    program = decoder(1, 2, copied=True)
    clock = PassTime(of, constants_of(program), layers / 2, "attention", decoder=True)
    copies = [node for node in program.graph.nodes if operator_of(node) == "aten.expand.default"]
    whole_s = step_costs(QWEN, of.unit, of.precision, Step(Phase.DECODE, 1, 0), (1,), CONTEXT)[0].seconds
    assert whole_s == pytest.approx(0.02237, rel=0.02)
    assert whole_s + clock.seconds(copies) == pytest.approx(0.1463, rel=0.01)
    assert (whole_s + clock.seconds(copies)) / whole_s == pytest.approx(6.5, rel=0.02)
    grouped = decoder(1, 2, copied=False)
    plain = PassTime(of, constants_of(grouped), layers / 2, "attention", decoder=True)
    expands = [node for node in grouped.graph.nodes if operator_of(node) == "aten.expand.default"]
    assert plain.seconds(expands) == 0, "the grouped form copies nothing"


def finding(name: str, takes_s: float, could_s: float = 0.0, beyond_s: float | None = None) -> SlowFinding:
    return SlowFinding(
        graph="g", name=name, title=name, takes_s=takes_s, could_s=could_s, low_s=(takes_s - could_s) / 2,
        high_s=(takes_s - could_s) * 2, remedy="r", source="s", beyond_s=takes_s if beyond_s is None else beyond_s,
    )  # fmt: skip


def test_a_pass_is_the_clock_and_what_is_slow_beyond_it() -> None:
    plain = GraphPlan(name="g", rows=1, nodes=1, slow=(finding("a", 0.03), finding("b", 0.02, 0.01, 0.0)))
    graph = timed(plain, 0.05)
    assert graph.pass_s == pytest.approx(0.05 + 0.03), "b is in the clock's time already"
    assert graph.could_s == pytest.approx(0.05 - 0.01)
    assert graph.factor == pytest.approx(0.08 / 0.04)
    assert (graph.pass_low_s, graph.pass_high_s) == pytest.approx((0.04 + 0.02, 0.04 + 0.08))
    assert [one.factor for one in graph.slow] == pytest.approx([0.08 / 0.05, 0.08 / 0.07])
    assert timed(replace(plain, slow=()), 0.05).factor == 1


def test_what_gains_less_than_a_hundredth_is_not_slow() -> None:
    graph = timed(GraphPlan(name="g", rows=1, nodes=1, slow=(finding("a", 0.0004),)), 0.05)
    assert graph.slow == ()
    assert graph.pass_s == graph.could_s == 0.05
    assert graph.fine == ("a: 0.40 ms, under 1 % of a pass",)


@pytest.mark.parametrize("copied_s", [0.0, 0.03])
def test_what_gains_little_beside_what_gains_much_is_named_once(copied_s: float) -> None:
    more = (finding("a", copied_s),) if copied_s else ()
    graph = timed(GraphPlan(name="g", rows=1, nodes=1, slow=(*more, finding("b", 0.0004)), fine=("c",)), 0.05)
    assert graph.fine == ("c", "b: 0.40 ms, under 1 % of a pass")
    assert timed(graph, 0.05).fine == graph.fine


class Loop(nn.Module):
    """A recurrence unrolled: four operators a step."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps, self.weight = steps, nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (steps, 16)."""
        state = x[0]
        for step in range(self.steps):
            state = torch.tanh(state * self.weight + torch.sigmoid(x[step]))
        return state


@pytest.mark.parametrize(("steps", "found"), [(20, False), (260, True)])
def test_thousands_of_tiny_operators_are_launches(steps: int, *, found: bool) -> None:
    of = site("sa8295p", "w8a8")
    program = exported(Subject("loop", Loop(steps), (torch.randn(steps, 16),)))
    clock = PassTime(of, constants_of(program))
    slow = launch_finding(program, clock, "whole")
    assert (slow is not None) is found
    if slow is not None:
        overhead = of.unit.operator_overhead
        assert overhead is not None
        assert slow.count == 4 * steps
        assert slow.takes_s == pytest.approx(4 * steps * overhead.si)
        assert slow.beyond_s == 0, "the clock of networks counts launches"


def test_a_cut_costs_its_crossings_and_the_penalty_of_its_work() -> None:
    of = site("sa8295p", "w8a8")
    program = exported(Subject("moves", Moves(), (torch.randn(2, 8, 16, 64),)))
    clock = PassTime(of, constants_of(program))
    (product,) = (node for node in program.graph.nodes if operator_of(node) == "aten.linear.default")
    islands = islands_of(program, {product.name})
    slow = cut_finding(islands, program.graph.nodes, clock, of.unit, [], "whole")
    fallback = of.unit.fallback
    assert slow is not None
    assert fallback is not None
    work_s = work_seconds(islands.away, of.unit, of.precision)
    assert slow.takes_s == pytest.approx(islands.crossings * fallback.crossing.si + work_s * fallback.penalty.si)
    assert slow.gain_s == pytest.approx(slow.takes_s - work_s)
    assert slow.low_s < slow.gain_s < slow.high_s
    assert cut_finding(islands_of(program, set()), program.graph.nodes, clock, of.unit, [], "whole") is None


@pytest.mark.parametrize(("gib", "parts"), [(1.9, 0), (2.1, 2), (5.0, 3)])
def test_parameters_beyond_the_limit_are_parts_with_a_call_each(gib: float, parts: int) -> None:
    """2,097,152 KB a graph on SA8295P, as pytorch/executorch's compiler prints (issue 17782: 2,309,576 are refused)."""
    of = site("sa8295p", "w8a8")
    assert of.unit.graph_limit is not None
    assert of.unit.graph_limit.si == 2_097_152 * 1024
    slow = parts_finding(gib * 2**30, PassTime(of, set()), "whole")
    assert (0 if slow is None else slow.count) == parts
    if slow is not None:
        assert slow.takes_s == pytest.approx((parts - 1) * si(of.unit.graph_overhead))


def test_a_scenario_that_says_its_heads_are_copied_gets_the_finding() -> None:
    setup = shipped(
        "eagle_8775", "target={model: qwen3-0.6b, chip: sa8797p, unit: npu, precision: w8a16, expanded_kv: true}",
        "draft=null", "policy={name: lookahead, window: 4, ngram: 5, guesses: 4}", f"context_tokens={CONTEXT}",
        "logits={source: synthetic, acceptance: {tokens_a_round: 2, drafted: 4}}",
        "workload={requests: 1, prompt_tokens: 64, output_tokens: 8, clause_tokens: 8}",
    )  # fmt: skip
    plain = Plan("t", "target", "u", "w8a16", "int16", "p", "p", "cpu", (GraphPlan(name="decode 1", rows=1, nodes=1),))
    (graph,) = with_pass_times(plain, setup.target, CONTEXT).graphs
    assert graph.pass_s == pytest.approx(0.1463, rel=0.01)
    assert graph.could_s == pytest.approx(0.02237, rel=0.02)
    (slow,) = graph.slow
    assert (slow.name, slow.remedy) == (REPEATED.name, REPEATED.remedy), "one text for a graph and a scenario"
    assert slow.title.startswith(REPEATED.title)
    as_simulated = timer_for(setup.target, CONTEXT).duration_ns(Step(Phase.DECODE, 1, 0))
    assert graph.pass_s == pytest.approx(as_simulated / 1e9, abs=2e-9), "the check says what the simulator takes"
