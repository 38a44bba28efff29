"""How fast is the event path? `python -m tests.bench_events`. The table is for people, the last line is JSON.

Rounds a second in replay, where logits come from a transcript and nothing but events is left: of `sync` at four draft
lengths, `async` and `pearl`, with every span kept; after `unkept`, where nothing is. `of_bare` is the share of what
bare SimPy does: as many holds of a `simpy.Resource` and as many delays a round, and nothing else. `sharing`
is `sync_5` with shared memories and nothing else on the chips; `company` has two sessions that take turns, and a driver
monitor, cameras and drawing that share units and memories. Periods of the cameras are holds of bare SimPy as well, and
releases are delays: so `of_bare` compares events, of which `company` has many more a round.
Seconds are those of this process alone, as other work on the machine would be counted otherwise.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import simpy

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.record import recorded
from hilsim.sim.run import simulate, turns_of
from hilsim.sim.trace import Trace
from hilsim.sources.columns import COLUMNS, Transcript
from hilsim.sources.transcript import TranscriptSource, save
from hilsim.text.tokenizer import load_tokenizer

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
POLICIES = {
    **{f"sync_{count}": f"{{name: sync, draft_tokens: {count}}}" for count in (1, 2, 5, 7)},
    "async": "{name: async}",
    "pearl": "{name: pearl, draft_tokens: 5}",
}
COMPANY = (
    "workload.talkers=2",
    "background=[{name: monitor, chip: sa8295p, unit: npu, period_ms: 33.3, jitter_ms: 2, work: {ms: 2, megabytes: 8}},"
    " {name: cameras, chip: drive-orin-x, period_ms: 33.3, gigabytes_per_s: 60, duty: 0.5},"
    " {name: drawing, chip: drive-orin-x, unit: gpu, period_ms: 16.7, work: {ms: 2, megabytes: 100}}]",
)
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (policy, ()) for name, policy in POLICIES.items()},
    "sharing": (POLICIES["sync_5"], ("sharing={}",)),
    "company": (POLICIES["sync_5"], COMPANY),
}
TIMES = 24  # the scenario's four conversations, over and over
REPEATS = 5


def longer(talk: Transcript, times: int, requests: int) -> Transcript:
    """The same conversations told several times, under numbers that go on; the workload counts `requests` in them."""
    further = {
        "index": requests,
        "conversation": int(talk.conversation.max()) + 1,
        "prompt_end": len(talk.prompt),
        "answer_end": len(talk.answer),
    }

    def column(name: str) -> np.ndarray:
        once, more = getattr(talk, name), further.get(name, 0)
        return np.concatenate([np.where(once < 0, once, once + more * turn) if more else once for turn in range(times)])

    return replace(talk, **{name: column(name) for name in COLUMNS})


def bare_rounds_per_s(rounds: int, holds: float, delays: float) -> float:
    """Rounds a second of SimPy alone, which hold a resource and let time pass so many times each, on average."""
    env = simpy.Environment()
    units = [simpy.Resource(env) for _ in range(4)]

    def process() -> Generator[simpy.Event, None, None]:
        held = passed = 0
        for done in range(1, rounds + 1):
            while held < holds * done:
                held += 1
                with units[held % len(units)].request() as turn:
                    yield turn
                    yield env.timeout(10)
            while passed < delays * done:
                passed += 1
                yield env.timeout(10)

    env.process(process())
    began = time.process_time()
    env.run()
    return rounds / (time.process_time() - began)


def replay(setup: Setup, source: TranscriptSource, *, keep: bool) -> tuple[Trace, float]:
    """A run and how many seconds it took."""
    began = time.process_time()
    trace = simulate(setup, source, keep=keep)
    return trace, time.process_time() - began


def measure() -> dict[str, float]:
    """Rounds a second of every policy, kept and not, and both as shares of bare SimPy; the best of several runs."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        talk, file = recorded(load_setup(SCENARIO), 16), Path(folder) / "talk.npz"
        save(talk, file)
        for name, (policy, company) in RUNS.items():
            logits = f"logits={{source: transcript, file: {file}}}"
            once = load_setup(SCENARIO, [logits, f"policy={policy}", *company])
            assert once.target.stand_in is not None
            spoken = longer(talk, TIMES, sum(map(len, turns_of(once))))
            setup = replace(once, conversations=once.conversations * TIMES)
            source = TranscriptSource(spoken, load_tokenizer(once.target.stand_in))
            found |= {f"{name}_{what}": figure for what, figure in measured(setup, source).items()}
    return found


def measured(setup: Setup, source: TranscriptSource) -> dict[str, float]:
    """One policy: every kind of run in turn, so that all see the same machine."""
    trace, _ = replay(setup, source, keep=True)
    rounds, spans = len(trace.rounds), len(trace.spans)
    assert sum(closed.emitted for closed in trace.rounds) == sum(told.output_tokens for told in trace.requests)
    tasks = trace.tasks.values()
    holds = spans + sum(task.finished for task in tasks if task.track.endswith(".memory"))
    delays = sum(span.track in trace.directions for span in trace.spans) + sum(task.finished for task in tasks)
    best = dict.fromkeys(("rounds_per_s", "unkept_rounds_per_s", "bare_rounds_per_s"), 0.0)
    for _ in range(REPEATS):
        kept, kept_s = replay(setup, source, keep=True)
        assert len(kept.spans) == spans, "less work would be no speed"
        _, unkept_s = replay(setup, source, keep=False)
        bare = bare_rounds_per_s(rounds, holds / rounds, delays / rounds)
        for what, figure in zip(best, (rounds / kept_s, rounds / unkept_s, bare), strict=True):
            best[what] = max(best[what], figure)
    return {
        **best,
        "of_bare": best["rounds_per_s"] / best["bare_rounds_per_s"],
        "unkept_of_bare": best["unkept_rounds_per_s"] / best["bare_rounds_per_s"],
    }


def main() -> None:
    figures = measure()
    for name, value in figures.items():
        print(f"{name:32} {value:12,.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
