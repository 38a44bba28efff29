"""How much sooner is a scenario recorded than run live? `python -m tests.bench_record`. The last line is JSON.

Live is what `simulate.py` does: the target alone, then the policy, from sources that remember. Both in this process,
with PyTorch's threads as they are; imports, loading and writing left out. One recording serves any number of runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.record import DEPTH, record_stand_ins
from hilsim.runs.run import Sources, run_both

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
REPEATS = 3


def measure() -> dict[str, float]:
    """Figures of four conversations and of all 24 of the first scenario; the latter once, as they take so long."""
    found = {}
    for name, count, repeats in (("four conversations", "4", REPEATS), ("24 conversations", "null", 1)):
        figures = compared(SCENARIO, [f"workload.count={count}"], repeats)
        found |= {f"{name}, {what}": figure for what, figure in figures.items()}
    return found


def compared(file: Path, overrides: Sequence[str], repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds live and recording, in turns, and how many times faster recording is."""
    setup = load_setup(file, overrides)
    live, recording = [], []
    for _ in range(repeats):
        sources = Sources(setup, remember=True)
        began = time.perf_counter()
        outcome = run_both(setup, sources)
        ran = time.perf_counter()
        transcript = record_stand_ins(setup, sources.stand_ins, DEPTH)
        recording.append(time.perf_counter() - ran)
        live.append(ran - began)
        told = sum(request.output_tokens for request in outcome.baseline.requests)
        assert abs(len(transcript.answer) - told) <= told // 10, "less work would be no speed"
    figures = {"live_s": sorted(live)[repeats // 2], "recording_s": sorted(recording)[repeats // 2]}
    return figures | {"times_faster": figures["live_s"] / figures["recording_s"]}


def main() -> None:
    for scenario in ("orin_8295_greedy", "ethernet", "gumbel"):
        for count in ("4", "null"):
            found = compared(PROJECT / "scenarios" / f"{scenario}.yaml", [f"workload.count={count}"])
            print(f"{scenario:10} count {count:4}", *(f"{name} {value:8.2f}" for name, value in found.items()))
            print(json.dumps({"scenario": scenario, "count": count, **found}))


if __name__ == "__main__":
    main()
