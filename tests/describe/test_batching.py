"""How many sessions a unit computes in one step: from the scenario, its runtime, or the runtimes described for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.describe.catalogue import described
from hilsim.describe.runtime import Runtime
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.show.company_notes import batch_notes
from tests.scenes import shipped, table_setup

ORIN = ("target.chip=drive-orin-x", "target.unit=gpu", "target.precision=w4", "target.head=logits",
        "draft=null", "link=null", "policy={name: target_only}", "networks=[]")  # fmt: skip


def orin(*overrides: str) -> Setup:
    """A target on a GPU."""
    return shipped("orin_8295_greedy", *ORIN, *overrides)


@pytest.mark.parametrize("runtime", ["vllm", "tensorrt-llm", "tensorrt-edge-llm", "llama-cpp", "mlc"])
def test_a_gpu_batches_as_its_runtime_does(runtime: str) -> None:
    (named,) = (one for one in described("runtime", Runtime) if one.name == runtime)
    assert named.batching is not None
    assert orin(f"target.runtime={runtime}").target.batch == named.batching.value


def test_without_a_runtime_a_gpu_batches_as_the_least_of_those_described_for_it() -> None:
    batches = [one.batching.value for one in described("runtime", Runtime) if "gpu" in one.units and one.batching]
    assert orin().target.batch == min(batches) > 1


def test_an_npu_and_typed_in_times_take_turns_unless_asked(tmp_path: Path) -> None:
    assert shipped("orin_8295_greedy").target.batch == 1
    assert shipped("orin_8295_greedy", "target.runtime=genie").target.batch == 1
    assert shipped("orin_8295_greedy", "target.runtime=genie", "target.batch=3").target.batch == 3
    assert table_setup(tmp_path).target.batch == 1


def test_a_batch_that_is_asked_for_is_company_and_one_is_none() -> None:
    assert not orin().scenario.company
    assert not orin("target.batch=1").scenario.company
    asked = orin("target.batch=2")
    assert (asked.target.batch, asked.scenario.company_keys) == (2, ("target.batch",))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("target.batch=2", "up to 2 sessions of the target on drive-orin-x.gpu are one: as the scenario has it"),
        ("target.runtime=vllm", "up to 3 sessions of the target on drive-orin-x.gpu are one: as runtime vllm does"),
        ("target.runtime=null", "one: the least of the runtimes described for such a unit"),
        ("target.batch=1", ""),
    ],
)
def test_a_report_says_how_many_go_together_and_why(given: str, why: str) -> None:
    asks = ", ".join(f"{{name: {name}, arrivals: {{kind: pauses, pause_s: 1}}}}" for name in ("Ann", "Bob", "Cem"))
    notes = batch_notes(orin(given, f"passengers=[{asks}]"))
    assert len(notes) == (1 if why else 0)
    assert why in "".join(notes)
    assert not batch_notes(orin("target.runtime=null"))


def test_a_head_is_batched_with_its_target() -> None:
    setup = orin(
        "target.batch=3",
        "draft={head_kind: eagle, stand_in: models/heads/eagle}",
        "policy={name: sync, draft_tokens: 3}",
    )
    assert setup.draft is not None
    assert (setup.target.batch, setup.draft.batch) == (3, 3)


def test_a_batch_where_none_is_computed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"target.batch: found 2, with step times that are typed in for one session"):
        table_setup(tmp_path, "target.batch=2")
    with pytest.raises(InputError, match="nothing says that runtime genie-without-mmap computes"):
        shipped("orin_8295_greedy", "target.runtime=genie-without-mmap", "target.batch=2")
    with pytest.raises(InputError, match=r"target.batch"):
        shipped("orin_8295_greedy", "target.batch=0")


def test_boards_have_no_company() -> None:
    boards = 'units={npu: {backend: "tcp://127.0.0.1:5001"}}'
    shipped("orin_8295_greedy", boards)
    task = "{name: camera, chip: drive-orin-x, unit: gpu, period_ms: 33, work: {ms: 5}}"
    with pytest.raises(InputError, match=r"units.npu.backend: found tcp.* with background"):
        shipped("orin_8295_greedy", boards, f"background=[{task}]")
