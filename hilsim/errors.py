"""The errors that hilsim raises for faults a user can correct; any other exception is a bug in hilsim.

Every message has the place, what was found, what was expected and a remedy. `Fault` is one such
message; an error carries all that were found, so that a file can be corrected in one go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, in the four parts that every message of hilsim has."""

    file: str
    place: str  # the path inside the file ("target.unit"), a line, or "" for the file as a whole
    found: str
    expected: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        remedy = f" {self.remedy}" if self.remedy else ""
        if not self.expected:  # an option: `found` is the sentence about it
            return f"{where} {self.found}{remedy}"
        return f"{where}: found {self.found}; expected {self.expected}.{remedy}"

    def at(self, place: str) -> Fault:
        """The same fault where it matters to the reader: the place that named the thing at fault."""
        return replace(self, place=place)


class Misfit(ValueError):
    """A value that does not fit, as data. Validators raise it; the loader makes it a `Fault` with file and place.

    `path` leads from the record that raises it to the value.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = "", path: tuple[str | int, ...] = ()):
        super().__init__(found, expected, remedy)
        self.found, self.expected, self.remedy, self.path = found, expected, remedy, path

    def __str__(self) -> str:
        return f"{self.found}; {self.expected}" if self.expected else self.found

    def fault(self, file: str, place: str, otherwise: str) -> Fault:
        """The fault in a file; `otherwise` is expected where the value itself names nothing."""
        return Fault(file, place, self.found, self.expected or otherwise, self.remedy)


class Misfits(ValueError):
    """Several misfits of one record."""

    def __init__(self, misfits: Sequence[Misfit]):
        super().__init__(tuple(misfits))
        self.misfits = tuple(misfits)


class HilsimError(Exception):
    """An error that the user can fix; commands print it and exit with status 2."""


class InputError(HilsimError):
    """Files, arguments or checkpoints at fault; holds every fault found, not just the first."""

    def __init__(self, faults: Sequence[Fault]):
        super().__init__(tuple(faults))

    @property
    def faults(self) -> tuple[Fault, ...]:
        faults: tuple[Fault, ...] = self.args[0]
        return faults

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class ScenarioError(InputError):
    """A scenario, chip, link or model description is at fault."""


class CheckpointError(InputError):
    """A stand-in checkpoint folder is at fault."""


class PlacementError(HilsimError):
    """The models do not fit where the scenario puts them; the text is the verdict with its ledger."""

    def __init__(self, text: str):
        super().__init__(text)


class CompileError(HilsimError):
    """A compiler refuses a model where the scenario puts it; holds one text a model, each with its reasons."""

    def __init__(self, texts: Sequence[str]):
        super().__init__(tuple(texts))

    def __str__(self) -> str:
        return "\n".join(self.args[0])


class MemoryShort(HilsimError):
    """The machine, or a limit set for the process, has no memory for something that is needed."""

    def __init__(self, what: str, found: str, remedy: str):
        super().__init__(what, found, remedy)

    def __str__(self) -> str:
        what, found, remedy = self.args
        return f"memory: found no room for {what} ({found}); expected it to fit. {remedy}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text that has any; the name of its class where there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# Messages of allocators, loaders and the dynamic linker when memory has run out.
SHORTAGES = ("allocate memory", "not enough memory", "failed to map segment", "std::bad_alloc", "out of memory")
LESS = (
    "Raise the limit (ulimit -v unlimited), or need less: --set context_tokens=512, --set logits.dtype=float32, "
    "or a smaller stand_in such as --set target.stand_in=models/target."
)


def memory_short(error: BaseException, what: str, remedy: str = LESS) -> MemoryShort | None:
    """The error as a `MemoryShort` where memory ran out; else None."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not any(phrase in text.lower() for phrase in SHORTAGES):
        return None
    size = re.search(r"(?:allocate|alloc\w*) ([\d.,]+ ?(?:bytes|[KMGTPE]i?B))", text)
    return MemoryShort(what, f"{size[1]} more were requested" if size else text[:120] or "no more available", remedy)


class SimulationError(HilsimError):
    """A run met a condition that the chips described cannot live through."""


class TooShallow(SimulationError):
    """A replay needed more of the draft's continuation than was recorded."""

    def __init__(self, depth: int, needed: int):
        super().__init__(depth, needed)

    def __str__(self) -> str:
        depth, needed = self.args
        return (
            f"transcript: found continuations of {depth} tokens; expected at least {needed}. "
            "Record with a larger --depth, or draft fewer tokens ahead."
        )


class BrokenLogits(SimulationError):
    """A model gave logits that are not finite: no token can be chosen by them, and no guarantee given."""

    def __init__(self, role: str, request: int, position: int, token: int, value: float, count: int, vocabulary: int):
        super().__init__(role, request, position, token, value, count, vocabulary)

    def __str__(self) -> str:
        role, request, position, token, value, count, vocabulary = self.args
        more = f" (and {count - 1} more of {vocabulary})" if count > 1 else f" (of {vocabulary})"
        return (
            f"{role}: request {request}, position {position}: found {value} as the logit of token {token}{more}; "
            f"expected finite logits. The checkpoint behind {role}.stand_in is damaged or overflows in its number "
            "format: convert it again (bfloat16 or float32 where float16 overflowed), or name another."
        )


class HeadTooShort(SimulationError):
    """A draft head that proposes a round's tokens in one pass was asked for more of them."""

    def __init__(self, kind: str, positions: int, asked: int):
        super().__init__(kind, positions, asked)

    def __str__(self) -> str:
        kind, positions, asked = self.args
        return (
            f"draft.stand_in: found a {kind} head of {positions} positions, asked for token {asked} after the verified "
            f"ones; expected at most {positions}. Lower the policy's drafted tokens, or take a head of more positions."
        )


class OutOfMemory(SimulationError):
    """An allocation during the run went past a chip's cap."""

    def __init__(self, chip: str, what: str, needed_bytes: int, free_bytes: int):
        super().__init__(chip, what, needed_bytes, free_bytes)

    def __str__(self) -> str:
        chip, what, needed, free = self.args
        return (
            f"{chip}: {what} needs {needed} bytes but {free} are free. "
            "Lower context_tokens or workload.talkers, or place a model elsewhere."
        )


class ChipLost(SimulationError):
    """A board, or its recording, that no longer answers, with nothing set to replace it.

    `cost_ns` is what it took to notice.
    """

    def __init__(self, unit: str, kind: str, found: str, remedy: str, cost_ns: int = 0):
        super().__init__(unit, kind, found, remedy, cost_ns)

    @property
    def cost_ns(self) -> int:
        cost: int = self.args[4]
        return cost

    def __str__(self) -> str:
        unit, kind, found, remedy, _ = self.args
        return f"{unit}: {kind}: {found}. {remedy}"
