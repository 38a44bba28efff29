"""A log of two devices on the terminal and as JSON: measured, replayed or predicted, and the step times used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.fidelity.step_log import PromptRuns, SpeculativeRun
from hilsim.fidelity.two_device import Replay
from hilsim.measure.formulas import tokens_a_round
from hilsim.show.compared import comparison_table, signed
from hilsim.show.fidelity import remark_lines
from hilsim.units import ms

GOOD, FAIR = 0.05, 0.10
WITHOUT = {
    "greedy": "no greedy run: one row is charged as a full verify step, and no speed-up is known",
    "sd": "no sd run: nothing can be replayed or predicted",
    "amusd": "no amusd run: its prediction has nothing to be compared with",
}
START = {
    "amusd": "from the amusd run's first verify entry",
    "greedy": "from the greedy run's total, the most it can be",
    None: "unknown without an amusd or a greedy run",
}


def answer_tokens(replay: Replay, name: str) -> int:
    """Tokens of the answer that a comparison is about."""
    sync = replay.runs.sync
    assert sync is not None
    return replay.tokens if name == "async_predicted" else sync.tokens


def speed_up(replay: Replay, total_s: float | None, tokens: int) -> float | None:
    """Tokens a second over those of the target alone, whose time is always the measured one."""
    greedy = replay.runs.greedy
    return None if greedy is None or total_s is None else greedy.total_s / greedy.tokens / (total_s / tokens)


def totals_table(replay: Replay) -> Table:
    """Seconds and speed-ups, measured beside predicted."""
    found = replay.comparisons
    tokens = {name: answer_tokens(replay, name) for name in found}
    return comparison_table(
        list(found.values()),
        "{:.3f}".format,
        {
            "deviation": [Text(signed(total.error), style(total.error)) for total in found.values()],
            "speed-up": [number(speed_up(replay, total.measured, tokens[name])) for name, total in found.items()],
            "predicted": [number(speed_up(replay, total.predicted, tokens[name])) for name, total in found.items()],
        },
    )


def style(error: float | None) -> str:
    """Green within 5 %, yellow within 10 %, red beyond; none where nothing was measured."""
    return "" if error is None else "green" if abs(error) <= GOOD else "yellow" if abs(error) <= FAIR else "red"


def number(value: float | None) -> str:
    """A number with two places, or a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def lines(replay: Replay) -> Iterable[str]:
    """What is explained, the step times used, acceptance, and what an asynchronous run is predicted to look like."""
    times, predicted, sync = replay.times, replay.asynchronous, replay.runs.sync
    assert sync is not None
    steps_s = replay.comparisons["sync_replayed"].predicted
    outside_s = max(0.0, sync.total_s - steps_s)
    yield (
        f"Explained: the steps make up {steps_s / sync.total_s:.1%} of the synchronous run; the other"
        f" {1000 * outside_s:.1f} ms, {1000 * outside_s / len(sync.verify_s):.2f} ms a round, lie between them"
    )
    yield (
        f"Medians: draft step {ms(times.draft_ns):.2f} ms, verify step of {1 + times.draft_tokens} rows"
        f" {ms(times.verify_ns):.2f} ms, of one row {ms(times.one_row_ns):.2f} ms (v = {ratio(replay):.2f})"
    )
    yield (
        f"Handshake {ms(times.handshake_ns):.3f} ms a step; start {ms(times.start_ns):.0f} ms a device,"
        f" {START[times.start_from]}; first sync steps {ms(times.first_draft_ns):.1f} and"
        f" {ms(times.first_verify_ns):.1f} ms"
    )
    groups = ", ".join(f"{count} in {rounds} rounds" for count, rounds in drafts_per_round(replay).items())
    alpha = replay.rounds.acceptance
    yield f"Sync: {sync.tokens} tokens, {rounds_line(sync.accepted)}; alpha {alpha:.3f}; draft steps: {groups}"
    yield (
        f"Async, predicted: {replay.tokens} tokens, {rounds_line(predicted.accepted)}; {predicted.rollbacks} rollbacks,"
        f" {predicted.single_rows} rounds of one row"
    )
    if replay.runs.asynchronous is not None:
        yield f"Async, measured: {rounds_line(replay.runs.asynchronous.accepted)}"


