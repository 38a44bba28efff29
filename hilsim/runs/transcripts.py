"""Transcripts for those who ask for many runs: shipped ones, those kept from earlier, or recorded now and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from hilsim.describe.catalogue import located
from hilsim.describe.scenario import Recorded
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.files import kept_folder
from hilsim.places import DATA
from hilsim.runs.record import DEPTH, recorded, require_recordable
from hilsim.sources.recorded_with import matches, recorded_with, require_same
from hilsim.sources.transcript import load, load_header, save

SHIPPED = DATA / "scenarios" / "transcripts"


def transcript_for(setup: Setup, say: Callable[[str], None] = lambda words: None) -> Path:
    """A transcript of what a scenario's models say. Raises `InputError` where it cannot be one."""
    if isinstance(setup.scenario.logits, Recorded):
        file = located(setup.scenario.logits.file, Path(setup.file))
        require_same(load(file), setup, file)
        return file
    require_recordable(setup)
    name = hashlib.sha256(json.dumps(recorded_with(setup), sort_keys=True, default=str).encode()).hexdigest()[:24]
    own = kept_folder() / "transcripts" / f"{name}.npz"
    for file in (own, *sorted(SHIPPED.glob("*.npz"))):
        if fits(file, setup):
            return file
    transcript = recorded(setup, DEPTH, say)
    own.parent.mkdir(parents=True, exist_ok=True)
    save(transcript, own)
    return own


def recordable(setup: Setup) -> bool:
    """Whether a transcript can stand for what a set-up says."""
    try:
        require_recordable(setup)
    except InputError:
        return False
    return True


def fits(file: Path, setup: Setup) -> bool:
    """Whether a file is a whole transcript of what this scenario says."""
    try:
        return matches(load_header(file), setup)
    except InputError:
        return False
