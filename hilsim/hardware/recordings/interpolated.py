"""Durations of steps that were not recorded, interpolated linearly between medians of those that were."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from hilsim.cost.step import passes, straight
from hilsim.hardware.recordings.entries import Entry
from hilsim.hardware.wire.exchange import ModelFacts

Points = Sequence[tuple[int, float]]


class Durations:
    """Medians by model, rows and cached positions, for every role and purpose; warm-up runs do not count.

    Between two fills of the cache recorded with the same rows a step lies on the straight line, beyond the outermost it
    takes what that took. Between two counts of rows it lies on the line between their times at its fill; fewer rows
    than any recorded take what the fewest took, and more go on along the last line, if that rises. Where only one count
    is known no time is given for more. A model with compiled widths computes whole widths, so rows are rounded up to
    those first.
    """

    def __init__(self, entries: Iterable[Entry], models: Mapping[str, ModelFacts]):
        took: dict[str, dict[int, dict[int, list[int]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        self.widths = {name: facts.widths for name, facts in models.items()}
        for entry in entries:
            if entry.duration_ns is not None and entry.use != "warm-up":
                took[entry.model][self.computed(entry.model, entry.rows)][entry.cached].append(entry.duration_ns)
        self.lines: dict[str, list[tuple[int, Points]]] = {
            model: [(rows, [(cached, median(all_ns)) for cached, all_ns in sorted(fills.items())])
                    for rows, fills in sorted(by_rows.items())]
            for model, by_rows in took.items()
        }  # fmt: skip

    def computed(self, model: str, rows: int) -> int:
        """Rows computed, padded to the compiled widths."""
        return sum(width for _, width in passes(rows, self.widths.get(model)))

    def duration_ns(self, model: str, rows: int, cached: int) -> int | None:
        """The duration of such a step in ns, rounded up; None where the recording has too few steps."""
        lines, rows = self.lines.get(model, []), self.computed(model, rows)
        if not lines or (len(lines) == 1 and rows > lines[0][0]):
            return None
        points = [(known, straight(fills, cached)) for known, fills in lines]
        if rows > points[-1][0]:
            (before, before_ns), (last, last_ns) = points[-2:]
            found = last_ns + max(0.0, last_ns - before_ns) / (last - before) * (rows - last)
        else:
            found = straight(points, rows)
        # A hair below the ceiling, as in units.ns.
        return math.ceil(found - 1e-6)
