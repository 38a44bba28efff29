"""Everything that is shipped loads, and every scenario runs for a few tokens and keeps its invariants."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.cost.memory import ledgers
from hilsim.describe.catalogue import load_chip, load_record
from hilsim.describe.chip import Chip
from hilsim.describe.conversation import read_conversations
from hilsim.describe.family import Family
from hilsim.describe.figure import DIMENSIONS, KINDS, Figure, Record
from hilsim.describe.figures import figures
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.runtime import Runtime
from hilsim.describe.scenario import Lengths
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources, run_both
from hilsim.show.document import document

SCENARIOS = sorted((PROJECT / "scenarios").glob("*.yaml"))
UNITS = {unit for units in DIMENSIONS.values() for unit in units}
CHIPS = sorted((PROJECT / "chips").glob("*.yaml"))
FAMILIES = sorted((PROJECT / "chips/families").glob("*.yaml"))
RUNTIMES = sorted((PROJECT / "chips/runtimes").glob("*.yaml"))
NAMES = [name for file in CHIPS for name in (file.stem, *(f"{file.stem}@{m}" for m in load_record(Chip, file).modes))]
# Trips ask by passenger, not in the order of the workload: tests/runs/test_trips.py.
TRIPS = [file for file in SCENARIOS if "\npassengers:" in file.read_text(encoding="utf-8")]
RUNNABLE = [file for file in SCENARIOS if file.stem != "target_on_orin" and file not in TRIPS]


def complete(record: Record) -> int:
    """How many figures a record holds, each with a unit, a kind and a source one can look up."""
    found = figures(record)
    for path, figure in found.items():
        assert figure.kind in KINDS, path
        assert len(figure.source) > 10, path
        if isinstance(figure, Figure):
            assert figure.unit in UNITS, path
            assert figure.range is None or figure.range[0] <= figure.value <= figure.range[1], path
            assert figure.value > 0 or "rate" not in path, path
    return len(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_chip_and_power_mode_loads_and_every_figure_has_a_source(name: str) -> None:
    chip = load_chip(name, PROJECT / "scenarios" / "x.yaml")
    assert chip.name == name
    assert complete(chip) > 10
    for unit in chip.units.values():
        # Whatever families leave out, what a step is reckoned with is there.
        assert unit.precisions
        assert unit.graph_overhead is not None
        assert unit.step_overhead is not None


@pytest.mark.parametrize("name", NAMES)
def test_no_unit_streams_faster_than_its_chips_memory(name: str) -> None:
    chip = load_chip(name, PROJECT / "scenarios" / "x.yaml")
    for unit in chip.units.values():
        for precision in unit.precisions.values():
            for rate in (precision.memory_rate, precision.cache_rate):
                assert rate is None or rate.si <= chip.peak_memory_rate.si


@pytest.mark.parametrize("file", CHIPS, ids=lambda file: file.stem)
def test_what_a_chips_own_file_says_outweighs_its_family(file: Path) -> None:
    written, settled = load_record(Chip, file), load_chip(file.stem, PROJECT / "scenarios" / "x.yaml")
    known = figures(settled)
    assert all(known[path] == figure for path, figure in figures(written).items() if not path.startswith("modes."))


@pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.stem)
def test_every_family_loads_and_names_chips_and_families_that_exist(file: Path) -> None:
    family = load_record(Family, file)
    assert family.name == file.stem
    assert complete(family) > 10
    assert family.sibling is None or (file.parent / f"{family.sibling}.yaml").exists()
    members = {chip.name for path in CHIPS for chip in [load_record(Chip, path)] for unit in chip.units.values()
               if unit.family == family.name}  # fmt: skip
    assert set(family.measured_on) <= members


@pytest.mark.parametrize("file", RUNTIMES, ids=lambda file: file.stem)
def test_every_runtime_loads(file: Path) -> None:
    runtime = load_record(Runtime, file)
    assert runtime.name == file.stem
    assert complete(runtime) > 0 or runtime.drafting  # one that changes no figure says what it offers


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
            assert all(isinstance(part, int) for part in span[2:-1])
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
def test_a_link_changes_the_target_alone_only_where_tokens_must_cross_it(application: str) -> None:
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
