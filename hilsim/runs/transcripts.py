"""Transcripts for many runs of one scenario: shipped ones, cached ones, or recorded now and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilsim.caches import FILE_MODE, is_private_file, private_folder, scratch_folder
from hilsim.describe.catalogue import located
from hilsim.describe.decoding import Greedy, GumbelMatch, TokenIds
from hilsim.describe.policy import TargetOnly
from hilsim.describe.scenario import Live, RecordedLogits
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.places import DATA
from hilsim.progress import Notify, announce, silent
from hilsim.runs.record import DEPTH, recorded, require_by_position, require_recordable
from hilsim.sources.recorded_with import matches, recorded_with, require_same
from hilsim.sources.transcript import TranscriptSource, load, load_header, save
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer

SHIPPED = DATA / "scenarios" / "transcripts"


def transcript_for(setup: Setup, notify: Notify | None = None) -> Path:
    """A transcript of a scenario's tokens. Raises `InputError` where there cannot be one.

    `notify` gets the progress of a recording; without it, one line announces that there is one.
    """
    if isinstance(setup.scenario.logits, RecordedLogits):
        file = located(setup.scenario.logits.file, Path(setup.file))
        require_same(load(file), setup, file)
        return file
    require_recordable(setup)
    return kept(setup, DEPTH, notify)


def kept(setup: Setup, depth: int, notify: Notify | None = None) -> Path:
    """A transcript that is shipped or cached, or recorded now and cached."""
    wanted = recorded_with(setup)
    name = hashlib.sha256(json.dumps(wanted, sort_keys=True, default=str).encode()).hexdigest()[:24]
    own = (private_folder("transcripts") or scratch_folder()) / f"{name}.npz"
    known = [own] if is_private_file(own) else []
    for file in known + sorted(SHIPPED.glob("*.npz")):
        if fits(file, wanted):
            return file
    if notify is None:
        announce(f"recording {setup.scenario.name}: {setup.scenario.accept.rule}, {stand_in_names(setup)} ...")
    transcript = recorded(setup, depth, notify or silent)
    save(transcript, own)
    own.chmod(FILE_MODE)
    return own


def text_of(setup: Setup, notify: Notify | None = None) -> TranscriptSource:
    """The answers of the scenario's target alone, as the stand-in gives them; a shipped or cached transcript, or now.

    At a temperature above 0 they are drawn by Gumbel noise: a rule that leaves the target its own distribution, and
    whose tokens depend on their position alone.
    """
    scenario = setup.scenario
    warm = scenario.sampling.temperature > 0
    alone = scenario.model_copy(
        update={
            "draft": None, "link": None, "policy": TargetOnly(name="target_only"), "logits": Live(source="live"),
            "accept": GumbelMatch(rule="gumbel") if warm else Greedy(), "payload": TokenIds(), "verify_at": "target",
        }
    )  # fmt: skip
    changed = replace(setup, scenario=alone, draft=None, link=None, profile=None)
    require_by_position(changed)
    return TranscriptSource(load(kept(changed, 1, notify)), tokenizer_of(setup))


def recorded_source(setup: Setup, notify: Notify | None = None) -> Callable[[], TranscriptSource]:
    """A factory of sources with all tokens recorded: a run on real hardware has no time to compute them."""
    transcript = load(transcript_for(setup, notify))
    tokenizer = tokenizer_of(setup)
    return lambda: TranscriptSource(transcript, tokenizer)


def tokenizer_of(setup: Setup) -> ChatTokenizer:
    """The tokenizer of the target's stand-in, for a transcript of it."""
    folder = setup.target.stand_in
    assert folder is not None, "text without a stand-in"
    return load_tokenizer(folder, recorded=True)


def stand_in_names(setup: Setup) -> str:
    """The stand-ins by the names of their folders."""
    folders = [role.stand_in for role in setup.roles.values() if role.stand_in is not None]
    return " and ".join(folder.name for folder in folders)


def recordable(setup: Setup) -> bool:
    """Whether a transcript can hold the tokens of a set-up."""
    try:
        require_recordable(setup)
    except InputError:
        return False
    return True


def fits(file: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a file is a readable transcript of tokens that were `recorded_with` these settings."""
    try:
        return matches(load_header(file), wanted)
    except InputError:
        return False
