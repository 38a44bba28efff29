"""The commands of the manifest, as data."""

from __future__ import annotations

from collections.abc import Iterator

from tests.golden.manifest import PROJECT, Entry

# What stands for a scenario's live tokens; a token tree needs the models.
TRANSCRIPTS = {
    "commands": "commands-draft-0.8m-greedy",
    "ethernet": "shift-draft-0.8m-ratio-full_rows",
    "gumbel": "shift-draft-0.8m-gumbel",
    "losing": "shift-draft-0.2m-greedy",
    "one_chip": "shift-draft-0.8m-greedy",
    "orin_8295": "shift-draft-0.8m-ratio-full_rows",
    "orin_8295_greedy": "shift-draft-0.8m-greedy",
    "swapped": "shift-draft-0.8m-greedy",
    "target_1b": "shift-draft-0.8m-greedy",
    "target_8b": "shift-draft-2m-greedy",
    "target_alone": "shift-draft-0.8m-greedy",
    "this_computer": "shift-draft-0.8m-greedy",
    "two_agents": "shift-draft-0.8m-greedy",
}
UNPLANNED = (
    "lookahead_8797",
    "losing",
    "ssd_8elite",
    "target_on_orin",
    "tree",
)  # compile plans that only they need take long to make
MINUTES = {"trip": 3, "trip_over_budget": 3}  # of half an hour
# Changes of the first scenario that reach other policies, rules and options of the report.
CHANGES = {
    "drafts_1": "--set policy.draft_tokens=1",
    "drafts_8": "--set policy.draft_tokens=8",
    "no_width_8": "--set target.widths=[1,128]",
    "adaptive": "--set 'policy={name: adaptive, rule: expected}'",
    "async": "--set 'policy={name: async, min_batch: 4}'",
    "pearl": "--set 'policy={name: pearl, draft_tokens: 4}'",
    "pipelined": "--set 'policy={name: pipelined, draft_tokens: 4}'",
    "prompt_lookup": "--set 'policy={name: prompt_lookup, draft_tokens: 4}'",
    "fallback": "--set 'policy={name: sync, draft_tokens: 5, fallback: {window: 6, rest_tokens: 16}}'",
    "uncertainty": "--uncertainty 20",
}
# Half a thousand of the explorer's fifty thousand configurations.
NARROW = (
    "--workers 1 --conversations 2 --drafts draft-68m-llama3:models/draft-0.8m --only draft.precision=w4 "
    "--only target.precision=w4 --only target.widths=1-8-128"
)
# One question each. Where all of its grid takes minutes, a part of it.
SCRIPTS = {
    "acceptance": "",
    "break_even": "",
    "compare_policies": "",
    "compile_profiles": "llama-3.2-3b draft-68m-llama3",
    "context": "",
    "draft_length": "",
    "draft_size": "",
    "explore_placement": NARROW,
    "link": "",
    "memory_cap": "",
    "papers": "scenarios/papers/chen_humaneval.yaml scenarios/papers/leviathan_t1_a90_g2.yaml",
    "payloads": "",
    "ranking": "--draws 50",
    "temperature": "",
    "where_2_5": "",
    "widths": "",
}
LOG = "chips/measurements/traces/amusd_humaneval.json"


def entries() -> Iterator[Entry]:
    """All of them: new scenarios join by themselves."""
    for file in sorted((PROJECT / "scenarios").glob("*.yaml")):
        run = f"python simulate.py scenarios/{file.name} --json"
        synthetic = "source: synthetic" in file.read_text(encoding="utf-8")
        planned = file.stem not in UNPLANNED
        if file.stem in MINUTES:
            run += f" --set trip.minutes={MINUTES[file.stem]}"
        yield Entry(f"live/{file.stem}", run if synthetic else f"{run} --out {{out}}", quick=synthetic)
        if file.stem in TRANSCRIPTS:
            yield Entry(f"replayed/{file.stem}", f"{run} {replayed(file.stem)}", quick=planned)
        check = f"python -m hilsim check scenarios/{file.name} --json"
        yield Entry(f"check/{file.stem}", check, quick=planned)
    for name, change in CHANGES.items():
        run = f"python simulate.py scenarios/orin_8295.yaml --json {replayed('orin_8295')} {change}"
        yield Entry(f"changed/{name}", run, quick=name != "uncertainty")
    for file in sorted((PROJECT / "scenarios" / "papers").glob("*.yaml")):
        run = f"python simulate.py scenarios/papers/{file.name} --json --set workload.requests=1"
        yield Entry(f"papers/{file.stem}", run, quick=True)
    for name, arguments in SCRIPTS.items():
        yield Entry(f"scripts/{name}", f"python scripts/{name}.py {arguments} --csv {{out}}/table.csv")
    yield Entry("record/orin_8295", "python -m hilsim record scenarios/orin_8295.yaml --out {out}/tokens.npz")
    tables = "--out {out} --csv {out}/table.csv"
    yield Entry(
        "explore/orin_8295_greedy", f"python -m hilsim explore scenarios/orin_8295_greedy.yaml {NARROW} {tables}"
    )
    for name in ("draft_length", "noise_and_acceptance"):
        yield Entry(f"study/{name}", f"python -m hilsim study scenarios/studies/{name}.yaml --workers 1 {tables}")
    yield Entry("validate/published", "python -m hilsim validate --json")
    yield Entry("validate/example", "python -m hilsim validate --csv chips/measurements/example.csv --json")
    yield Entry("validate/trace", f"python -m hilsim validate --trace {LOG} --json", quick=True)


def replayed(scenario: str) -> str:
    """The option that replaces a scenario's live tokens."""
    return f"--set 'logits={{source: transcript, file: transcripts/{TRANSCRIPTS[scenario]}.npz}}'"


ENTRIES = tuple(entries())
