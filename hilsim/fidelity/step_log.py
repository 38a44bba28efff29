"""Logs of real two-device runs, read strictly: every step's time as it was measured, per strategy and prompt.

The format is that of AMUSD's benchmark (arXiv:2410.17375), and simple enough to write by hand: a JSON list of objects
`{"sample_index": 0, "strategy": "sd", "metrics": {...}}`, at most one a strategy and prompt. All times of a run are in
the unit that `"unit"` in its metrics names, one of s, ms, us and ns, and in seconds where it names none.

| strategy | what ran                                | metrics needed                                |
| greedy   | the target alone                        | token_times                                   |
| sd       | draft, then verify, one after the other | draft_times, verify_times and accepted_tokens |
| amusd    | both at once; the draft never waits     | as sd                                         |

All need total_time and tokens_generated as well. `token_times`, `draft_times` and `verify_times` have one entry a step,
in order. `accepted_tokens` has one entry a verify step: the tokens it made final, the target's own among them, so at
least 1. The passes over the prompt are no steps: they yield the first token, and only greedy and amusd count them in
`total_time`. Where `token_times` has as many entries as there are tokens, its first is that pass. The first verify
entry of amusd begins with the target's first token, so it also holds the wait for the draft's pass. The last step may
overshoot the end of the text. A log may lack strategies; other keys (gpustats, time_per_token) are not read.

In short, where there are synchronous runs alone, the metrics of sd may stand in an entry's place, tokens_generated left
out (it is what accepted_tokens add up to), and a single run without a list. docs/logs.md has examples of both, and a
sentence on every number that comes out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.describe.names import nearest
from hilsim.errors import Fault, InputError
from hilsim.fidelity.recognise import JSON, STEP_LOG, require_kind
from hilsim.files import read_text

STRATEGIES = ("greedy", "sd", "amusd")
UNITS = {
    "s": (1.0, "seconds"), "ms": (1e-3, "milliseconds"), "us": (1e-6, "microseconds"), "ns": (1e-9, "nanoseconds"),
}  # fmt: skip
# Instants since 1970 as clocks give them, in seconds or, beyond, in finer units.
EPOCH_S = 1e9
SHORTEST_S, LONGEST_S = 1e-7, 1e5
MOST_STEPS = 1_000_000
# Steps that add up to more than their total by this share were not timed inside it.
ROUNDING = 0.005


@dataclass(frozen=True)
class GreedyRun:
    """The target alone: one time a token after the first."""

    token_s: tuple[float, ...]
    total_s: float
    tokens: int
    unit: str | None = None  # as the log states it

    @property
    def untimed_s(self) -> float:
        """What the total holds beyond the steps: the pass over the prompt and the host's work between steps."""
        return max(0.0, self.total_s - sum(self.token_s))


@dataclass(frozen=True)
class SpeculativeRun:
    """Draft and target together; `accepted` has the tokens each verify step made final."""

    draft_s: tuple[float, ...]
    verify_s: tuple[float, ...]
    accepted: tuple[int, ...]
    total_s: float
    tokens: int
    unit: str | None = None  # as the log states it


@dataclass(frozen=True)
class PromptRuns:
    """All runs over one prompt; None where the log lacks the strategy."""

    index: int
    greedy: GreedyRun | None
    sync: SpeculativeRun | None
    asynchronous: SpeculativeRun | None

    @property
    def missing(self) -> tuple[str, ...]:
        runs = zip(STRATEGIES, (self.greedy, self.sync, self.asynchronous), strict=True)
        return tuple(name for name, run in runs if run is None)


