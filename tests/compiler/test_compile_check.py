"""The compile check: a sampling head and a siamese encoder, costs on paper, refusals with fallback options."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hilsim.commands.main import main, simulate_main
from hilsim.compiler import plan_cache as keeping
from hilsim.compiler.compile_check import compiled, load_compiled, plans_of, with_plans
from hilsim.compiler.deployed import HIDDEN_SCORE, StaticDecoder, stand_in_program, static_inputs
from hilsim.compiler.fallback_options import find_fallback_options
from hilsim.compiler.plan import Plan
from hilsim.compiler.planner import Prepared, plan_module
from hilsim.compiler.program import exported, subject_of
from hilsim.compiler.site import CompileSite
from hilsim.compiler.written import compared
from hilsim.cost.extra import extra_at, extra_seconds
from hilsim.cost.memory import ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import network_ns, timer_for
from hilsim.describe.catalogue import load_chip
from hilsim.describe.compiled import Extra, Work
from hilsim.describe.head import LogitsHead
from hilsim.describe.load import load_setup
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.describe.setup import Setup
from hilsim.errors import CompileError, InputError
from hilsim.networks.network import KVCache, load_network
from hilsim.places import CODE as PROJECT
from hilsim.sim.run import simulate
from tests.documents import document_of
from tests.scenes import synthetic
from tests.tiny import figure, precision, unit

pytestmark = pytest.mark.usefixtures("at_home")

ORIN = PROJECT / "scenarios/orin_8295_greedy.yaml"
THEN = "compile.profile=sa8295_2023"
SMALL = "networks[0].module=hilsim.networks.intent:matcher"  # quicker to export than the one of 22 million parameters
FEW = ["workload.count=1", "workload.max_turns=1", "workload.max_new_tokens=6"]
SYNTHETIC = [
    "logits={source: synthetic, acceptance: 1.0}",
    "workload={requests: 2, prompt_tokens: 10, output_tokens: 6}",
]


def plans(*overrides: str) -> tuple[Setup, dict[int, Plan]]:
    setup = load_setup(ORIN, overrides)
    return setup, plans_of(setup)


def place(profile: Profile | str, **allowed: Any) -> CompileSite:
    """The NPU of the SA8295P at 8 bits."""
    npu = load_chip("sa8295p", ORIN).units["npu"]
    known = load_profile(profile, ORIN) if isinstance(profile, str) else profile
    return CompileSite(npu, npu.precisions["w8a8"], known, Compile(**allowed))


def planned(factory: str, where: CompileSite) -> tuple[Plan, dict[str, Prepared]]:
    subject = subject_of(f"tests.compile_modules:{factory}")
    return plan_module(subject, where, lambda _: None, unit="sa8295p.npu", precision="w8a8")


def refused_by(plan: Plan) -> set[str]:
    errors = [found for graph in plan.graphs for found in graph.findings if found.severity == "error"]
    return {found.operator or f"{found.rule} {found.module}" for found in errors}


# The story.


def test_then_the_head_is_rewritten_and_the_encoder_split() -> None:
    _, found = plans(THEN)
    target, _, network = found.values()
    assert target.outcome == network.outcome == "rewritten"
    head = {"aten.topk.default", "aten.cumsum.default", "aten.gather.default"}
    assert refused_by(target) == head | {"aten.rms_norm.default"}
    assert refused_by(network) == {"shared-calls encoder", "aten.rms_norm.default"}
    assert {use.operator for use in target.graphs[0].chosen} == refused_by(target)
    assert "two_encoders" in {use.name for use in network.graphs[0].chosen}
    assert not any(graph.crossings for plan in found.values() for graph in plan.graphs)


def test_now_everything_compiles_as_it_is() -> None:
    _, found = plans()
    assert [plan.outcome for plan in found.values()] == ["as it is"] * 3
    assert not any(refused_by(plan) for plan in found.values())


def test_the_story_costs_time_and_memory() -> None:
    then, now = load_compiled(ORIN, [THEN]), load_compiled(ORIN)
    for rows, phase in ((1, Phase.DECODE), (6, Phase.VERIFY), (100, Phase.PREFILL)):
        step = Step(phase, rows, 0)
        assert timer_for(then.target, 1024).duration_ns(step) > timer_for(now.target, 1024).duration_ns(step)
    assert network_ns(then.networks[0]) > network_ns(now.networks[0]) > 0
    copies = [item for item in ledgers(then)["sa8295p"].items if "second copy" in item.what]
    parameters = [item for item in ledgers(then)["sa8295p"].items if item.what == "network intent: parameters"]
    assert copies[0].bytes == parameters[0].bytes  # counted twice, and no more
    assert not any("second copy" in item.what for item in ledgers(now)["sa8295p"].items)
    more = ledgers(then)["sa8295p"].used_bytes - ledgers(now)["sa8295p"].used_bytes
    rewrites = sum(
        nbytes for part in then.parts if part.compiled for what, nbytes in part.compiled.items if "rewr" in what
    )
    assert more == copies[0].bytes + rewrites


def test_a_run_tells_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [f"--set={one}" for one in (THEN, *FEW)]
    assert simulate_main([str(ORIN), "--json", *sets]) == 0
    document = json.loads(capsys.readouterr().out)
    target, draft, network = document["compile"]
    assert (target["profile"], target["outcome"]) == ("sa8295_2023", "rewritten")
    assert draft["profile"] == "orin_trt_10"
    assert "shared-calls encoder" in network["refused_operators"]
    copied = next(item["bytes"] for item in network["memory"] if "second copy" in item["what"])
    assert copied <= network["rewrite_bytes"] < 1.01 * copied
    assert all(graph["costs_ms"] > 0 for graph in target["graphs"])
    claims = [line for line in document["assumptions"] if line["kind"] == "reported"]
    assert {line["figure"] for line in claims} == {"sa8295_2023.aten.topk.default", "sa8295_2023.shared-calls"}
    assert simulate_main([str(ORIN), "--plain", *sets]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "refused: aten.rms_norm.default, aten.topk.default" in told
    assert "two_encoders for module encoder" in told


def test_the_network_takes_its_unit_before_the_target_reads() -> None:
    setup = compiled(load_setup(ORIN, SYNTHETIC))
    trace = simulate(setup, synthetic(setup))
    mine = [span for span in trace.spans if span.kind == "network"]
    assert [span.request for span in mine] == [0, 1]
    assert {span.end_ns - span.start_ns for span in mine} == {network_ns(setup.networks[0])}
    for span in mine:
        reading = next(one for one in trace.spans if one.kind == "prefill" and one.request == span.request)
        assert (reading.track, reading.start_ns) == (span.track, span.end_ns)


# Prices on paper.


def test_what_an_extra_costs() -> None:
    """2 launches of 3 s; 50 numbers of 16 bits at 100 B/s take 1 s, 4e6 operations at 1e6/s four: 6 + 4."""
    plain = unit(operator_overhead=figure(3, "s"))
    assert extra_seconds(Extra(Work(2, 50, 4_000_000)), plain, precision()) == pytest.approx(10)
    assert extra_seconds(Extra(Work(2, 500, 4_000_000)), plain, precision()) == pytest.approx(16)
    with pytest.raises(ValueError, match="fallback"):
        extra_seconds(Extra(Work(), Work(1, 1, 1), 1), plain, precision())


def test_what_leaving_the_unit_costs() -> None:
    """Work of 10 s here takes 4 times as long elsewhere, and two ways there and back half a second each."""
    away = unit(
        operator_overhead=figure(3, "s"),
        fallback={"penalty": figure(4, "times"), "crossing": figure(0.5, "s")},
    )
    assert extra_seconds(Extra(Work(), Work(2, 50, 4_000_000), 2), away, precision()) == pytest.approx(41)


def test_extras_between_and_beyond_the_graphs_that_were_checked() -> None:
    plain = unit(operator_overhead=figure(1, "s"))
    extras = ((1, Extra(Work(2))), (11, Extra(Work(12))))
    assert [extra_at(extras, rows, plain, precision()) for rows in (1, 6, 11, 22)] == pytest.approx([2, 7, 12, 12])
    moved = ((11, Extra(Work(2, 550))),)  # 2 s, and 11 s for 1,100 bytes: twice the rows, twice the bytes
    assert extra_at(moved, 22, plain, precision()) == pytest.approx(24)
    assert extra_at((), 5, plain, precision()) == 0


def test_a_step_grows_by_exactly_its_extra() -> None:
    setup, found = plans(THEN)
    before, after = timer_for(setup.target, 1024), timer_for(with_plans(setup, found).target, 1024)
    for graph in found[0].graphs:
        step = Step(Phase.VERIFY, graph.rows, 0)
        more = after.duration_ns(step) - before.duration_ns(step)
        assert more == pytest.approx(graph.extra_s * 1e9, abs=2)


def test_layers_that_stand_for_others_are_counted_for_all_of_them() -> None:
    """5 RMS norms in a meta model of 2 layers represent 2 x 28 + 1."""
    _, found = plans(THEN)
    norms = next(use for use in found[0].graphs[0].chosen if use.operator == "aten.rms_norm.default")
    assert norms.nodes == 5
    each = norms.work.launches / 57
    assert each == int(each)


# What the user allows.


def test_a_rule_that_needs_distributions_gets_logits() -> None:
    warm = "sampling={temperature: 0.7, top_k: 20}"
    for rule, head in (("ratio", "logits"), ("gumbel", "logits"), ("sample_match", "top_k_sampling")):
        payload = "payload=full_rows" if rule == "ratio" else "payload=token_ids"
        setup, found = plans(f"accept={rule}", warm, payload, "networks=[]", "target.widths=[8]")
        assert setup.target.head.name == head
        assert any("ends in logits" in note for note in found[0].notes) == (head == "logits")
    more = ("accept=sample_match", "sampling={temperature: 0.7}")  # from more than the head's 40 tokens
    setup, _ = plans(*more, "networks=[]", "target.widths=[8]")
    assert setup.target.head.name == "logits"


def test_rewrites_can_be_avoided_and_chosen() -> None:
    names = []
    alone = ["networks=[]", "target.widths=[8]"]
    for allowed in ("compile.avoid=[topk_by_chunks]", "compile.rewrites=[topk_by_rounds, rms_norm_by_parts]"):
        _, found = plans(THEN, allowed, *alone)
        names.append({use.name for use in found[0].graphs[0].chosen})
    assert "topk_by_rounds" in names[0]
    assert "cumsum_by_matmul" in names[0]
    assert names[1] == {"topk_by_rounds", "rms_norm_by_parts"}


def test_quick_and_exact_rewrites_come_first() -> None:
    _, found = plans(THEN)
    uses = [use for plan in found.values() for graph in plan.graphs for use in graph.chosen]
    rank = ("bits", "values", "rounding").index
    for use in uses:
        for option in use.others:
            assert rank(use.exactness) <= rank(option.exactness)
            assert use.seconds <= option.seconds or rank(use.exactness) < rank(option.exactness)
    split = next(use for use in uses if use.name == "two_encoders")
    assert "one_call" in {option.name for option in split.others}  # quicker and smaller, but it rounds otherwise


def test_without_rewrites_operators_leave_the_unit() -> None:
    _, found = plans(THEN, "compile.rewrites=none", "networks=[]")
    target = found[0]
    assert target.outcome == "in pieces"
    assert all(graph.crossings > 0 and graph.pieces > 1 for graph in target.graphs)
    assert set(target.graphs[0].away_operators) == refused_by(target)
    _, rewritten = plans(THEN, "networks=[]")
    assert target.graphs[0].extra_s > rewritten[0].graphs[0].extra_s


@pytest.mark.slow
def test_a_refusal_names_everything_and_a_fallback_option(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [THEN, SMALL, "compile.rewrites=none", "compile.fallback=forbid"]
    assert simulate_main([str(ORIN), *[f"--set={one}" for one in sets]]) == 2
    message = capsys.readouterr().err
    for part in ("aten.topk.default", "sampler", "heads.py:", "aten.cumsum.default", "encoder", "forbids fallback"):
        assert part in message
    assert "--set compile.rewrites=auto" in message
    assert "Traceback" not in message


def test_every_fallback_option_makes_it_compile() -> None:
    sets = [THEN, SMALL, "compile.fallback=forbid", "compile.rewrites=[two_encoders, rms_norm_by_parts]"]
    sets.append("target.widths=[8]")
    setup, found = plans(*sets)
    with pytest.raises(CompileError):
        compiled(setup)
    ways = find_fallback_options(setup, sets, found)
    assert any("target.head=logits" in way.changes for way in ways)
    assert [way.step_ms for way in ways] == sorted(way.step_ms for way in ways)
    for way in ways:
        load_compiled(ORIN, [*sets, *way.changes])


def test_a_context_that_shares_weights_needs_no_second_copy() -> None:
    known = load_profile("sa8295_2023", ORIN)
    sharing = known.model_copy(update={"shared_context": known.shared_context.model_copy(update={"value": True})})
    split, _ = planned("siamese", place(known))
    shared, _ = planned("siamese", place(sharing))
    assert [use.name for use in split.graphs[0].chosen] == ["two_encoders"]
    assert dict(split.items)["second copy of shared parameters"] == 12
    assert [use.name for use in shared.graphs[0].chosen] == ["two_graphs"]
    assert dict(shared.items)["parameters"] == dict(split.items)["parameters"] == 12
    assert "second copy of shared parameters" not in dict(shared.items)
    assert shared.load is not None
    assert split.load is not None
    assert shared.load.params_b == split.load.params_b == 24e-9  # read at each of two uses, however they are held
    batched, prepared = planned("siamese", place(known, avoid=("two_encoders",)))
    assert [use.name for use in batched.graphs[0].chosen] == ["one_call"]
    module, inputs = prepared["whole"].subject.module, prepared["whole"].subject.inputs
    assert torch.allclose(prepared["whole"].program.module()(*inputs), module(*inputs))


# Graphs.


def test_a_deployed_graph_computes_what_the_network_computes() -> None:
    """Eight tokens through one graph, then one more through another on the cache that the first gave out."""
    network = load_network(PROJECT / "models/draft-0.8m")
    tokens = torch.randint(network.config.vocab_size, (9,), generator=torch.Generator().manual_seed(1))
    decoder, head, context = StaticDecoder(network, None), LogitsHead(), 32
    expected = network(tokens[None], KVCache(network.config, context))[0]
    _, positions, mask, keys, values = static_inputs(network.config, 8, context, None)
    logits, new_keys, new_values = decoder(tokens[:8], positions, mask, keys, values)
    assert torch.allclose(logits, expected[:8], atol=1e-4)
    empty = torch.zeros(*new_keys.shape[:2], context - 9, new_keys.shape[3])
    mask = torch.cat((torch.full((1, context - 9), HIDDEN_SCORE), torch.zeros(1, 9)), 1)
    cached = [torch.cat((empty, new), 2) for new in (new_keys, new_values)]
    last, *_ = decoder(tokens[8:], torch.tensor([8]), mask, *cached)
    assert torch.allclose(last, expected[8:], atol=1e-4)
    # Seeing the future is a different answer, so the mask is really looked at.
    seen, *_ = decoder(
        tokens[:8], positions, torch.zeros_like(static_inputs(network.config, 8, context, None)[2]), keys, values
    )
    assert not torch.allclose(seen, expected[:8], atol=1e-1)
    assert stand_in_program("x", network, 8, context, head).inputs[0].shape == (8,)


def test_fixed_widths_where_padding_does_not_show() -> None:
    plan, prepared = planned("causal", place("sa8295_today"))
    assert plan.outcome == "rewritten"
    assert [use.name for use in plan.graphs[0].chosen] == ["fixed_widths"]
    assert list(prepared) == ["width 8", "width 32", "width 64"]
    assert dict(plan.items)["parameters x 3 graphs"] == 3 * (50 * 16 + 16 * 16 + 16)
    plan, _ = planned("mean", place("sa8295_today"))
    assert plan.outcome == "refused"
    assert "padding" in plan.refusals[0]
    plan, prepared = planned("causal", place("orin_trt_10"))
    assert list(prepared) == ["whole"]


def test_integers_are_narrowed_where_that_is_asked_for() -> None:
    sets = [THEN, "networks=[]", "target.widths=[8]"]
    names = "int64_to_int32, rms_norm_by_parts, topk_by_chunks, cumsum_by_matmul, gather_by_mask"
    everything = f"compile.rewrites=[{names}]"
    _, found = plans(*sets, everything)
    assert "int64_to_int32" in [use.name for use in found[0].graphs[0].chosen]
    assert found[0].outcome == "rewritten"
    _, found = plans(*sets)
    assert "int64_to_int32" not in [use.name for use in found[0].graphs[0].chosen]


def test_an_island_between_two_pieces() -> None:
    plan, _ = planned("draws", place("sa8295_today"))
    graph = plan.graphs[0]
    assert (plan.outcome, graph.pieces, graph.crossings) == ("in pieces", 2, 1)
    assert graph.away_operators == ("aten.multinomial.default",)
    crossing = place("sa8295_today").unit.fallback
    assert crossing is not None
    assert graph.extra_s > crossing.crossing.si
    plan, _ = planned("draws", place("sa8295_today", fallback="forbid"))
    assert plan.outcome == "refused"


@pytest.mark.parametrize(("factory", "profile"), [("two_cuts", "orin_dla"), ("two_sums", "sa8295_2023")])
def test_nodes_that_look_alike_are_not_rewritten_alike(factory: str, profile: str) -> None:
    """The same operator and shapes, but another constant, or another order of operands."""
    _, prepared = planned(factory, place(profile))
    part = prepared["whole"]
    given = [[torch.randn_like(x) if x.is_floating_point() else x for x in part.subject.inputs] for _ in range(20)]
    assert compared(exported(part.subject), part.program, lambda seed: tuple(given[seed]), cases=20).good


def test_layers_multiply_what_leaves_in_them_and_nothing_else() -> None:
    """Per layer two norms leave, beside them the last norm and three operators of the head in one run: 2 x 28 + 2."""
    avoid = "compile.avoid=[rms_norm_by_parts, topk_by_chunks, topk_by_rounds]"
    _, found = plans(THEN, avoid, "networks=[]", "target.widths=[1]")
    graph = found[0].graphs[0]
    assert set(graph.away_operators) == {"aten.rms_norm.default", "aten.topk.default"}
    assert graph.crossings == 2 * 28 + 2
    assert graph.extra.away.launches == 2 * 28 + 2


def test_a_network_without_known_rules_is_measured_all_the_same() -> None:
    for unit_name in ("cpu", "gpu"):
        setup = load_compiled(ORIN, [f"networks[0].unit={unit_name}", SMALL])
        assert network_ns(setup.networks[0]) > 100_000
        assert any(item.what == "network intent: parameters" for item in ledgers(setup)["sa8295p"].items)


def test_tied_parameters_count_once_and_tables_are_no_activations() -> None:
    plan, _ = planned("tied", place("sa8295_today"))
    assert plan.load is not None
    assert plan.load.params_b * 1e9 == 40
    assert dict(plan.items)["parameters"] == 40
    assert dict(plan.items)["activations"] <= 3 * (4 + 10)


def test_a_program_that_disagrees_is_not_written() -> None:
    subject = subject_of("tests.compile_modules:siamese")
    other = copy.deepcopy(subject.module)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    right, wrong = exported(subject), exported(replace(subject, module=other))
    assert compared(right, exported(subject), lambda seed: subject.inputs).good
    with pytest.raises(CompileError, match="disagrees"):
        compared(right, wrong, lambda seed: subject.inputs)


# Plans are kept.


def test_plans_are_read_again_and_damaged_ones_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(keeping, "KNOWN", {})
    plan, _ = planned("siamese", place("sa8295_2023"))
    made: list[int] = []

    def make() -> Plan:
        made.append(1)
        return plan

    assert keeping.cached(("a",), make) == plan
    keeping.KNOWN.clear()
    read = keeping.cached(("a",), make)
    assert read == plan  # through JSON and back
    assert repr(read.compiled()) == repr(plan.compiled()), "which the digest of a run is of"
    assert len(made) == 1
    keeping.KNOWN.clear()
    (file,) = (tmp_path / "plans").iterdir()
    file.write_text('{"graphs": [1]}')
    assert keeping.cached(("a",), make) == plan
    assert keeping.cached(("b",), make) == plan  # another question
    assert len(made) == 3
    keeping.KNOWN.clear()
    monkeypatch.setenv("HILSIM_CACHE", "/dev/null/nowhere")
    assert keeping.cached(("a",), make) == plan


# The command.


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["check", *arguments])
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return status, found.out, found.err


def test_check_prints_plan_and_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = checked(capsys, str(ORIN), "--profile", "sa8295_2023")
    told = " ".join(out.split())
    assert status == 0
    for part in ("target llama-3.2-3b on sa8295p.npu", "topk_by_chunks", "alternative: topk_by_rounds", "[reported]"):
        assert part in told
    assert "network intent: second copy of shared parameters" in told


def test_check_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = checked(capsys, str(ORIN), "--profile", "sa8295_2023", "--json")
    document = json.loads(out)
    assert (status, document["compiles"], document["fits"]) == (0, True, True)
    finding = next(
        one for one in document["plans"][0]["graphs"][0]["findings"] if one["operator"] == "aten.topk.default"
    )
    assert {"node", "module", "call", "line", "rule", "profile", "reason", "source", "evidence", "remedy"} <= set(
        finding
    )
    assert finding["module"] == "sampler"
    assert finding["line"].startswith("hilsim/networks/heads.py:")
    sets = [f"--set={SMALL}", "--set=compile.rewrites=none", "--set=compile.fallback=forbid"]
    status, out, err = checked(capsys, str(ORIN), "--profile", "sa8295_2023", "--json", *sets)
    assert status == 2
    assert document_of("check --json", out)["ways_out"][0]["set"] in err


def test_check_a_file_and_a_profile_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A module by its file, from anywhere; rules by their file, for the units they suit, in a scenario too."""
    (tmp_path / "mine.py").write_text("from tests.compile_modules import siamese as build\n")
    rules = (PROJECT / "chips/profiles/sa8295_today.yaml").read_text().replace("name: sa8295_today", "name: mine")
    (tmp_path / "mine.yaml").write_text(rules.replace("shared_calls: {value: true", "shared_calls: {value: false"))
    own = ["--profile", str(tmp_path / "mine.yaml")]
    status, out, _ = checked(capsys, "--module", f"{tmp_path / 'mine.py'}:build", "--chip", "sa8295p", *own)
    assert status == 0
    assert "two_encoders" in out
    status, out, _ = checked(capsys, str(ORIN), "--set", SMALL, *own)
    assert status == 0
    assert "network intent on sa8295p.npu, w8a8, int8 activations: rewritten" in " ".join(out.split())
    assert "orin_trt_10" in out  # the draft's unit keeps its own
    for chip, profile in (("sa8295p", "orin_trt_10"), ("sa8295p", "hexagon_v73"), ("drive-orin-x", "sa8295_today")):
        status, _, message = checked(
            capsys, "--module", "tests.compile_modules:siamese", "--chip", chip, "--profile", profile
        )
        assert status == 2
        assert chip in message


