"""All recognisers of slow patterns. Each looks at one exported graph and yields what it finds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.export import ExportedProgram

from hilsim.compiler.pass_time import PassTime, SlowPattern

Recogniser = Callable[[ExportedProgram, PassTime], Iterator[SlowPattern]]
RECOGNISERS: tuple[Recogniser, ...] = ()


def slow_patterns(program: ExportedProgram, clock: PassTime) -> Iterator[SlowPattern]:
    """What all recognisers find in a graph as it was exported, before any rewrite."""
    for recognise in RECOGNISERS:
        yield from recognise(program, clock)
