"""The digest of a set-up: a short hash of everything that decides the result of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from hilsim.describe.catalogue import is_file, located
from hilsim.describe.figure import Record
from hilsim.describe.policy import Own, Ssd
from hilsim.describe.setup import AS_PREDICTED, Setup
from hilsim.files import pieces
from hilsim.unchanged import made_once


def digest(setup: Setup) -> str:
    """SHA-256 (16 digits) over the scenario, every record it names, the conversations and all other input files."""
    named = (setup.draft.model if setup.draft is not None else None, setup.link, setup.profile)
    records: list[Record] = [setup.scenario, setup.target.model, *setup.chips.values()]
    records += [record for record in named if record is not None]
    records += [placed.link for placed in setup.further_links]
    records += [] if setup.scenario.faults is None else [setup.scenario.faults]
    for name, levels in setup.levels.items():
        thermal = setup.chips[name].thermal
        records += [*([] if thermal is None else [thermal]), *levels]
    found = hashlib.sha256("\n".join(record.model_dump_json() for record in records).encode())
    found.update("\n".join(conversation.all_text for conversation in setup.conversations).encode())
    found.update(repr([part.compiled for part in setup.parts]).encode())
    factors = [role.factors for role in setup.roles.values()], [network.factor for network in setup.networks]
    if any(one != AS_PREDICTED for one in factors[0]) or any(one != 1 for one in factors[1]):
        found.update(repr(factors).encode())
    for file in files_of(setup):
        found.update(file.read_bytes() if file.is_file() else b"")
    for placed in (setup.target, setup.draft):
        folder = None if placed is None else placed.stand_in
        for file in sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ():
            if file.suffix in (".json", ".jinja", ".safetensors") and file.is_file():
                found.update(file.name.encode() + digest_of_file(file))
    return found.hexdigest()[:16]


@made_once(64)
def digest_of_file(file: Path) -> bytes:
    """SHA-256 of a file's bytes."""
    found = hashlib.sha256()
    for piece in pieces(file):
        found.update(piece)
    return found.digest()


def files_of(setup: Setup) -> Iterator[Path]:
    """Files that decide what happens and are no records of ours: a transcript, rules and the user's own code."""
    scenario, named_in = setup.scenario, Path(setup.file)
    if scenario.logits.source == "transcript":
        yield located(scenario.logits.file, named_in)
    if isinstance(scenario.policy, Own):
        yield located(scenario.policy.function.rpartition(":")[0], named_in)
    if isinstance(scenario.policy, Ssd) and scenario.policy.forecasts is not None:
        folder = located(scenario.policy.forecasts, named_in)
        yield from (folder / name for name in ("config.json", "model.safetensors"))
    if scenario.compile.profile is not None and is_file(scenario.compile.profile):
        yield located(scenario.compile.profile, named_in)
    for network in scenario.networks:
        name = network.module.rpartition(":")[0]
        if name.endswith(".py"):
            yield located(name, named_in)
