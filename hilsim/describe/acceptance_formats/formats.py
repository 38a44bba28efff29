"""The formats in which acceptance is read, how each is recognised, and a file read by the one that knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.acceptance_formats import (
    genie,
    llama_cpp,
    profile_json,
    round_lists,
    sglang,
    tensorrt_llm,
    vllm,
)
from hilsim.describe.acceptance_formats.logged import Found, LoggedFile
from hilsim.describe.acceptance_profile import AcceptancePair, AcceptanceProfile, library_profile
from hilsim.describe.catalogue import located
from hilsim.describe.complaints import validated
from hilsim.describe.names import one_of
from hilsim.describe.strict_yaml import parse
from hilsim.errors import Fault, ScenarioError
from hilsim.files import exists, read_text

ENDINGS = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".log", ".txt", ".prom")


@dataclass(frozen=True)
class Format:
    """A format: what a message calls a file of it, and its functions."""

    title: str
    is_it: Callable[[LoggedFile], bool]
    read: Callable[[LoggedFile], Found]


# The first that recognises a file reads it: those with names of their own come before lists that people made.
FORMATS = (
    Format("a speculation_profile.json", profile_json.is_profile, profile_json.read),
    Format("a profile of Genie", genie.is_profile, genie.read),
    Format("iteration statistics of TensorRT-LLM", tensorrt_llm.is_statistics, tensorrt_llm.read),
    Format("a report of vLLM's benchmark", vllm.is_benchmark, vllm.read_benchmark),
    Format("gauges of SGLang (Prometheus)", sglang.is_gauges, sglang.read_gauges),
    Format("counters of vLLM (Prometheus)", vllm.is_counters, vllm.read_counters),
    Format("a log of vLLM", vllm.is_log, vllm.read_log),
    Format("a log of SGLang", sglang.is_log, sglang.read_log),
    Format("the counts of llama-speculative", llama_cpp.is_counts, llama_cpp.read_counts),
    Format("a log of llama.cpp's server", llama_cpp.is_server, llama_cpp.read_server),
    Format("accepted lengths by request", round_lists.is_lists, round_lists.read),
)


def load_acceptance(
    value: str, named_in: Path, *, workload: str | None = None, drafted: int | None = None
) -> AcceptanceProfile:
    """A profile by its name in the library, or from a file of any format. Raises `ScenarioError`.

    `workload` chooses among those of a file with several; `drafted` is the number of drafts a round where a format does
    not have it.
    """
    file = file_meant(value, named_in)
    if file is None:
        if drafted is not None or workload is not None:
            key = "drafted" if drafted is not None else "workload"
            expected = "nothing, as a profile of the library has it"
            raise ScenarioError([Fault(str(named_in), f"logits.{key}", str(drafted or workload), expected)])
        return library_profile(value, named_in)
    if file.suffix in (".yaml", ".yml"):
        return of_yaml(file, workload, drafted)
    if workload is not None:
        raise ScenarioError([Fault(str(named_in), "logits.workload", repr(workload), "nothing, with a file of one")])
    return of_tool(file, drafted)


def file_meant(value: str, named_in: Path) -> Path | None:
    """The file that a value names; None of a name of the library."""
    if value.endswith(ENDINGS):
        return located(value, named_in)
    path = located(value, named_in)
    return path if exists(path) and path.is_file() else None


def of_yaml(file: Path, workload: str | None, drafted: int | None) -> AcceptanceProfile:
    """A profile of a file as the library has them."""
    pair = validated(AcceptancePair, parse(read_text(file), str(file)), str(file))
    if drafted is not None:
        expected = "nothing, as such a file has it"
        raise ScenarioError([Fault(str(file), "logits.drafted", str(drafted), expected)])
    names = list(pair.workloads)
    wanted = names[0] if workload is None and len(names) == 1 else one_of(workload or "", names)
    if wanted not in names:
        found = "nothing" if workload is None else repr(workload)
        expected, remedy = f"one of {', '.join(names)}", "Add logits.workload (or --workload)."
        raise ScenarioError([Fault(str(file), "logits.workload", found, expected, remedy)])
    return pair.profile(wanted)


def of_tool(file: Path, drafted: int | None) -> AcceptanceProfile:
    """A profile of what a tool wrote."""
    text = read_text(file)
    logged = LoggedFile(str(file), text, drafted)
    if not text.strip():
        logged.refuse("", "an empty file", "acceptance in one of the known formats")
    known = next((one for one in FORMATS if one.is_it(logged)), None)
    if known is None:
        if text.lstrip("\ufeff \t\r\n")[:1] == "{":
            _ = logged.objects  # refuses what is cut
        titles = "; ".join(one.title for one in FORMATS)
        remedy = "Was it cut, or is it something else? docs/acceptance.md shows each."
        logged.refuse("", "a file that none of the formats knows", titles, remedy)
    found = known.read(logged)
    return AcceptanceProfile(
        name=file.name,
        title=found.title or f"the pair of {file.name}",
        text=found.text or "text that the file does not name",
        acceptance=found.acceptance,
        temperature=found.temperature,
        rounds=found.rounds,
        kind="measured",
        source=f"{file.name}, {known.title}",
        notes=found.notes,
    )
