"""One point of a study, from its overrides to its numbers: what every worker process runs, here or on a cluster."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.describe.study import FAST, Study
from hilsim.errors import InputError
from hilsim.measure.measures import MEASURED, MEASURES
from hilsim.places import DATA, PACKAGE
from hilsim.runs.evaluate import Numbers, Refused, evaluate, load_variant
from hilsim.runs.injected import evaluate_injected
from hilsim.study.cluster import differing
from hilsim.study.point_result import Metrics, PointResult
from hilsim.study.study_run import require_bytes
from hilsim.study.threads import single_threaded
from hilsim.study.workers import Task
from hilsim.versions import versions

NO_SAY = {"show", "study", "training", "fidelity", "api.py", "commands", "progress.py", "shown.py", "__main__.py"}
ONE_AT_A_TIME = threading.Lock()  # a Dask worker may have several threads; sources are for one
ALIKE: set[str] = set()  # digests of the facts that this process was held against


def worked(task: Task) -> PointResult:
    """What becomes of a task of a study. Raises `InputError` where this process does not see what the study's saw."""
    return in_its_turn(task, study_numbers)


def worked_fast(task: Task) -> PointResult:
    """The same of a study whose points are timed without events where that is possible."""
    return in_its_turn(task, fast_numbers)


def worked_with_fault(task: Task) -> PointResult:
    """What becomes of a task of a campaign; `reason` of one that is done says what was lost, or why nothing was hit."""
    return in_its_turn(task, evaluate_injected)


def study_numbers(variant: Setup | Refused) -> tuple[Numbers, str] | Refused:
    """The measures of a point of a study."""
    found = evaluate(variant, every=True)
    return found if isinstance(found, Refused) else ({name: found[name] for name in MEASURES}, "")


def fast_numbers(variant: Setup | Refused) -> tuple[Numbers, str] | Refused:
    """The measures of a point that fast timing has."""
    found = evaluate(variant)
    return found if isinstance(found, Refused) else ({name: found[name] for name in MEASURED}, "")


def work_of(study: Study) -> Callable[[Task], PointResult]:
    """What runs a point of a study."""
    return worked_fast if study.timing == FAST else worked


def in_its_turn(task: Task, numbers: Callable[[Setup | Refused], tuple[Numbers, str] | Refused]) -> PointResult:
    """Run a task when no other one runs in this process."""
    with ONE_AT_A_TIME:
        single_threaded()
        require_alike(task)
        began = time.perf_counter()
        try:
            found = numbers(load_variant(task.file, [*task.base, *task.overrides]))
            metrics = Metrics.of({} if isinstance(found, Refused) else found[0])
        except Exception as error:  # a bug: the point is at fault, not the study
            return PointResult(task.key, "failed", {}, bug(error), time.perf_counter() - began)
        took = time.perf_counter() - began
        if isinstance(found, Refused):
            return PointResult(task.key, "refused", metrics, found.reason, took)
        return PointResult(task.key, "done", metrics, found[1], took)


def require_alike(task: Task) -> None:
    """Raises `InputError` where versions or files differ from those of the study's own process."""
    require_bytes(task.file, task.scenario)
    own = digest_of(task.facts)
    if own not in ALIKE:
        if faults := differing("this worker", facts_of(task.file, task.base), task.facts):
            raise InputError(faults)
        ALIKE.add(own)


def facts_of(file: Path, base: Sequence[str]) -> dict[str, str]:
    """What all results of a study rest on: versions, our sources, and the scenario with all that it names."""
    return {**versions(), "sources": sources(), "scenario": load_setup(file, base).digest}


@cache
def sources() -> str:
    """Digest of the compilers' rules and of our code where it influences results; what shows them does not."""
    files = [file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] not in NO_SAY]
    files += [file for folder in ("operators", "profiles") for file in (DATA / "chips" / folder).glob("*.*")]
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:16]


def digest_of(facts: Mapping[str, str]) -> str:
    """One digest of all facts."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def bug(error: Exception) -> str:
    """An exception with the place that it comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"
    return f"{type(error).__name__}: {error}{where}"
