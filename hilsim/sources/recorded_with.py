"""The settings that a transcript was recorded with, and whether they are those of a scenario."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hilsim.describe.decoding import MATCHING
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.files import pieces
from hilsim.sources.columns import Transcript
from hilsim.sources.transcript_checks import token_faults, turn_faults

DIGITS = 16  # of a digest in a header


def recorded_with(setup: Setup) -> dict[str, Any]:
    """Every setting that the recorded tokens depend on, as the header stores it.

    At temperature 0 both chips take their likeliest tokens and no distribution crosses the link, so neither payload nor
    the place of the test change a token (`Choices` returns before it looks at them). Where no model drafts it does not
    matter which draft was recorded, unless the rule couples the target's token to the draft's distribution.
    """
    scenario, workload = setup.scenario, setup.scenario.workload
    cold = scenario.sampling.temperature == 0
    found = {
        "seed": scenario.seed,
        "accept": scenario.accept.model_dump(),
        "payload": None if cold else scenario.payload.model_dump(),
        "verify_at": None if cold else scenario.verify_at,
        "sampling": scenario.sampling.model_dump(),
        "context_tokens": scenario.context_tokens,
        "max_new_tokens": getattr(workload, "max_new_tokens", None),
        "conversations": [hashlib.sha256(one.all_text.encode()).hexdigest()[:DIGITS] for one in setup.conversations],
        "target.stand_in": folder_digest(setup.target.stand_in),
        "draft.stand_in": None if setup.draft is None else folder_digest(setup.draft.stand_in),
        "target.kv_cache": setup.target.placement.kv_cache,
        "draft.kv_cache": None if setup.draft is None else setup.draft.placement.kv_cache,
    }
    if setup.draft is None and scenario.accept.rule in MATCHING:
        del found["draft.stand_in"], found["draft.kv_cache"]
    return found


def folder_digest(folder: Path | None) -> str | None:
    """Digest of the files of a checkpoint folder that decide its tokens."""
    if folder is None:
        return None
    files = [file for file in sorted(folder.glob("*")) if file.suffix in (".json", ".jinja", ".safetensors")]
    return digest_of_files(tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@lru_cache(maxsize=64)
def digest_of_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Digest of files in this state: path, time of change, size. Read once, however many headers are compared."""
    found = hashlib.sha256()
    for file, _, _ in files:
        found.update(file.name.encode())
        for piece in pieces(file):
            found.update(piece)
    return found.hexdigest()[:DIGITS]


def require_same(transcript: Transcript, setup: Setup, file: Path) -> None:
    """Raises `InputError` with every setting that differs from when the transcript was recorded."""
    faults = []
    for name, (recorded, wanted) in differences(transcript.header, recorded_with(setup)).items():
        remedy = "Record this scenario, or set the value back."
        faults.append(
            Fault(str(file), name, f"recorded with {recorded!r}", f"{wanted!r}, as {setup.file} says", remedy)
        )
    faults = faults or [*turn_faults(transcript, setup, file), *token_faults(transcript, setup, file)]
    if faults:
        raise InputError(faults)


def matches(header: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a transcript with this header serves a scenario whose tokens are `recorded_with` these settings."""
    return not differences(header, wanted)


def differences(header: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which a header differs from what is wanted: recorded and wanted, by name.

    A transcript of more conversations serves their first ones: requests are counted from the start.
    """
    recorded = dict(header["recorded_with"])
    recorded["conversations"] = recorded["conversations"][: len(wanted["conversations"])]
    return {name: (recorded.get(name), value) for name, value in wanted.items() if recorded.get(name) != value}
