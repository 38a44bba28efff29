"""What hilsim offers to scripts and notebooks; `import hilsim` has all of it, and docs/api.md is its reference.

Nothing here prints or exits: answers are objects that show themselves, and errors are exceptions of one family,
`HilsimError`. Work that takes long shows how far it is where `progress=True` is given.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hilsim.describe.catalogue import find_scenario
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.describe.strict_yaml import Document
from hilsim.describe.study_load import load_described, override
from hilsim.errors import Fault, HilsimError, InputError
from hilsim.files import read_text
from hilsim.measure.measures import HEADLINE, MEASURES
from hilsim.progress import shown, status_line
from hilsim.trust import code_allowed

if TYPE_CHECKING:
    from hilsim.show.campaigned import Campaigned
    from hilsim.show.check import Checked
    from hilsim.show.exploration import Explored
    from hilsim.show.run import Run, Watch
    from hilsim.show.validation import Calibrated, Validated

__all__ = ["calibrate", "campaign", "check", "compare", "evaluate", "explore", "load", "simulate", "sweep", "validate"]
Keys = str | tuple[str, ...]


def load(scenario: str | Path, overrides: Mapping[str, Any] | Iterable[str] = (), *, allow_code: bool = False) -> Setup:
    """Load a scenario and everything that it names.

    `scenario` is a path, or a name that is looked up in ./scenarios, then among the shipped ones. `overrides` change
    single values: dotted paths to any value that YAML can express, or texts such as "policy.draft_tokens=7".
    `allow_code` runs policies and modules that the scenario names even where they, or the scenario, lie outside
    hilsim's folder and yours; it holds for all that is done with the setup. Raises `InputError` with every fault of
    every file.
    """
    with api_call(allow_code=allow_code):
        return load_setup(find_scenario(scenario), as_overrides(overrides))


def check(setup: Setup, *, largest_context: bool = False, progress: bool = False) -> Checked:
    """Whether a setup compiles and fits: findings, memory ledgers in bytes, and what would help where it does not.

    The answer prints as a whole; it has `ok`, `compiles`, `fits` and `report`, and `require()` raises `CompileError` or
    `PlacementError`. With `largest_context` it also has the longest context, in tokens, that still fits. Raises
    `InputError` where a module or a profile cannot be read.
    """
    from hilsim.show.check import checked

    with api_call(progress, setup.allow_code):
        return checked(setup, longest=largest_context)


def simulate(
    setup: Setup,
    *,
    realtime: float | None = None,
    uncertainty: int = 0,
    shadow: bool = False,
    link_ends: Mapping[str, str] | None = None,
    recordings: str | Path = "recordings",
    watch: Watch | None = None,
    progress: bool = False,
) -> Run:
    """Run a setup: the target alone, then its policy over the same requests.

    `realtime` is wall seconds per simulated second; `uncertainty` is a number of draws of the uncertain figures, for
    error bars. Where boards execute the steps, their times are written to the folder `recordings`, `shadow` compares
    the chip model's times with theirs, and `link_ends` are the addresses, by role, of a real link over which the run is
    executed as well. `watch` makes the context manager of an observer. Raises `InputError`, `CompileError`,
    `PlacementError` or `SimulationError`.
    """
    from hilsim.show.check import checked
    from hilsim.show.run import RunOptions, run_checked, wanted_faults

    with api_call(progress, setup.allow_code):
        wanted = RunOptions(realtime, uncertainty, shadow, link_ends, Path(recordings), watch)
        if faults := wanted_faults(setup, wanted):
            raise InputError(faults)
        found = checked(setup)
        found.require()
        return run_checked(found, wanted)


def evaluate(setup: Setup, *, progress: bool = False) -> dict[str, float | None]:
    """The numbers of one run by name, such as speedup and energy_j; None for what a run does not have.

    Live logits are recorded once and replayed. Raises `HilsimError` where the setup cannot run.
    """
    from hilsim.compiler.compile_check import compiled
    from hilsim.runs.evaluate import Refused, require_fit
    from hilsim.runs.evaluate import evaluate as evaluated

    with api_call(progress, setup.allow_code), status_line("compiling") as notify:
        ready = compiled(setup, notify)
        require_fit(ready)
        found = evaluated(ready, every=True)
    if isinstance(found, Refused):
        raise found.error
    return dict(found)


def compare(
    setups: Mapping[str, Setup] | Sequence[Setup], metrics: Sequence[str] = HEADLINE, *, progress: bool = False
) -> Any:
    """A row a setup: its name (of a sequence its overrides), its numbers, and why it was refused where it was.

    `metrics` are names that `evaluate` gives. Returns a `pandas.DataFrame`, or `Records` without pandas. Raises
    `InputError` for a metric that there is not.
    """
    from hilsim.show.frames import as_frame
    from hilsim.show.table import Table

    if not isinstance(setups, Mapping):
        setups = {" ".join(one.overrides) or one.scenario.name: one for one in setups}
    with api_call(progress):
        require_metrics(metrics)
        rows = []
        for name, setup in setups.items():
            try:
                numbers, reason = evaluate(setup, progress=progress), None
            except HilsimError as error:
                numbers, reason = {}, str(error)
            state = "done" if reason is None else "refused"
            rows.append((name, state, *(numbers.get(metric) for metric in metrics), reason))
        return as_frame(Table(("setup", "state", *metrics, "reason"), rows))


def sweep(
    setup: Setup,
    axes: Mapping[Keys, Iterable[Any]],
    metrics: Sequence[str] = HEADLINE,
    *,
    repeats: int = 1,
    workers: int | None = 1,
    store: str | Path | None = None,
    retry_failed: bool = False,
    progress: bool = False,
) -> Any:
    """Run every combination of the axes' values; a row a point: its values, seed, state, metrics and reason.

    A key of `axes` is a dotted path, or a tuple of paths whose values move together; they replace the setup's own
    overrides of these paths. `repeats` are seeds a point.
    `workers` is the number of processes (None: one a core). With `store`, an SQLite file, each finished point is on the
    disk and the same call goes on where it was interrupted; `retry_failed` runs points again that failed. Points that
    cannot run stay in the table with their reason. Returns a `pandas.DataFrame`, or `Records` without pandas. Raises
    `InputError` for keys and values that the scenario does not have, and for a store of something else.
    """
    from hilsim.show.frames import as_frame
    from hilsim.show.results import points_table
    from hilsim.study.stored import StoredGrid
    from hilsim.study.worker import worked

    with api_call(progress, setup.allow_code), unshared_main(), tempfile.TemporaryDirectory() as folder:
        require_metrics(metrics)
        file = Path(setup.file).resolve()
        study = {"name": "sweep", "scenario": str(file), "axes": list(map(axis, axes.items())), "repeats": repeats}
        varied = {key for keys in axes for key in ([keys] if isinstance(keys, str) else keys)}
        base = [one for one in setup.overrides if one.partition("=")[0].strip() not in varied]
        described = load_described(Document(study, {}), Path("sweep"), base, list(MEASURES))
        stored = StoredGrid.of(described, json.dumps(study), worked)
        place = Path(folder) / "sweep.sqlite" if store is None else Path(store)
        rows, _ = stored.run(place, workers=workers, retry_failed=retry_failed, resumable=store is not None)
        return as_frame(points_table(rows, stored.grid, metrics))


def campaign(
    file: str | Path,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    *,
    workers: int | None = 1,
    store: str | Path | None = None,
    retry_failed: bool = False,
    allow_code: bool = False,
    progress: bool = False,
) -> Campaigned:
    """Meet every fault of a campaign file at every instant under every policy; docs/campaign.md has the keys.

    `file` is a path, or a name that is looked up in ./scenarios/campaigns, then among the shipped ones; `overrides`
    change its scenario. `workers`, `store` and `retry_failed` are those of `sweep`, `allow_code` is that of `load`.
    What is not survived is a result.
    Raises `InputError` with every fault of the campaign and its scenario, where every point is refused, and for a store
    of something else.
    """
    from hilsim.describe.campaign_load import load_campaign
    from hilsim.show.campaigned import Campaigned
    from hilsim.study.campaign import CampaignResult, require_runs, tolerance_ms
    from hilsim.study.stored import StoredGrid
    from hilsim.study.worker import worked_with_fault

    with api_call(progress, allow_code), unshared_main(), tempfile.TemporaryDirectory() as folder:
        found = find_scenario(file, "campaign")
        loaded = load_campaign(found, as_overrides(overrides))
        stored = StoredGrid.of(loaded.described, read_text(found), worked_with_fault)
        place = Path(folder) / "campaign.sqlite" if store is None else Path(store)
        rows, _ = stored.run(place, workers=workers, retry_failed=retry_failed, resumable=store is not None)
        result = CampaignResult(stored.grid, rows)
        require_runs(result, found)
        return Campaigned(loaded.campaign, result, tolerance_ms(loaded.described))


def explore(
    setup: Setup,
    objective: str = "request_latency",
    limits: Mapping[str, float] | Sequence[str] = (),
    *,
    against: Sequence[str] = ("memory", "energy"),
    cloud: bool = False,
    chips: Sequence[str] = (),
    links: Sequence[str] = (),
    drafts: Sequence[str] = (),
    only: Mapping[str, str | Sequence[str]] | Sequence[str] = (),
    conversations: int | None = None,
    fine: bool = False,
    finalists: int = 3,
    workers: int | None = None,
    progress: bool = False,
) -> Explored:
    """Which placement of all? Every role, unit, precision, width, draft, link, rule and policy, screened and ranked.

    `objective` is one of request_latency, first_clause, throughput, energy, link_bytes and memory; the Pareto set
    weighs it `against` others. `limits` bound measures: at most so much, or at least where more is better, in the unit
    of the name, such as {"memory_gib": 12, "first_clause_ms": 300}; or texts such as "energy_j<=200". `cloud` allows
    models outside the car; `chips`, `links` and `drafts` ("MODEL:STAND_IN") name what else there is; `only` narrows
    axes, such as {"target.unit": ["npu"]}; `fine` widens them to millions of configurations: every set of widths,
    setting and payload. The best `finalists` are confirmed event by event. `workers` is the number of processes (None:
    one a core). Raises `InputError` for names that there are not and for a setup that cannot run.
    """
    from hilsim.show.exploration import Explored
    from hilsim.study.explorer import explore, question_of
    from hilsim.study.ranking import limit_text

    with api_call(progress, setup.allow_code), unshared_main():
        if isinstance(limits, Mapping):
            limits = [limit_text(name, value) for name, value in limits.items()]
        if isinstance(only, Mapping):
            only = [f"{key}={one if isinstance(one, str) else ','.join(one)}" for key, one in only.items()]
        question = question_of(
            Path(setup.file), setup.overrides, objective=objective, against=against, limits=limits, cloud=cloud,
            chips=chips, links=links, drafts=drafts, only=only, conversations=conversations, fine=fine, yes=True,
        )  # fmt: skip
        return Explored(explore(question, finalists=finalists, workers=workers))


def validate(
    csv: str | Path | None = None,
    *,
    chip: str | None = None,
    mode: str | None = None,
    leave_out: bool = False,
    skip_bad: bool = False,
    progress: bool = False,
) -> Validated:
    """How well the chips predict: predicted against measured figures, the shipped ones or those of a CSV.

    `chip` is the chip of rows that name none (llama-bench's), `mode` the power mode of rows that do not; docs/logs.md
    has the columns. With `leave_out` constants are fitted again without each row's model and device. Rows at fault are
    left out with `skip_bad`. Raises `InputError` with every row at fault, or where no row can be compared.
    """
    from hilsim.fidelity.from_file import validate
    from hilsim.fidelity.measurements import SHIPPED
    from hilsim.places import DATA
    from hilsim.show.validation import Validated

    with api_call(progress):
        if csv is None and chip is not None:
            raise InputError([Fault("--chip", "", "no file whose rows it names", "a CSV beside it")])
        skipped: list[Fault] = []
        found = validate(
            None if csv is None else Path(csv),
            chip=chip, mode=mode, leave_out=leave_out, skipped=skipped.append if skip_bad else None,
        )  # fmt: skip
        return Validated(str(csv or SHIPPED.relative_to(DATA)), found, tuple(skipped))


def calibrate(
    csv: str | Path | None = None,
    *,
    chip: str | None = None,
    family: str | None = None,
    fit: Sequence[str] = (),
    skip_bad: bool = False,
    progress: bool = False,
) -> Calibrated:
    """Fit the constants of a chip, or of a family over all its chips, to measurements (the shipped ones, or a CSV).

    `fit` names further constants of the chip. The answer has the fitted `figures` with their ranges, and `save(file)`
    writes the chip's file. Raises `InputError` where there are too few rows, or rows at fault without `skip_bad`.
    """
    from hilsim.fidelity.from_file import calibrate
    from hilsim.show.validation import Calibrated

    with api_call(progress):
        if (chip is None) == (family is None):
            found = "neither" if chip is None else "both"
            raise InputError([Fault("calibrate", "", found, "a chip or a family", "Name one of the two.")])
        skipped: list[Fault] = []
        fitted = calibrate(
            None if csv is None else Path(csv), chip=chip, family=family, constants=fit,
            skipped=skipped.append if skip_bad else None,
        )  # fmt: skip
        return Calibrated(fitted, tuple(skipped))


@contextmanager
def api_call(progress: bool = False, allow_code: bool = False) -> Iterator[None]:
    """One call of a function: nothing is shown and no stranger's code is run unless requested, and faults name
    arguments as Python has them.
    """
    with shown(progress), code_allowed(allow_code):
        try:
            yield
        except InputError as error:
            raise type(error)([of_argument(fault) for fault in error.faults]) from error.__cause__


def of_argument(fault: Fault) -> Fault:
    """A fault in an option of the command line as one in the argument of that name."""
    file, place = (
        name.removeprefix("--").replace("-", "_") if name.startswith("--") else name
        for name in (fault.file, fault.place)
    )
    return replace(fault, file=file, place=place)


def as_overrides(overrides: Mapping[str, Any] | Iterable[str]) -> list[str]:
    """Overrides as PATH=VALUE. Raises `InputError` for values that YAML cannot express."""
    if isinstance(overrides, str):
        raise InputError([Fault("overrides", "", repr(overrides), "a mapping, or a list of PATH=VALUE")])
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [override(path, plain(value, path)) for path, value in overrides.items()]


def plain(value: Any, place: str) -> Any:
    """A value in the types that YAML has: paths as text, ranges and tuples as lists, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(inside, f"{place}.{key}") for key, inside in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(inside, place) for inside in value]
    if isinstance(value, Path):
        return str(value)
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    expected = "text, a number, true or false, null, a list or a mapping"
    raise InputError([Fault("overrides", place, f"{type(value).__name__} {value!r}", expected)])


def axis(given: tuple[Keys, Iterable[Any]]) -> dict[str, Any]:
    """An axis as a study file has it."""
    keys, values = given
    if isinstance(keys, str):
        return {"key": keys, "values": [plain(value, keys) for value in values]}
    rows = [[plain(value, key) for key, value in zip(keys, row, strict=True)] for row in values]
    return {"linked": {key: [row[place] for row in rows] for place, key in enumerate(keys)}}


def require_metrics(metrics: Sequence[str]) -> None:
    """Raise `InputError` for metrics that there are not."""
    faults = [
        Fault("metrics", "", repr(one), f"one of {', '.join(MEASURES)}") for one in metrics if one not in MEASURES
    ]
    if faults:
        raise InputError(faults)


@contextmanager
def unshared_main() -> Iterator[None]:
    """Worker processes that start in here do not run the caller's script again, guarded or not."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