def test_check_a_module_and_write_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    spec = ["--module", "tests.compile_modules:siamese", "--chip", "sa8295p", "--profile", "sa8295_2023"]
    status, out, _ = checked(capsys, *spec, "--write", str(tmp_path / "out"))
    assert status == 0
    assert "two_encoders" in out
    program = torch.export.load(tmp_path / "out/module.pt2")
    assert sum(p.numel() for p in program.state_dict.values()) == 24  # 12 parameters, twice
    assert json.loads((tmp_path / "out/module-plan.json").read_text())["outcome"] == "rewritten"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["neither a scenario nor --module"]),
        (["--module", "tests.compile_modules:siamese"], ["--chip"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "sa8925p"], ["sa8295p"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "sa8295p", "--unit", "tpu"], ["--unit", "npu"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "sa8295p", "--precision", "w3"], ["w8a8"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "sa8295p", "--profile", "x"], ["sa8295_2023"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "sa8295p", "--set=seed=1"], ["seed", "compile"]),
        (["--module", "tests.compile_modules:siamese", "--chip", "paper-target"], ["profiles"]),
        (["--module", "tests.compile_modules:branches", "--chip", "sa8295p"], ["compile_modules.py:", "torch.where"]),
        (["--module", "tests.compile_modules:raises", "--chip", "sa8295p"], ["compile_modules.py:", "no weights here"]),
        (["--module", "tests.compile_modules:rubbish", "--chip", "sa8295p"], ["str", "(module, inputs)"]),
        (["--module", "tests.compile_modules:absent", "--chip", "sa8295p"], ["absent"]),
        (["--module", "no_such_package:x", "--chip", "sa8295p"], ["no_such_package"]),
        (["--module", "nonsense", "--chip", "sa8295p"], ["PACKAGE.MODULE:FACTORY"]),
        ([str(ORIN), "--module", "a:b"], ["a scenario and --module", "one of them"]),
        ([str(ORIN), "--chip", "sa8295p"], ["--chip"]),
        ([str(ORIN), "--profile", "orin_dla"], ["compile.profile", "sa8295_2023"]),
        ([str(ORIN), "--profile", "sa8295_2032"], ["compile.profile", "Did you mean 'sa8295_2023'"]),
        ([str(ORIN), "--set", "compile.rewrites=[topk]"], ["compile.rewrites", "topk_by_rounds"]),
        ([str(ORIN), "--set", "compile.avoid=[topk]"], ["compile.avoid", "topk_by_rounds"]),
        ([str(ORIN), "--set", "compile.fallback=maybe"], ["compile.fallback", "forbid"]),
        ([str(ORIN), "--set", "networks.0.chip=sa8255p"], ["networks[0].chip", "a chip in use"]),
        ([str(ORIN), "--set", "networks.0.unit=tpu"], ["networks[0].unit", "npu"]),
        ([str(ORIN), "--set", "networks.0.precision=w3"], ["networks[0].precision", "w8a8"]),
        ([str(ORIN), "--set", "networks.0.module=nonsense"], ["networks[0].module", "PACKAGE.MODULE:FACTORY"]),
        ([str(ORIN), "--set", "networks.0.module=tests.compile_modules:raises"], ["no weights here"]),
        ([str(ORIN), "--set", "target.head.k=200000"], ["target.head", "128256"]),
        ([str(ORIN), "--set", "target.head=top"], ["target.head", "argmax"]),
        ([str(ORIN), "--write", "/dev/null/x"], ["--write"]),
    ],
)  # fmt: skip
def test_bad_input_is_reported(capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]) -> None:
    status, _, message = checked(capsys, *arguments)
    assert status == 2, message
    for part in parts:
        assert part in message


def test_faults_of_all_parts_come_together() -> None:
    setup = load_setup(ORIN, ["networks.0.module=tests.compile_modules:raises", "target.stand_in=models"])
    with pytest.raises(InputError) as error:
        plans_of(setup)
    assert len(error.value.faults) == 2


@pytest.mark.parametrize("file", sorted((PROJECT / "scenarios").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_first_run_of_a_shipped_scenario_compiles_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this fails, the compiler, the networks or the operator tables have changed: say `make plans`."""

    def refuse(place: Path, plan: Plan) -> None:
        raise AssertionError(f"{plan.subject} of {file.name} is not in scenarios/plans")

    monkeypatch.setenv("HILSIM_CACHE", str(tmp_path))
    monkeypatch.setattr(keeping, "KNOWN", {})
    monkeypatch.setattr(keeping, "store", refuse)
    plans_of(load_setup(file))
