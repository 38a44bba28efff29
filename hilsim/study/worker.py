"""One point of a study, from its overrides to its numbers: what every worker process runs, here or on a cluster."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import Verdict
from hilsim.describe.load import load_setup
from hilsim.errors import HilsimError, InputError
from hilsim.measure.measures import MEASURES, measured
from hilsim.places import DATA, PACKAGE
from hilsim.runs.replay import run_of
from hilsim.study.campaign import require_bytes
from hilsim.study.cluster import differing
from hilsim.study.store import Outcome
from hilsim.study.sweeps import reason
from hilsim.study.threads import single_threaded
from hilsim.study.workers import Task
from hilsim.versions import versions

NO_SAY = {"show", "study", "training", "fidelity", "commands", "progress.py", "__main__.py"}
ONE_AT_A_TIME = threading.Lock()  # a Dask worker may have several threads; sources are for one
ALIKE: set[str] = set()  # digests of the facts that this process was held against


def evaluate(file: Path, overrides: Sequence[str], metrics: Collection[str]) -> dict[str, float | None]:
    """One point: loaded, compiled, placed, run and measured. Raises `HilsimError` where it cannot be."""
    setup = load_compiled(file, overrides)
    held = ledgers(setup)
    Verdict(setup, held, ()).require()  # without remedies, which take longer to find than most points to run
    found = measured(setup, held, *run_of(setup))
    return {name: found[name] for name in metrics}


def worked(task: Task) -> Outcome:
    """What becomes of a task. Raises `InputError` where this process does not see what the study's own saw."""
    with ONE_AT_A_TIME:
        single_threaded()
        require_alike(task)
        began = time.perf_counter()
        try:
            metrics = evaluate(task.file, [*task.base, *task.overrides], MEASURES)
        except HilsimError as error:
            return Outcome(task.key, "refused", {}, reason(error, task.file), time.perf_counter() - began)
        except Exception as error:  # a bug: the point is at fault, not the study
            return Outcome(task.key, "failed", {}, bug(error), time.perf_counter() - began)
        return Outcome(task.key, "done", metrics, "", time.perf_counter() - began)


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
    """Digest of the compilers' rules and of our code as far as it has a say in results; how they are shown has none."""
    files = [file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] not in NO_SAY]
    files += [file for folder in ("operators", "profiles") for file in (DATA / "chips" / folder).glob("*.*")]
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:16]


def digest_of(facts: Mapping[str, str]) -> str:
    """One word for all facts."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()


def bug(error: Exception) -> str:
    """An exception with the place that it comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"
    return f"{type(error).__name__}: {error}{where}"