def drafts_per_round(replay: Replay) -> dict[int, int]:
    """How many rounds had how many draft steps."""
    return dict(sorted(Counter(replay.rounds.recorded_by_round).items()))


def ratio(replay: Replay) -> float:
    """v(n): a verify step of all rows over one of a single row."""
    return replay.times.verify_ns / replay.times.one_row_ns


def rounds_line(accepted: Sequence[int]) -> str:
    """Rounds, tokens a round and their histogram."""
    counts = ", ".join(f"{made}: {rounds}" for made, rounds in sorted(Counter(accepted).items()))
    return f"{len(accepted)} rounds of {tokens_a_round(sum(accepted), len(accepted)):.2f} tokens ({counts})"


def print_log(
    console: Console, prompts: Sequence[PromptRuns], replays: Sequence[Replay], file: str, doubts: Sequence[str] = ()
) -> None:
    """The whole answer of `python -m hilsim validate --trace`, warnings about its times first and last."""
    console.print(Text(f"{file}: {len(replays)} of {len(prompts)} prompts compared", style="bold"))
    warnings = remark_lines(doubts, ())
    for line in warnings:
        console.print(line)
    by_index = {replay.runs.index: replay for replay in replays}
    for runs in prompts:
        console.print(Text(f"\nSample {runs.index}", style="bold"))
        replay = by_index.get(runs.index)
        if replay is not None:
            console.print(totals_table(replay), *(Text(line) for line in lines(replay)), sep="\n")
        for name in runs.missing:
            console.print(Text(WITHOUT[name], style="yellow"))
    if warnings:
        console.print(Text(""), *warnings, sep="\n")


def as_json(prompts: Sequence[PromptRuns], replays: Sequence[Replay], file: str) -> dict[str, object]:
    """The same as one document."""
    return {
        "file": file,
        "samples": [sample(replay) for replay in replays],
        "missing": {str(runs.index): list(runs.missing) for runs in prompts if runs.missing},
    }


def sample(replay: Replay) -> dict[str, object]:
    """One prompt: totals, step times, acceptance and rounds."""
    times, predicted, sync, asynchronous = replay.times, replay.asynchronous, replay.runs.sync, replay.runs.asynchronous
    assert sync is not None
    return {
        "sample_index": replay.runs.index,
        **{
            name: {
                "measured_s": total.measured,
                "predicted_s": total.predicted,
                "deviation": total.error,
                "tokens": answer_tokens(replay, name),
                "speedup_measured": speed_up(replay, total.measured, answer_tokens(replay, name)),
                "speedup_predicted": speed_up(replay, total.predicted, answer_tokens(replay, name)),
            }
            for name, total in replay.comparisons.items()
        },
        "step_times_ms": {
            "draft": ms(times.draft_ns),
            "verify": ms(times.verify_ns),
            "one_row": ms(times.one_row_ns),
            "first_draft": ms(times.first_draft_ns),
            "first_verify": ms(times.first_verify_ns),
            "handshake": ms(times.handshake_ns),
            "start": ms(times.start_ns),
        },
        "start_from": times.start_from,
        "draft_tokens": times.draft_tokens,
        "verify_ratio": ratio(replay),
        "alpha": replay.rounds.acceptance,
        "drafts_per_round": {str(count): rounds for count, rounds in drafts_per_round(replay).items()},
        "sync_rounds": rounds(sync),
        "async_rounds_measured": None if asynchronous is None else rounds(asynchronous),
        "async_rounds_predicted": histogram(predicted.accepted)
        | {
            "draft_steps": predicted.draft_steps,
            "rollbacks": predicted.rollbacks,
            "stale_rounds": predicted.single_rows,
            "total_s": replay.comparisons["async_predicted"].predicted,
        },
    }


def rounds(run: SpeculativeRun) -> dict[str, object]:
    """A measured run's rounds."""
    return histogram(run.accepted) | {"draft_steps": len(run.draft_s)}


def histogram(accepted: Sequence[int]) -> dict[str, object]:
    """Rounds, tokens a round, and how many rounds made how many tokens."""
    return {
        "rounds": len(accepted),
        "tokens_per_round": float(tokens_a_round(sum(accepted), len(accepted))),
        "histogram": {str(made): count for made, count in sorted(Counter(accepted).items())},
    }
