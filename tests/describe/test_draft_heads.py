"""Draft heads as a scenario describes them: shapes by hand, defaults, guarantees, and every fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hilsim.commands.main import simulate_main
from hilsim.cost.counts import active_weights, body_weights, head_weights, kv_numbers_per_token
from hilsim.describe.config_json import HEAD_TYPE
from hilsim.describe.decoding import FullRows, Lenient, RatioTest, Sampling, guarantee_of
from hilsim.describe.drafting import HEAD_KINDS, HeadKind, head_model, held_beside, states_read
from hilsim.describe.layers import LayerKind
from hilsim.describe.load import load_setup
from hilsim.errors import InputError, Misfit
from tests.scenes import shipped
from tests.tiny import model

# A plain layer of the tiny target has 576 weights and caches 8 numbers a token; h is 8, a head of its ten words 80.
LAYER, SQUARE, HEAD = 576, 64, 80
BASE = """
name: head
seed: 1
target: {model: llama-3.2-3b, chip: agx-orin-64gb, unit: gpu, precision: w4}
draft: {head_kind: eagle}
context_tokens: 1024
policy: {name: sync, draft_tokens: 4}
payload: token_ids
logits: {source: synthetic, acceptance: 0.7}
workload: {requests: 1, prompt_tokens: 20, output_tokens: 20}
"""


def stand_ins(folder: Path, kind: str, positions: int | None = None) -> tuple[str, str]:
    """The shipped target, and a head's folder with what is read of it before it is loaded."""
    config = {"model_type": HEAD_TYPE, "head_kind": kind, "positions": positions}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return "target.stand_in=models/target", f"draft.stand_in={folder}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "head.yaml"
    path.write_text(BASE, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "layers", "positions", "body", "heads", "cached"),
    [
        ("eagle", None, 1, LAYER + 2 * SQUARE, 1, 8),
        ("eagle", 3, 1, 3 * LAYER + 2 * SQUARE, 1, 24),
        ("eagle3", None, 1, LAYER, 1, 8),
        ("mtp", None, 1, LAYER + 2 * SQUARE, 1, 8),
        ("medusa", None, 4, 4 * SQUARE, 4, 0),
        ("medusa", 2, 4, 8 * SQUARE, 4, 0),
        ("block", None, 1, 5 * LAYER + 5 * SQUARE, 1, 40),
        ("block", 2, 1, 2 * LAYER + 2 * SQUARE, 1, 16),
    ],
)
def test_the_shape_of_a_head_by_hand(
    kind: HeadKind, layers: int | None, positions: int, body: int, heads: int, cached: int
) -> None:
    found = head_model(model(), kind, layers, positions=positions)
    assert body_weights(found.architecture) == active_weights(found.architecture) == body
    assert head_weights(found) == heads * HEAD
    assert kv_numbers_per_token(found.architecture) == cached
    assert head_weights(head_model(model(), kind, layers, 5, positions)) == heads * HEAD / 2
    assert found.vocabulary == model().vocabulary


def test_what_eagle3_holds_beside_its_layer() -> None:
    """Three states of 8 fused into one, and queries (8), keys and values (4 each) of a second input of 8."""
    assert held_beside("eagle3", model().architecture) == 3 * SQUARE + 8 * (8 + 4 + 4)
    assert {held_beside(kind, model().architecture) for kind in HEAD_KINDS if kind != "eagle3"} == {0}
    assert [states_read(kind, 5) for kind in HEAD_KINDS] == [1, 3, 1, 1, 5]


def test_heads_of_different_shapes_have_different_names() -> None:
    shapes = [(None, None, 1), (2, None, 1), (None, 5, 1), (None, None, 3), (2, 5, 3)]
    names = {head_model(model(), kind, *shape).name for kind in HEAD_KINDS for shape in shapes}
    assert len(names) == len(HEAD_KINDS) * len(shapes) - (len(HEAD_KINDS) - 1)  # positions shape medusa alone


def test_a_layer_that_does_not_attend_has_neither_queries_nor_keys() -> None:
    with pytest.raises(Misfit, match="heads 0 with kv_heads None"):
        LayerKind._attends_or_recurs(LayerKind.model_construct(heads=0))


