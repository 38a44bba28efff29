"""A search for inputs that break the program: fresh ones for a stated time; each failure is shrunk and kept once."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.found import FOUND, keep
from tests.fuzz.kind import Input, Kind
from tests.fuzz.shrink import MOST_TRIES, shrunk
from tests.fuzz.worker import Outcome, Worker, name_of

TRIES_OF_SLOW = 4  # each takes as long as a hang may


@dataclass
class Search:
    """What was tried and found so far."""

    kinds: Sequence[Kind]
    seed: int
    notify: Callable[[str], None]
    progress: Callable[[Search], None] = lambda _: None  # called after every input
    folder: Path = FOUND
    tried: Counter[str] = field(default_factory=Counter)  # by kind
    refused: int = 0
    found: dict[str, Path] = field(default_factory=dict)  # by kind and cause: the file that was kept

    def run(self, seconds: float) -> None:
        """Search until the time is over, or until Ctrl-C, which is raised; `found` is whole at any moment."""
        ends = time.monotonic() + seconds
        draws = random.Random(f"{self.seed} order")
        weights = [kind.count for kind in self.kinds]
        with tempfile.TemporaryDirectory(prefix="hilsim-fuzz-") as folder, Worker() as worker:
            while time.monotonic() < ends:
                (kind,) = draws.choices(self.kinds, weights)
                made = kind.make(random.Random(f"{self.seed} {kind.name} {self.tried[kind.name]}"))
                outcome = self.read(worker, kind, made, Path(folder))
                self.tried[kind.name] += 1
                self.refused += outcome.what == "refused"
                if not outcome.fine:
                    self.failed(worker, kind, made, outcome, Path(folder))
                self.progress(self)

    def read(self, worker: Worker, kind: Kind, made: Input, folder: Path) -> Outcome:
        """What becomes of one input."""
        name, data = made
        outcome = worker.read(name_of(kind.reader), folder / name, data)
        (folder / name).unlink()
        return outcome

    def failed(self, worker: Worker, kind: Kind, made: Input, outcome: Outcome, folder: Path) -> None:
        """Shrink a failure and keep it, unless one of the same cause is known."""
        known = f"{kind.name}: {outcome.cause}"
        if known in self.found:
            return
        self.notify(f"{kind.name}: {outcome.what}: {outcome.text[:200]}")
        name, data = made

        def fails(candidate: bytes) -> bool:
            again = self.read(worker, kind, (name, candidate), folder)
            return not again.fine and again.cause == outcome.cause

        tries = TRIES_OF_SLOW if outcome.what == "hang" else MOST_TRIES
        least = shrunk(data, fails, tries) if fails(data) else data  # one that fails now and then is kept whole
        self.found[known] = keep(kind, (name, least), outcome, self.folder)
        self.notify(f"  {len(data)} bytes, shrunk to {len(least)}: {self.found[known]}")
