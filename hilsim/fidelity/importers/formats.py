"""The formats of logs that are read, how each is recognised by its content, and what the user's statements add.

A device that is stated chooses among those that a file names; a model or runtime that is stated is what a file calls
otherwise. A precision fills what a file does not have, and may not contradict it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.catalogue import is_file, known_as, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.names import KnownName, resolve
from hilsim.errors import Fault, InputError
from hilsim.fidelity.importers import edge_llm, etdump, genie, llama_bench, perf_yaml, plain_table, qnn, trtexec, vllm
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.log import Given, Log, bits_of
from hilsim.files import is_text

ASKED = ("device", "model", "precision")  # what every row must have, and a user can state
COLUMN = {"precision": "weight_bits"}  # where it stands under another name


@dataclass(frozen=True)
class Format:
    """A format: its name for --format, what a message calls a file of it, and its functions.

    `runtime` is that of its rows where the file names none; `uses` are those of OWN that its rows take.
    """

    name: str
    title: str
    is_it: Callable[[Contents], bool]
    read: Callable[[Log], None]
    runtime: str = ""
    uses: tuple[str, ...] = ()


OWN = ("kind", "context", "prompt_width")  # what a user may state that not every format has a use for
# The first that recognises a file reads it: those with names of their own come before tables that people made.
FORMATS = (
    Format("llama-bench", "llama-bench's rows", llama_bench.is_llama_bench, llama_bench.read),
    Format("llama-bench-md", "llama-bench's table (Markdown)", llama_bench.is_markdown, llama_bench.read_markdown),
    Format("genie", "a Genie profile", genie.is_genie, genie.read, "genie/QNN", OWN[1:]),
    Format("qnn", "QNN's profiling events (CSV)", qnn.is_qnn, qnn.read, "QNN", OWN),
    Format("perf-yaml", "an AI-Hub perf.yaml", perf_yaml.is_perf_yaml, perf_yaml.read),
    Format("trtexec-times", "trtexec's times (--exportTimes)", trtexec.is_times, trtexec.read_times, "TensorRT", OWN),
    Format("trtexec-profile", "trtexec's profile (--exportProfile)", trtexec.is_profile, trtexec.read_profile,
           "TensorRT", OWN),
    Format("edge-llm", "a profile of TensorRT Edge-LLM", edge_llm.is_edge_llm, edge_llm.read, "TensorRT Edge-LLM",
           ("context",)),
    Format("vllm", "a report of vLLM's benchmark", vllm.is_vllm, vllm.read),
    Format("etdump", "ExecuTorch's events (ETDump as a table)", etdump.is_etdump, etdump.read, "ExecuTorch", OWN),
    Format("table", "a table of figures", plain_table.is_plain_table, plain_table.read),
)  # fmt: skip
TITLES = tuple(one.title for one in FORMATS)


def format_of(contents: Contents) -> Format | None:
    """The format that recognises a file."""
    return next((one for one in FORMATS if one.is_it(contents)), None)


def named_format(name: str) -> Format:
    """The format of a name. Raises `InputError` where there is none."""
    if (found := next((one for one in FORMATS if one.name == name), None)) is None:
        known = ", ".join(one.name for one in FORMATS)
        raise InputError([Fault("--format", "", repr(name), f"one of {known}")])
    return found


def read_log(contents: Contents, found: Format, given: Given, *, whole: bool = True) -> Log:
    """A log read, its rows completed by what the user states; its faults are with it.

    `whole`: every row needs a device, a model and a precision; without it, a model and what its processor is called.
    """
    log = Log(contents, given)
    try:
        found.read(log)
    except InputError as error:
        log.faults += error.faults
    if not log.rows and not log.faults:
        log.fault("", f"{found.title} without a row", "at least one measurement")
    complete(log, found.title, found.runtime, whole=whole)
    return log


def complete(log: Log, title: str, runtime: str = "", *, whole: bool = True) -> None:
    """Complete the rows by what the user states, and demand what is missing; `title` is what their file is called."""
    given = log.given
    require_one(log)
    devices = {cells["device"] for _, cells in log.rows if cells.get("device")}
    meant = devices_meant(given.device, devices) if given.device is not None else devices
    if devices and not meant:
        named = ", ".join(sorted(devices)[:8])
        log.faults.append(Fault("--device", "", f"{given.device}, of which the file has no row", f"one of {named}"))
    seen: Counter[tuple[int, str]] = Counter()
    for line, cells in log.rows:
        if cells.get("hardware"):
            cells["origin"] = title
        if cells.get("device") and cells["device"] not in meant:
            cells["forbidden"] = "it is of another device"
        elif given.device is not None:
            if cells.get("device") and len(meant) > 1:
                cells["note"] = "; ".join(filter(None, (cells.get("note"), cells["device"])))
            cells["device"] = given.device
        cells["model"] = given.model or cells.get("model", "")
        cells["runtime"] = given.runtime or cells.get("runtime", "") or runtime
        if precision := cells.pop("precision", ""):
            cells["weight_bits"], cells["act_bits"] = bits_of(precision)
        if given.precision is not None:
            stated = cells.get("weight_bits") and f"{cells['weight_bits']}/{cells.get('act_bits', '')}"
            wanted = bits_of(given.precision)
            require_same(log, line, cells, f"--precision {given.precision}", stated, "/".join(wanted))
            cells["weight_bits"], cells["act_bits"] = wanted
        if given.unit is not None:
            require_same(log, line, cells, f"--unit {given.unit}", cells.get("primary_unit", "").lower(), given.unit)
            cells["primary_unit"] = given.unit
        for name, number in (("params_b", given.params_b), ("gmacs", given.gmacs)):
            if number is not None:
                cells[name] = f"{number:g}"
        cells["source"] = cells.get("source", "") or title.removeprefix("a ")
        cells.setdefault("forbidden", "")
        seen[line, cells["kind"]] += 1
        again = f" ({seen[line, cells['kind']]})" if seen[line, cells["kind"]] > 1 else ""
        file = Path(log.contents.file).name
        cells.setdefault("case_id", f"{file}, line {line}, {cells['kind']}{again}")
        if not all(map(is_text, cells.values())):
            log.fault(f"line {line}", "half a character (a lone surrogate)", "text")
    if not log.faults:
        require_named(log, title, whole)


def require_one(log: Log) -> None:
    """Refuse one name, or one size, for rows that the file tells apart."""
    models, runtimes = ({cells[of] for _, cells in log.rows if cells.get(of)} for of in ("model", "runtime"))
    stated = (
        ("--model", log.given.model, models), ("--params", log.given.params_b, models),
        ("--gmacs", log.given.gmacs, models), ("--runtime", log.given.runtime, runtimes),
    )  # fmt: skip
    for option, value, among in stated:
        if value is not None and len(among) > 1:
            found = f"{value} beside a file with {', '.join(sorted(among)[:8])}"
            log.faults.append(Fault(option, "", found, "rows of one", "Import the rows of each by themselves."))


def require_same(log: Log, line: int, cells: dict[str, str], option: str, stated: str | None, wanted: str) -> None:
    """Refuse an option that contradicts what the file states of a row that is used."""
    if stated and stated != wanted and not cells.get("forbidden"):
        log.fault(f"line {line}", f"{option} beside {stated}", "what the file states, or nothing")


def devices_meant(stated: str, named: Collection[str]) -> set[str]:
    """Which of a file's devices a spelling means: those of that name, else those that carry that chip."""
    if exact := {one for one in named if resolve(stated, [KnownName(one)], "chip")}:
        return exact
    name = stated.partition("@")[0]
    chip = written_chip(name, Path("--device")) if is_file(name) else known_as(name, "chip", Chip)
    carried = {one: known_as(one, "chip", Chip) for one in named}
    return set() if chip is None else {one for one, of in carried.items() if of is not None and of.name == chip.name}


def require_named(log: Log, title: str, whole: bool) -> None:
    """A fault that names every option whose value a usable row of the file lacks."""
    usable = [cells for _, cells in log.rows if not cells["forbidden"]]
    lacking = [name for name in ASKED if any(not cells.get(COLUMN.get(name, name)) for cells in usable)]
    anonymous = any(not cells.get("device") and not cells.get("hardware") for cells in usable)
    if not lacking or not (whole or "model" in lacking or anonymous):
        return
    processors = sorted({cells["hardware"] for cells in usable if cells.get("hardware")})
    called = f" ({', '.join(processors)} is what its processor is called)" if processors else ""
    options = " ".join(f"--{name} NAME" for name in lacking)
    log.fault(
        "", f"{title} without a {', a '.join(lacking)}{called}", f"them stated by {options}",
        f"Use: python -m hilsim import {shlex.quote(log.contents.file)} {options}",
    )  # fmt: skip
