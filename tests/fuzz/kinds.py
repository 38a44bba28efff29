"""Every kind of input that hilsim reads from outside. A new kind of file gets a line in one of these modules."""

from __future__ import annotations

from tests.fuzz import (
    agents,
    command_lines,
    descriptions,
    frames,
    programs,
    recordings,
    tables,
    transcripts,
    weights,
)
from tests.fuzz.kind import Kind

MODULES = (descriptions, tables, weights, transcripts, recordings, agents, frames, programs, command_lines)
KINDS: dict[str, Kind] = {kind.name: kind for module in MODULES for kind in module.KINDS}
