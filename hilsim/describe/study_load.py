"""From a study file to a study that can run: every key and every value held against the scenario, each value once.

So a typo is reported before hours of work. Two values that do not go together are no fault: that point is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hilsim.describe.catalogue import located
from hilsim.describe.complaints import short, validated
from hilsim.describe.load import load_setup, with_override
from hilsim.describe.meant import code_faults, unknown_names
from hilsim.describe.names import did_you_mean, key_hint
from hilsim.describe.scenario import Scenario
from hilsim.describe.strict_yaml import Document, dotted, parse, scalar
from hilsim.describe.study import Axis, LinkedAxis, ListAxis, RangeAxis, Study, axis_of
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import exists, read_text

OUR_COLUMNS = ("point", "seed", "state", "reason")  # of every table, beside the axes and the metrics
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
WHOLE = "top level"  # where complaints stand that only the whole scenario can show


@dataclass(frozen=True)
class Described:
    """A study whose keys and values are sound; digests identify the scenario, and it with each choice alone.

    `choices` has a digest for every row of every axis, "" where the row alone makes no scenario that loads.
    """

    study: Study
    scenario: Path
    base: tuple[str, ...]  # --set arguments: the study's own, then the command line's
    seed: int
    digest: str
    choices: tuple[tuple[str, ...], ...]


def override(path: str, value: object) -> str:
    """A value as a --set argument: a plain word as it is, else JSON, which is unambiguous YAML."""
    bare = isinstance(value, str) and PLAIN.fullmatch(value) is not None and scalar(value) == value
    return f"{path}={value if bare else json.dumps(value, ensure_ascii=False)}"


def load_study(file: Path, given: Sequence[str], metrics: Collection[str]) -> Described:
    """A study with every key and value tried. Raises `InputError` with every fault of the study and its scenario.

    `given` are --set arguments of the command line, `metrics` the names that are known.
    """
    return load_described(parse(read_text(file), str(file)), file, given, metrics, written=True)


def load_described(
    document: Document,
    file: Path,
    given: Sequence[str],
    metrics: Collection[str],
    *,
    written: bool = False,
    what: str = "study",
) -> Described:
    """The same from what a study file would hold; `file` names it in messages, and its paths are relative to that.

    `written`: there is such a file, and what it names is its author's choice. `what` the file is in messages.
    """
    name = str(file)
    if isinstance(document.data, dict) and {"target", "workload"} <= document.data.keys():
        remedy = f"Run it by `hilsim simulate {name}`, or name it as `scenario` in a study file with `axes`."
        raise ScenarioError([Fault(name, "", "a scenario, not a study", "a study: scenario and axes", remedy)])
    faults: list[Fault] = []
    study = None
    try:
        study = validated(Study, document, name)
    except ScenarioError as error:
        faults += error.faults
    data = document.data if isinstance(document.data, dict) else {}
    axes = dict(sound_axes(data))
    faults += key_faults(axes, document, name, given, [*OUR_COLUMNS, *metrics])
    faults += metric_faults(data, document, name, metrics)
    laid = data.get("set")
    base = (*(override(path, value) for path, value in (laid if isinstance(laid, dict) else {}).items()), *given)
    scenario = data.get("scenario")
    if not isinstance(scenario, str):
        raise ScenarioError(faults)
    path = located(scenario, file)
    if not exists(path):
        near = sorted(found.name for found in path.parent.glob("*.yaml"))[:8] if exists(path.parent) else []
        remedy = f"{path.parent} holds: {', '.join(near)}." if near else "Check the path."
        missing = Fault(
            name, at(document, "scenario"), repr(scenario), f"a file beside the {what} or in hilsim", remedy
        )
        raise ScenarioError([*faults, missing])
    try:
        setup = load_setup(path, base)
    except InputError as error:
        raise ScenarioError([*faults, *(of_set(fault, document, name, str(path)) for fault in error.faults)]) from None
    authors = (path, file) if written else (path,)
    faults += [of_set(fault, document, name, str(path)) for fault in code_faults(setup.scenario, path, *authors)]
    trial = AxisChecks(path, base, axes, document, name, authors)
    digests = []
    for place, axis in axes.items():
        found, of_rows = trial.axis(place, axis)
        faults += found
        digests.append(of_rows)
    if faults or study is None:
        raise ScenarioError(faults)
    return Described(study, path, base, setup.scenario.seed, setup.digest, tuple(digests))


def sound_axes(data: dict[str, Any]) -> Iterator[tuple[int, Axis]]:
    """The axes that are well written, by place: they are looked at further even where others are at fault."""
    listed = data.get("axes")
    for place, axis in enumerate(listed if isinstance(listed, list) else ()):
        try:
            found = axis_of(axis)
        except ValidationError:
            continue
        if isinstance(found, Axis):
            yield place, found


def at(document: Document, *path: str | int) -> str:
    """A place with its line, as all messages have it."""
    line = document.lines.get(path)
    return f"{dotted(path)} (line {line})" if line else dotted(path)


def key_faults(
    axes: dict[int, Axis], document: Document, file: str, given: Sequence[str], taken: Collection[str]
) -> Iterator[Fault]:
    """Keys and names that two axes have, or that the command line, the repeats or our own columns have as well."""
    first: dict[str, int] = {}
    named: dict[str, int] = {}
    for place, axis in axes.items():
        where = at(document, "axes", place)
        for key in axis.keys:
            if key in first:
                found = f"the key {key!r}, which axes[{first[key]}] has"
                yield Fault(file, where, found, "each key on one axis", "Keys that move together can be `linked`.")
            if key == "seed" and document.data.get("repeats", 1) != 1:
                yield Fault(file, where, "the seed, which `repeats` change as well", "either of the two")
        if axis.head in named and not first.keys() & set(axis.keys):
            yield Fault(file, where, f"the name {axis.head!r} twice", "a name of its own for every axis")
        elif axis.head in taken and axis.keys != (axis.head,):
            yield Fault(file, where, f"the name {axis.head!r}, which a column of our own has", "another name")
        named.setdefault(axis.head, place)
        first = dict.fromkeys(axis.keys, place) | first
    for argument in given:
        key = argument.partition("=")[0].strip()
        if key in first:
            found, expected = f"{key}, which axes[{first[key]}] varies", "a key that no axis has"
            yield Fault("--set", argument, found, expected, "Change the axis in the study file.")


def metric_faults(data: dict[str, Any], document: Document, file: str, known: Collection[str]) -> Iterator[Fault]:
    """Metrics that do not exist, or that are there twice, under `metrics` and among the objectives of a search."""
    metrics, search = data.get("metrics"), data.get("search")
    objectives = search.get("objectives") if isinstance(search, dict) else None
    wanted: list[tuple[tuple[str | int, ...], object]] = []
    wanted += [(("metrics", n), name) for n, name in enumerate(metrics if isinstance(metrics, list) else ())]
    for place, objective in enumerate(objectives if isinstance(objectives, list) else ()):
        if isinstance(objective, dict):
            wanted.append((("search", "objectives", place, "metric"), objective.get("metric")))
    seen: set[tuple[object, object]] = set()
    for path, name in wanted:
        if not isinstance(name, str):
            continue
        if name not in known:
            inside = [metric for metric in known if metric.startswith(f"{name}.")]
            remedy = did_you_mean(inside[:1]) or key_hint(name, known)
            yield Fault(file, at(document, *path), f"the metric {name!r}", f"one of {', '.join(known)}", remedy)
        elif (path[0], name) in seen:
            yield Fault(file, at(document, *path), f"the metric {name!r} twice", "each metric once")
        seen.add((path[0], name))


def of_set(fault: Fault, document: Document, file: str, scenario: str) -> Fault:
    """A fault of the scenario, placed at the study's own `set` where that caused it."""
    laid = document.data.get("set")
    for key in laid if isinstance(laid, dict) else ():
        if fault.file == scenario and f"{bare(fault)}.".startswith(f"{key}."):
            inside = bare(fault).removeprefix(key)
            found = f"{inside[1:]}: {fault.found}" if inside else fault.found
            return Fault(file, at(document, "set", key), found, fault.expected, fault.remedy)
    return fault