def test_a_head_lies_where_its_target_does(file: Path) -> None:
    setup = load_setup(file)
    assert setup.draft is not None
    assert setup.draft.track == setup.target.track
    assert (setup.draft.precision, setup.link, setup.draft.with_target) == ("w4", None, True)
    moved = load_setup(file, ["target.chip=sa8775p", "target.unit=npu", "target.precision=w4a16"])
    assert moved.draft is not None
    assert str(moved.draft) == "llama-3.2-3b-eagle on sa8775p.npu, w4a16"
    quick = load_setup(file, ["draft.precision=fp16"])
    assert quick.draft is not None
    assert quick.draft.precision == "fp16"
    own = load_setup(file, ["draft.unit=cpu"])
    assert own.draft is not None
    assert not own.draft.with_target


def test_the_runtime_is_the_targets_on_its_unit_alone(file: Path) -> None:
    setup = load_setup(file, ["target.runtime=llama-cpp"])
    assert setup.draft is not None
    assert setup.draft.placement.runtime == "llama-cpp"
    beside = load_setup(file, ["target.runtime=llama-cpp", "draft.unit=cpu"])
    assert beside.draft is not None
    assert beside.draft.placement.runtime is None


FAULTS = {
    "a model as well": (["draft.model=draft-68m-llama3"], "head_kind eagle with model draft-68m-llama3"),
    "a model with a head's keys": (
        ["draft={model: draft-68m-llama3, chip: agx-orin-64gb, unit: gpu, precision: w4, positions: 3}"],
        "draft: found positions of a draft model; expected head_kind in place of model",
    ),
    "a head's keys alone": (["draft={head_entries: 32000}"], "found nothing; expected the key 'head_kind'"),
    "no kind": (["draft.head_kind=null"], "found nothing; expected the key 'model'"),
    "an unknown kind": (["draft.head_kind=hydra"], "draft.head_kind: found 'hydra'; expected one of 'eagle'"),
    "an unknown key": (["draft.drafts=3"], "draft.drafts: found an unknown key"),
    "more entries than words": (["draft.head_entries=128257"], "expected at most 128256, the entries of llama-3.2-3b"),
    "no entries": (["draft.head_entries=1"], "draft.head_entries: found 1; expected at least 2"),
    "positions of a pass a token": (["draft.positions=4"], "positions 4 with eagle; expected no positions"),
    "medusa of no size": (["draft.head_kind=medusa"], "medusa without positions"),
    "a block of no size": (["draft.head_kind=block"], "block without positions"),
    "more drafts than positions": (
        ["draft.head_kind=medusa", "draft.positions=3"],
        "policy sync with up to 4 drafted tokens, and medusa of 3 positions; expected at most 3",
    ),
    "more drafts than positions at times": (
        ["draft.head_kind=block", "draft.positions=15", "policy={name: adaptive, rule: schedule}"],
        "policy adaptive with up to 20 drafted tokens, and block of 15 positions",
    ),
    **{
        f"{name} ahead of the verdict": (
            [f"policy={policy}"],
            f"policy {name} with a draft head, which reads the target's hidden states: it cannot draft ahead",
        )
        for name, policy in {
            "pearl": "{name: pearl, draft_tokens: 4}", "async": "{name: async}",
            "pipelined": "{name: pipelined, draft_tokens: 4}",
        }.items()
    },
    "lookup": (
        ["policy={name: prompt_lookup, draft_tokens: 4}"],
        "policy prompt_lookup with a draft head, which it never asks",
    ),
    "verified at the draft": (
        ["verify_at=draft", "accept=ratio", "payload=full_rows", "sampling={temperature: 1}"],
        "verify_at draft with a draft head",
    ),
    "a transcript": (["logits={source: transcript, file: x.npz}"], "a transcript with a draft head, whose drafts"),
    "another chip without a link": (["draft.chip=drive-orin-x"], "a draft but no link"),
    "a link between chips on one": (["link=pcie-gen3-x4"], "pcie-gen3-x4, with both models on the same chip"),
    "a unit that is not there": (
        ["draft.chip=sa8295p", "link=pcie-gen3-x4", "target.unit=gpu", "draft.unit=dla"], "draft.unit: found 'dla'",
    ),
    "a board": (
        ["units={gpu: {backend: 'tcp://127.0.0.1:1', words: stand_in}}"], "with a draft head there; expected simulated",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_of_a_head_has_a_clear_message(
    file: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], expected: str
) -> None:
    arguments = [word for override in overrides for word in ("--set", override)]
    assert simulate_main([str(file), *arguments]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Traceback" not in streams.err
    assert expected in streams.err, streams.err


def test_a_fault_of_the_target_brings_none_of_the_heads_place(file: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_setup(file, ["target.precision=null", "draft.positions=3"])
    places = [fault.place.partition(" ")[0] for fault in caught.value.faults]
    assert places == ["target.precision", "draft"]


def test_without_a_link_two_models_lie_on_one_chip(file: Path) -> None:
    on = "chip: AGX-Orin 64GB, unit: gpu, precision: w4"
    setup = load_setup(file, [f"draft={{model: draft-68m-llama3, {on}}}"])
    assert setup.link is None
    assert setup.draft is not None
    assert not setup.draft.with_target  # two models are two runtimes


@pytest.mark.parametrize(
    ("rules", "level"),
    [
        (("accept=greedy",), "text"),
        (("accept=gumbel", "sampling={temperature: 1}"), "text"),
        (("accept=sample_match", "sampling={temperature: 1}"), "text"),
        (("accept=ratio", "payload=full_rows", "sampling={temperature: 1}"), "law"),
        (("accept=block", "payload=full_rows", "sampling={temperature: 1}"), "law"),
        (("accept={rule: lenient, lenience: 1}", "payload=full_rows", "sampling={temperature: 1}"), "law"),
        (("accept={rule: lenient, lenience: 0.5}", "payload=full_rows", "sampling={temperature: 1}"), "none"),
        (("accept=typical", "sampling={temperature: 1}"), "none"),
    ],
)
def test_what_a_head_proposes_depends_on_where_rounds_end(tmp_path: Path, rules: tuple[str, ...], level: str) -> None:
    live = (
        "logits={source: live}",
        "workload={conversations: conversations/shift.jsonl, max_new_tokens: 8, pause_ms: 1}",
    )
    setup = shipped("eagle_8775", *live, *stand_ins(tmp_path, "eagle"), *rules)
    assert setup.guarantee.level == level
    scenario = setup.scenario
    without = guarantee_of(scenario.accept, scenario.payload, scenario.sampling, "target").level
    assert without == ("text" if scenario.accept.rule in ("ratio", "lenient") and level == "law" else level)


LIVE = (
    "logits={source: live}", "target.stand_in=models/target",
    "workload={conversations: conversations/shift.jsonl, max_new_tokens: 8, pause_ms: 1}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("draft", "found"),
    [
        ("{head_kind: mtp}", "a head of kind eagle"),
        ("{model: draft-68m-llama3, chip: sa8775p, unit: npu, precision: w4a16}", "a draft head behind a draft model"),
    ],
)
def test_a_stand_in_of_another_kind_is_refused(tmp_path: Path, draft: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        shipped("eagle_8775", *LIVE, f"draft={draft}", *stand_ins(tmp_path, "eagle"))
    (fault,) = caught.value.faults
    assert fault.place == "draft.stand_in"
    assert found in fault.found


def test_a_whole_model_is_no_stand_in_of_a_head() -> None:
    with pytest.raises(InputError, match=r"models/draft-0\.8m, a whole model; expected a draft head of kind eagle"):
        shipped("eagle_8775", *LIVE, "draft={head_kind: eagle, stand_in: models/draft-0.8m}")


def test_more_positions_than_the_stand_in_has_are_refused(tmp_path: Path) -> None:
    draft = "draft={head_kind: medusa, positions: 5}"
    assert shipped("eagle_8775", *LIVE, draft, *stand_ins(tmp_path, "medusa", 5)).draft is not None
    with pytest.raises(InputError, match=r"draft\.positions: found 5; expected at most 4"):
        shipped("eagle_8775", *LIVE, draft, *stand_ins(tmp_path, "medusa", 4))


def test_the_synthetic_source_never_applies_the_rule(file: Path) -> None:
    rules = ["accept=ratio", "payload=full_rows", "sampling={temperature: 1}"]
    assert load_setup(file, rules).guarantee.level == "text"
    warm, rows = Sampling(temperature=1.0), FullRows()
    assert "rounds end" in guarantee_of(RatioTest(), rows, warm, "target", head=True).why
    assert guarantee_of(Lenient(rule="lenient", lenience=0.5), rows, warm, "target", head=True).level == "none"