class LogReader:
    """One pass over a log that collects every fault."""

    def __init__(self, file: str):
        self.file = file
        self.faults: list[Fault] = []

    def fault(self, place: str, found: str, expected: str, remedy: str = "") -> None:
        self.faults.append(Fault(self.file, place, found, expected, remedy))

    def number(self, value: object, place: str, unit: str) -> float | None:
        """A time in seconds, or None after a fault."""
        factor, name = UNITS[unit]
        least, most = SHORTEST_S / factor, LONGEST_S / factor
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(place, shown(value), f"a time in {name}")
        elif not least <= value <= most:
            remedy = f'Is it the unit? "unit" beside the times is one of {", ".join(UNITS)}.'
            if value <= 0:
                remedy = "How long a step took is its end less its beginning."
            elif value >= EPOCH_S:
                remedy = f"An instant? How long a step took is expected. {remedy}"
            self.fault(place, shown(value), f"{name} from {least:g} to {most:g}", remedy)
        else:
            return float(value * factor)
        return None

    def whole(self, value: object, place: str) -> int | None:
        """A count of at least one, or None after a fault."""
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_STEPS:
            self.fault(place, shown(value), f"a whole number from 1 to {MOST_STEPS}")
            return None
        return value

    def items(self, metrics: dict[str, object], key: str, place: str) -> list[tuple[object, str]]:
        """The entries of a list with their places; nothing after a fault."""
        value = metrics[key]
        if not isinstance(value, list) or not 1 <= len(value) <= MOST_STEPS:
            found = f"a list of {len(value)}" if isinstance(value, list) else shown(value)
            self.fault(f"{place}.{key}", found, f"a list of 1 to {MOST_STEPS} entries")
            return []
        return [(entry, f"{place}.{key}[{index}]") for index, entry in enumerate(value)]

    def unit(self, metrics: dict[str, object], place: str) -> str | None:
        """The unit of a run's times; None where none is stated, and after a fault."""
        unit = metrics.get("unit")
        if unit is not None and (not isinstance(unit, str) or unit not in UNITS):
            self.fault(f"{place}.unit", shown(unit), f"one of {', '.join(UNITS)}")
            return None
        return unit

    def times(self, metrics: dict[str, object], key: str, place: str, unit: str) -> tuple[float, ...]:
        found = (self.number(entry, where, unit) for entry, where in self.items(metrics, key, place))
        return tuple(time for time in found if time is not None)

    def run(self, strategy: str, metrics: object, place: str) -> GreedyRun | SpeculativeRun | None:
        """One run, or None after a fault."""
        own = ("token_times",) if strategy == "greedy" else ("draft_times", "verify_times", "accepted_tokens")
        needed = (*own, "total_time", "tokens_generated")
        if not isinstance(metrics, dict):
            self.fault(place, shown(metrics), f"an object with {', '.join(needed)}")
            return None
        if missing := [key for key in needed if key not in metrics]:
            known = list(map(str, metrics))
            near = {key: [k for k in known if k.startswith(f"{key}_")] or nearest(key, known) for key in missing}
            meant = [f"{key!r} for {names[0]!r}" for key, names in near.items() if names]
            remedy = f'Did you mean {", ".join(meant)}? The unit goes into "unit".' if meant else ""
            self.fault(place, f"no {', '.join(missing)}", f"for {strategy} the keys {', '.join(needed)}", remedy)
            return None
        before = len(self.faults)
        stated = self.unit(metrics, place)
        unit = stated or "s"
        total = self.number(metrics["total_time"], f"{place}.total_time", unit)
        tokens = self.whole(metrics["tokens_generated"], f"{place}.tokens_generated")
        lists = {key: self.times(metrics, key, place, unit) for key in own if key != "accepted_tokens"}
        counts = [
            self.whole(entry, where)
            for key in own
            if key == "accepted_tokens"
            for entry, where in self.items(metrics, key, place)
        ]
        if len(self.faults) > before or total is None or tokens is None:
            return None
        if strategy == "greedy":
            greedy = GreedyRun(lists["token_times"], total, tokens, stated)
            self.check_greedy(greedy, place)
            return greedy if len(greedy.token_s) < max(2, tokens) else replace(greedy, token_s=greedy.token_s[1:])
        accepted = tuple(count for count in counts if count is not None)
        speculative = SpeculativeRun(lists["draft_times"], lists["verify_times"], accepted, total, tokens, stated)
        self.check_speculative(speculative, strategy, place)
        return speculative

    def check_greedy(self, run: GreedyRun, place: str) -> None:
        """Check that the numbers of steps and tokens agree."""
        if len(run.token_s) not in (run.tokens - 1, run.tokens):
            found = f"{len(run.token_s)} token_times for {run.tokens} tokens"
            self.fault(f"{place}.token_times", found, "one a token, with or without the first")
        self.check_total(sum(run.token_s), run.total_s, "token_times", place)

    def check_speculative(self, run: SpeculativeRun, strategy: str, place: str) -> None:
        """Check that the numbers of rounds, drafts and tokens agree."""
        if len(run.accepted) != len(run.verify_s):
            found = f"{len(run.accepted)} accepted_tokens and {len(run.verify_s)} verify_times"
            self.fault(place, found, "as many of the one as of the other")
            return
        made = sum(run.accepted)
        # The prompt's pass may have yielded one more; the last round may have gone past the end of the text.
        if not made - run.accepted[-1] < run.tokens <= made + 1:
            found = f"{made} tokens in accepted_tokens and {run.tokens} in tokens_generated"
            self.fault(place, found, "the same, but for the first token and what the last round overshot")
        # The catch-up step after a full round drafts the bonus token anew, so only accepted drafts bound the steps.
        if made - len(run.accepted) > len(run.draft_s) + 1:
            found = f"{made - len(run.accepted)} drafts accepted of {len(run.draft_s)} drafted"
            self.fault(place, found, "no more accepted than drafted", "accepted_tokens counts the target's own too.")
        verify = sum(run.verify_s)
        if strategy == "sd":
            self.check_total(sum(run.draft_s) + verify, run.total_s, "draft_times and verify_times", place)
        else:
            self.check_total(verify, run.total_s, "verify_times", place)

    def check_total(self, steps_s: float, total_s: float, what: str, place: str) -> None:
        if steps_s > total_s * (1 + ROUNDING):
            found = f"{total_s:g} s for {what} of {steps_s:g} s together"
            remedy = "Are some in milliseconds, or instants instead of how long each took, or do steps overlap?"
            self.fault(f"{place}.total_time", found, "at least their sum", remedy)