def bare(fault: Fault) -> str:
    """The place of a fault without its line."""
    return fault.place.partition(" (line")[0]


@dataclass(frozen=True)
class AxisChecks:
    """Holds the values of the axes against the scenario, one at a time."""

    scenario: Path
    base: tuple[str, ...]
    axes: dict[int, Axis]
    document: Document
    file: str
    authors: tuple[Path, ...]  # files that decide what runs

    def axis(self, place: int, axis: Axis) -> tuple[list[Fault], tuple[str, ...]]:
        """What is wrong with the values of an axis, and a digest for each of its rows."""
        faults: list[Fault] = []
        digests = []
        for row, values in enumerate(axis.rows):
            own = [override(key, value) for key, value in zip(axis.keys, values, strict=True)]
            found, digest = self.load([*self.base, *self.above(axis), *own])
            digests.append(digest)
            # A wrong key is wrong with every value, and told once.
            faults += [moved for fault in found if (moved := self.at_value(fault, axis, place, row)) not in faults]
        return faults, tuple(digests)

    def above(self, axis: Axis) -> Iterator[str]:
        """The first value of axes that make the block which this one's key is in: `policy` over `policy.threshold`."""
        for other in self.axes.values():
            for key, value in zip(other.keys, other.rows[0], strict=True):
                if any(own.startswith(f"{key}.") for own in axis.keys):
                    yield override(key, value)

    def load(self, arguments: Sequence[str]) -> tuple[list[Fault], str]:
        """What is wrong for any values of other axes, or the digest of the scenario with these values; "" for neither.

        What fails only for the whole scenario may be right with other values, so it is no fault here.
        """
        name = str(self.scenario)
        document = parse(read_text(self.scenario), name)
        try:
            for argument in arguments:
                document = with_override(document, argument)
            found = list(code_faults(validated(Scenario, document, name), self.scenario, *self.authors))
        except ScenarioError as error:
            found = [fault for fault in error.faults if not fault.place.startswith(WHOLE)]
        found += unknown_names(document, self.scenario)
        if found:
            return found, ""
        try:
            return [], load_setup(self.scenario, arguments).digest
        except InputError as error:
            return [fault for fault in error.faults if fault.file != name], ""

    def at_value(self, fault: Fault, axis: Axis, place: int, row: int) -> Fault:
        """A fault of the scenario as one of the axis that brought it about."""
        where = bare(fault)
        if fault.found == "an unknown key" and (wrong := [key for key in axis.keys if key.startswith(where)]):
            found = f"the key {wrong[0]!r}, which the scenario does not have"
            return Fault(self.file, at(self.document, "axes", place), found, fault.expected, fault.remedy)
        inside = "" if where in axis.keys else f"{where}: "
        elsewhere = "" if fault.file == str(self.scenario) else f"{fault.file}: "
        match axis:
            case ListAxis():
                path: tuple[str | int, ...] = ("values", row)
            case LinkedAxis():
                path = ("linked", next((key for key in axis.keys if where.startswith(key)), axis.keys[0]), row)
            case RangeAxis():
                path, inside = (), f"the value {short(axis.rows[row][0])}, {inside}"
        found = f"{inside}{elsewhere}{fault.found}"
        return Fault(self.file, at(self.document, "axes", place, *path), found, fault.expected, fault.remedy)
