"""How fast is screening? `python -m tests.bench_screen`. The table is for people, the last line is JSON.

Rounds a second and core of whole screened runs: prices looked up, loop run, of the shipped transcript's 24
conversations. Loops are compiled before the clock starts; `compiling_s` is what that takes once on a machine.
`placements_per_s` is the explorer's: configurations screened and measured a second and core, over all policies that can
be screened.
"""

from __future__ import annotations

import json
import time

from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import replayed, timed_workload
from hilsim.screen.request import ROUNDS
from hilsim.screen.screening import screened
from hilsim.study.explorer import prepare, question_of
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


def measure() -> dict[str, float]:
    """Rounds a second of every policy, and configurations a second of the explorer on one core."""
    found = {f"{name}_rounds_per_s": rounds_per_s(policy) for name, policy in POLICIES.items()}
    return {**found, "placements_per_s": placements_per_s()}


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
    screen.of_target(0, 0)  # price tables are made once a run of the explorer
    began = time.process_time()
    found = screen.of_target(0, 0)
    return len(found) / (time.process_time() - began)


def main() -> None:
    found = measure()
    for name, value in found.items():
        print(f"{name:28} {value:16,.0f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
