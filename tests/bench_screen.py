"""How fast is screening? `python -m tests.bench_screen [--million]`. The table is for people, the last line is JSON.

Rounds a second and core of whole screened runs: costs looked up, loop run, of the shipped transcript's 24
conversations. Loops are compiled before the clock starts. `placements_per_s` is of the explorer's usual grid:
configurations screened and measured a second and core. `us_each_N` is of its fine grid (`explore --fine`):
microseconds of one core a configuration, screened, measured and ranked, where there are N of them. With fewer, what
places and policies have in common weighs more. `--million` adds the whole grid.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import replayed, timed_workload
from hilsim.screen.request import ROUNDS
from hilsim.screen.screening import screened
from hilsim.study.explorer import prepare, question_of
from hilsim.study.placements import TimedConfigurations
from hilsim.study.screen_space import Screen

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
POLICIES = {
    "target_only": "{name: target_only}",
    "sync_1": "{name: sync, draft_tokens: 1}",
    "sync_5": "{name: sync, draft_tokens: 5}",
    "adaptive": "{name: adaptive}",
    "pearl": "{name: pearl, draft_tokens: 5}",
}
SECONDS = 0.5  # at least, of every policy
REPEATS = 3
SIZES, MILLION = (1_000, 10_000, 100_000), 1_130_000
PER_POLICY = 560  # configurations of one target and one policy of the fine grid, about
AT_FIRST = 7  # every seventh policy: some of each kind


def measure() -> dict[str, float]:
    """Rounds a second of every policy, configurations a second of the explorer on one core, and what each costs."""
    found = {f"{name}_rounds_per_s": rounds_per_s(policy) for name, policy in POLICIES.items()}
    return {**found, "placements_per_s": placements_per_s(), **us_each(SIZES)}


def rounds_per_s(policy: str) -> float:
    """The best of several stretches."""
    setup = replayed(load_setup(SCENARIO, ["workload.count=24", f"policy={policy}"]))
    timed, wanted = timed_workload(setup), setup.scenario.policy
    rounds = int(screened(setup, wanted, timed.answers, timed.tables).requests[:, ROUNDS].sum())
    best = 0.0
    for _ in range(REPEATS):
        runs, began = 0, time.process_time()
        while time.process_time() - began < SECONDS:
            screened(setup, wanted, timed.answers, timed.tables)
            runs += 1
        best = max(best, runs * rounds / (time.process_time() - began))
    return best


def placements_per_s() -> float:
    """All configurations of the target on one unit of the scenario's, over all drafts, links and policies."""
    only = ["target.chip=sa8295p", "target.unit=gpu", "target.precision=w4"]
    screen = Screen(prepare(question_of(SCENARIO, only=only)))
    screen.of_target(0, 0)  # cost tables are made once a run of the explorer
    began = time.process_time()
    found = screen.of_target(0, 0)
    return len(found) / (time.process_time() - began)


def us_each(sizes: Sequence[int]) -> dict[str, float]:
    """Microseconds a configuration of the fine grid, by how many there are."""
    question = question_of(SCENARIO, fine=True, yes=True)
    ready = prepare(question)
    Screen(replace(ready, policies=ready.policies[::AT_FIRST])).of_target(0, 0)  # loops are compiled by then
    found = {}
    for size in sizes:
        few = replace(ready, policies=ready.policies[:: max(1, len(ready.policies) * PER_POLICY // size)])
        screen, parts, count = Screen(few), [], 0
        began = time.process_time()
        for target in range(len(few.sites[0])):
            parts.append(screen.of_target(0, target))
            count += len(parts[-1])
            if count >= size:
                break
        question.rank(TimedConfigurations.joined(parts))
        found[f"us_each_{count}"] = 1e6 * (time.process_time() - began) / count
    return found


def main() -> None:
    found = measure() | (us_each([MILLION]) if "--million" in sys.argv[1:] else {})
    for name, value in found.items():
        print(f"{name:28} {value:16,.1f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
