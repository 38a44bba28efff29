"""Background tasks that come after one another: released as the one before ends, none lost, on any chips."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.measure.trip import background
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.scenes import MS, table_setup

ALONE = ("policy={name: target_only}", "draft=null", "link=null", "workload.output_tokens=40")
CHAIN = (
    "{name: detect, after: camera, chip: paper-draft, unit: any, period_ms: 100, work: {ms: %d}}, "
    "{name: camera, chip: paper-draft, unit: any, period_ms: 100, work: {ms: 10}}, "
    "{name: draw, after: detect, chip: agx-thor, unit: gpu, period_ms: 100, work: {ms: 5}}"
)


def ran(folder: Path, detect_ms: int) -> Trace:
    setup = table_setup(folder, *ALONE, f"background=[{CHAIN % detect_ms}]")
    assert list(setup.chips) == ["paper-target", "paper-draft", "agx-thor"]
    return simulate(setup, Sources(setup).fresh("baseline"))


def test_each_begins_as_the_one_before_ends(tmp_path: Path) -> None:
    trace = ran(tmp_path, 20)
    for before, after in (("camera", "detect"), ("detect", "draw")):
        ends = [span.end_ns for span in trace.spans if span.kind == before]
        starts = [span.start_ns for span in trace.spans if span.kind == after]
        assert starts == ends[: len(starts)]
        assert len(ends) - len(starts) <= 1
    assert [span.start_ns for span in trace.spans if span.kind == "camera"][:3] == [0, 100 * MS, 200 * MS]
    assert trace.tasks["draw"].worst_ns == 5 * MS
    assert all(task.missed == 0 for task in trace.tasks.values())


def test_one_that_is_not_done_in_time_misses_and_lets_the_next_one_rest(tmp_path: Path) -> None:
    """120 ms of work every 100 ms on the camera's own unit: every release counts, done or missed."""
    trace = ran(tmp_path, 85)
    camera, detect, draw = (trace.tasks[name] for name in ("camera", "detect", "draw"))
    assert camera.missed == detect.missed == 0  # 95 of 100 ms
    assert draw.finished == pytest.approx(detect.finished, abs=1)
    late = ran(tmp_path, 98)
    camera, detect, draw = (late.tasks[name] for name in ("camera", "detect", "draw"))
    assert detect.missed + camera.missed > 0
    assert detect.released in (camera.finished, camera.finished + 1)
    assert draw.released == detect.finished
    assert detect.released <= detect.finished + detect.missed + 1


def test_frames_that_never_came_to_a_task_are_counted(tmp_path: Path) -> None:
    trace = ran(tmp_path, 120)
    found = background(list(trace.tasks.values()), {"detect": "camera", "draw": "detect"})
    camera, detect, draw = (trace.tasks[name] for name in ("camera", "detect", "draw"))
    assert "frames" not in found["camera"]
    assert found["draw"]["frames"] == found["detect"]["frames"] == camera.released
    assert draw.released == detect.finished < camera.released - 2
    calm = ran(tmp_path, 20)
    found = background(list(calm.tasks.values()), {"detect": "camera", "draw": "detect"})
    assert found["draw"]["frames"] - found["draw"]["finished"] <= 1
