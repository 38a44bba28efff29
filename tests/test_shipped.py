"""Everything that is shipped loads, and every scenario runs for a few tokens and keeps its invariants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.app import Sources, run_both
from hilsim.cost.memory import ledgers
from hilsim.describe.catalogue import PROJECT, load_record
from hilsim.describe.chip import Chip, figures
from hilsim.describe.conversation import read_conversations
from hilsim.describe.figure import Figure
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.scenario import Lengths
from hilsim.show.document import document

SCENARIOS = sorted((PROJECT / "scenarios").glob("*.yaml"))
RUNNABLE = [file for file in SCENARIOS if file.stem != "target_on_orin"]


@pytest.mark.parametrize("file", sorted((PROJECT / "chips").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_chip_loads_and_every_figure_has_a_source(file: Path) -> None:
    chip = load_record(Chip, file)
    assert chip.name == file.stem
    found = figures(chip)
    assert len(found) > 10
    assert all(len(figure.source) > 10 for figure in found.values())


@pytest.mark.parametrize("file", sorted((PROJECT / "chips/links").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_link_loads(file: Path) -> None:
    assert load_record(Link, file).name == file.stem


@pytest.mark.parametrize("file", sorted((PROJECT / "models").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_model_loads(file: Path) -> None:
    assert load_record(Model, file).name == file.stem


@pytest.mark.parametrize("file", sorted((PROJECT / "scenarios/conversations").glob("*.jsonl")), ids=lambda f: f.stem)
def test_every_conversation_file_loads(file: Path) -> None:
    assert len(read_conversations(file, None, None)) >= 10


def few_tokens(file: Path) -> list[str]:
    setup = load_setup(file)
    if isinstance(setup.scenario.workload, Lengths):
        return ["workload.requests=2"]
    return ["workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=12"]


@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: file.stem)
def test_every_scenario_runs_and_keeps_its_invariants(file: Path) -> None:
    setup = load_setup(file, few_tokens(file))
    outcome = run_both(setup, Sources(setup))
    caps = {chip: ledger.cap_bytes for chip, ledger in ledgers(setup).items()}
    for trace in (outcome.baseline, outcome.speculative):
        if trace is None:
            continue
        for track in trace.tracks:
            spans = sorted((s for s in trace.spans if s.track == track), key=lambda span: span.start_ns)
            assert all(a.end_ns <= b.start_ns for a, b in pairwise(spans)), track
        for span in trace.spans:
            assert 0 <= span.asked_ns <= span.start_ns <= span.end_ns <= span.done_ns <= trace.end_ns
            assert all(isinstance(part, int) for part in span[2:])
        assert all(level.used_bytes <= caps[level.chip] for level in trace.levels)
        assert [request.number for request in trace.requests] == list(range(len(trace.requests)))
        for request in trace.requests:
            emitted = sum(closed.emitted for closed in trace.rounds if closed.request == request.number)
            assert emitted == request.output_tokens
    found = document(setup, ledgers(setup), outcome.baseline, outcome.speculative)
    if outcome.speculative is not None:
        assert found["lossless"]["mismatches"] == 0
        assert found["speculative"]["num_accepted_tokens"] <= found["speculative"]["num_draft_tokens"]
    for figure in found["assumptions"]:
        assert set(figure) >= {"figure", "value", "kind", "source"}
        assert figure["kind"] == "assumed"


def test_a_figure_outside_its_own_range_is_refused() -> None:
    with pytest.raises(ValueError, match="outside its own range"):
        Figure(value=3, unit="ms", kind="assumed", source="a test", range=(1, 2))


@pytest.mark.parametrize("application", ["sa8295p", "drive-orin-x"])
def test_a_link_changes_the_target_alone_only_where_words_must_cross_it(application: str) -> None:
    file = PROJECT / "scenarios/ethernet.yaml"
    alone, speculative = [], []
    for link in ("1000base-t1", "pcie-gen3-x4", "ideal"):
        setup = load_setup(file, [*few_tokens(file), f"link={link}", f"application={application}"])
        outcome = run_both(setup, Sources(setup))
        assert outcome.speculative is not None
        alone.append(outcome.baseline.end_ns)
        speculative.append(outcome.speculative.end_ns)
    assert speculative == sorted(set(speculative), reverse=True)  # every faster link helps the two chips
    assert len(set(alone)) == (1 if application == "sa8295p" else 3)