def read_log(file: Path) -> list[PromptRuns]:
    """The runs of a log by prompt. Raises `InputError` with every fault found."""
    reader = LogReader(str(file))
    require_kind(file, STEP_LOG, JSON)
    try:
        entries = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError([Fault(str(file), where, error.msg.lower(), "JSON")]) from None
    except (RecursionError, ValueError) as error:
        raise InputError([Fault(str(file), "", str(error).lower(), "JSON that Python can read")]) from None
    runs = dict(read_entries(reader, spelled_out(entries)))
    if not reader.faults and not any(strategy == "sd" for _, strategy in runs):
        found = f"only {', '.join(sorted({strategy for _, strategy in runs}))}" if runs else "no runs"
        reader.fault("", found, "a run of strategy 'sd'", "Replay and prediction start from the synchronous run.")
    if reader.faults:
        raise InputError(reader.faults)
    prompts = []
    for index in sorted({index for index, _ in runs}):
        greedy, sync, other = (runs.get((index, strategy)) for strategy in STRATEGIES)
        assert not isinstance(greedy, SpeculativeRun)
        assert not isinstance(sync, GreedyRun)
        assert not isinstance(other, GreedyRun)
        prompts.append(PromptRuns(index, greedy, sync, other))
    return prompts


def spelled_out(entries: object) -> object:
    """A log in its long form: entries that are the metrics of a synchronous run become such entries."""
    if in_short(entries):
        entries = [entries]
    if not isinstance(entries, list):
        return entries
    return [
        {"sample_index": number, "strategy": "sd", "metrics": {"tokens_generated": tokens_of(entry), **entry}}
        if in_short(entry)
        else entry
        for number, entry in enumerate(entries)
    ]


def in_short(entry: object) -> bool:
    """Whether something is the metrics of a synchronous run alone."""
    return isinstance(entry, dict) and "metrics" not in entry and ("draft_times" in entry or "verify_times" in entry)


def tokens_of(metrics: dict[str, object]) -> object:
    """What the accepted tokens add up to; what is wrong with them is reported where they are read."""
    accepted = metrics.get("accepted_tokens")
    return sum(count for count in accepted if type(count) is int) if isinstance(accepted, list) else 1


def read_entries(reader: LogReader, entries: object) -> Iterator[tuple[tuple[int, str], GreedyRun | SpeculativeRun]]:
    """Every good entry of the list by prompt and strategy; faults go to the reader."""
    if not isinstance(entries, list):
        reader.fault("", shown(entries), "a list of runs")
        return
    seen: set[tuple[int, str]] = set()
    for number, entry in enumerate(entries):
        place = f"[{number}]"
        if not isinstance(entry, dict):
            reader.fault(place, shown(entry), "an object with sample_index, strategy and metrics")
            continue
        if "unit" in entry and isinstance(entry.get("metrics"), dict):
            reader.fault(
                f"{place}.unit", shown(entry["unit"]), "the unit beside the times, in metrics", "Move it there."
            )
            continue
        if missing := [key for key in ("sample_index", "strategy", "metrics") if key not in entry]:
            reader.fault(place, f"no {', '.join(missing)}", "sample_index, strategy and metrics")
            continue
        index, strategy = entry["sample_index"], entry["strategy"]
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            reader.fault(f"{place}.sample_index", shown(index), "a whole number from 0")
            continue
        if strategy not in STRATEGIES:
            reader.fault(f"{place}.strategy", shown(strategy), f"one of {', '.join(STRATEGIES)}")
            continue
        if (index, strategy) in seen:
            reader.fault(place, f"a second {strategy} run of sample {index}", "one a strategy and sample")
            continue
        seen.add((index, strategy))
        run = reader.run(strategy, entry["metrics"], f"{place}.metrics")
        if run is not None:
            yield (index, strategy), run


def shown(value: object) -> str:
    """A value as a message may show it: short, and objects and lists by their kind only."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
