"""Live runs with draft heads: whatever an untrained head proposes, the text is the target's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.describe.drafting import HEAD_KINDS, HeadKind
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import compare_texts
from hilsim.networks.draft_head import HeadConfig
from hilsim.networks.draft_head_file import save_draft_head
from hilsim.networks.network import load_network
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import run_of
from hilsim.runs.run import Sources, run_both
from hilsim.training.heads import HEADS, head_for
from tests.scenes import shipped

POSITIONS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained head of every kind over the shipped target."""
    folder = tmp_path_factory.mktemp("heads")
    target = load_network(PROJECT / "models/target")
    for kind in HEAD_KINDS:
        config = HEADS[kind]
        small = HeadConfig(kind, config.read, min(config.layers, 1), 64, None, positions=config.positions and POSITIONS)
        save_draft_head(head_for(small, target, [], seed=3), folder / kind)
    return folder


def live(folder: Path, kind: HeadKind, *overrides: str) -> Setup:
    """A short conversation with that head on the target's unit."""
    positions = f", positions: {POSITIONS}" if kind in ("medusa", "block") else ""
    return shipped(
        "eagle_8775",
        "target.stand_in=models/target",
        f"draft={{head_kind: {kind}, stand_in: {folder / kind}{positions}}}",
        "logits={source: live}",
        "workload={conversations: conversations/shift.jsonl, count: 1, max_turns: 2, max_new_tokens: 10, pause_ms: 5}",
        *overrides,
    )


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("policy", ["{name: sync, draft_tokens: 3}", "{name: tree, branches: [2, 1]}"])
def test_the_text_is_the_targets_own(folders: Path, kind: HeadKind, policy: str) -> None:
    setup = live(folders, kind, f"policy={policy}")
    pair = run_both(setup, Sources(setup))
    assert pair.speculative is not None
    found = compare_texts(pair.baseline, pair.speculative)
    assert found["checked_tokens"] > 10
    assert found["mismatches"] == 0
    drafts = [span for span in pair.speculative.spans if span.kind == "draft"]
    assert {span.track for span in drafts} == {setup.target.track}
    assert (len(drafts) == sum(closed.drafted > 0 for closed in pair.speculative.rounds)) == (
        kind in ("medusa", "block")
    )


def test_studies_run_a_head_by_events_with_its_own_tokens(folders: Path) -> None:
    """No transcript can hold its drafts, so none is taken."""
    setup = live(folders, "eagle")
    baseline, ours = run_of(setup)
    direct = run_both(setup, Sources(setup))
    assert direct.speculative is not None
    assert ours.requests == direct.speculative.requests
    assert baseline.requests == direct.baseline.requests
