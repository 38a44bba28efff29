"""What `hilsim quality` shows: precisions side by side, activations that stand out, a picture, a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hilsim.show.plots.curves import BLACK_AND, finished, sheet
from hilsim.show.table import Table
from hilsim.study.quality import Quality, QualityMeasurement, Share

NAMES = {  # of the columns on the terminal
    "against_float": "of fp32's", "tokens": "same token", "answers": "same answer",
    "acceptance": "acceptance",
}  # fmt: skip
MEASURES = {
    "perplexity": "perplexity of dialogues", "against_float": "perplexity over that of fp32",
    "tokens": "likeliest token as in fp32", "answers": "greedy answers as in fp32", "acceptance": "acceptance",
}  # fmt: skip
LAYERS = 6  # inputs that stand out most, on the terminal


def as_records(found: Iterable[Quality]) -> list[dict[str, Any]]:
    """A flat record a rounding: values, and both ends of their intervals."""
    return [record_of(one) for one in found]


def record_of(one: Quality) -> dict[str, Any]:
    """One rounding as a record."""
    made: dict[str, Any] = {
        "role": one.role, "precision": one.rounding.name, "weights_by": one.rounding.weights_by,
        "inputs_by": one.rounding.inputs_by, "deployed": one.deployed,
        "draft": None if one.draft is None else one.draft.name,
    }  # fmt: skip
    for name in MEASURES:
        share: Share | None = getattr(one, name)
        low, high = (None, None) if share is None else share.interval
        made |= {name: None if share is None else share.value, f"{name}_low": low, f"{name}_high": high}
    return made


def outliers(measurement: QualityMeasurement) -> list[dict[str, Any]]:
    """A record for the input of every matrix of every network."""
    return [
        {
            "role": role, "input": one.name, "largest": one.largest, "largest_over_median": one.spread,
            "kurtosis": one.kurtosis, "beyond_6_sigma": one.outliers, "largest_channel_over_middle": one.channels,
        }
        for role, inputs in measurement.inputs.items()
        for one in inputs.values()
    ]  # fmt: skip


def as_document(measurement: QualityMeasurement, found: Sequence[Quality]) -> dict[str, Any]:
    """The document of `hilsim quality --json`."""
    texts = measurement.texts
    return {
        "scenario": measurement.setup.scenario.name,
        "measured_on": {
            "dialogues": len(texts.dialogues),
            "dialogue_tokens": sum(len(tokens) - 1 for tokens in texts.dialogues),
            "conversations": len(texts.answered),
            "answers": sum(len(one.answers) for one in texts.answered),
            "answer_tokens": sum(len(one.before) for one in texts.answered),
        },
        "precisions": as_records(found),
        "activations": outliers(measurement),
    }


def render(measurement: QualityMeasurement, found: Sequence[Quality], console: Console) -> None:
    """Both tables, and what they were measured on."""
    rows = []
    for one in found:
        rounding = one.rounding
        cells = [None if (share := getattr(one, name)) is None else with_interval(share) for name in NAMES]
        where = f"{one.role}, as deployed" if one.deployed else one.role
        labels = [where, rounding.name, rounding.weights_by or None, rounding.inputs_by or None]
        rows.append([*labels, one.perplexity.value, *cells])
    Table(("role", "precision", "weights by", "inputs by", "perplexity", *NAMES.values()), rows, left=4).print(console)
    on = as_document(measurement, ())["measured_on"]
    console.print(
        f"perplexity of {on['dialogue_tokens']:,} tokens in {on['dialogues']} test dialogues; the rest over "
        f"{on['answers']} greedy answers of the target in fp32, {on['answer_tokens']:,} tokens. In brackets 95 % over "
        "conversations. Acceptance of the draft in fp32; as deployed both are in their own precision.",
        soft_wrap=True,
    )
    console.print()
    most = sorted(outliers(measurement), key=lambda row: -row["largest_over_median"])
    shown = [row for role in measurement.inputs for row in [one for one in most if one["role"] == role][:LAYERS]]
    columns = ("largest / median", "kurtosis", "beyond 6 sigma, %", "largest / middle channel")
    values = [[row["role"], row["input"], *figures(row)] for row in shown]
    Table(("role", "input of", *columns), values, left=2).print(console)
    console.print("activations that stand out most; all in --json", soft_wrap=True)


def figures(row: dict[str, Any]) -> list[float]:
    """A row's figures as the table has them."""
    shares = 100 * row["beyond_6_sigma"]
    return [row["largest_over_median"], row["kurtosis"], shares, row["largest_channel_over_middle"]]


def with_interval(share: Share) -> str:
    """A value with its interval."""
    low, high = share.interval
    return f"{share.value:.3f} [{low:.3f}, {high:.3f}]"


def draw(measurement: QualityMeasurement, found: Sequence[Quality], path: Path, kind: str) -> None:
    """The measures of the target's roundings, each with its interval."""
    target = [one for one in found if one.role == "target"]
    names = [name for name in MEASURES if name != "perplexity" and getattr(target[0], name) is not None]
    figure, axes = sheet(1, len(names), 4.2 * len(names) + 2.0, 0.36 * len(target) + 1.6)
    labels = [label_of(one) for one in target]
    for place, name in enumerate(names):
        panel = axes[0][place]
        for row, one in enumerate(target):
            share = getattr(one, name)
            low, high = share.interval
            colour = BLACK_AND[2] if one.deployed else BLACK_AND[1]
            panel.plot([low, high], [row, row], color=colour, linewidth=2)
            panel.plot([share.value], [row], "o", color=colour)
        panel.set(title=MEASURES[name], yticks=range(len(labels)), yticklabels=labels if place == 0 else [])
        panel.invert_yaxis()
        panel.grid(axis="x", color="0.9")
    finished(figure, f"{measurement.setup.scenario.name}: what precisions of the target cost", path, kind)


def label_of(one: Quality) -> str:
    """A rounding as an axis names it: "w8a8 channel/tensor"."""
    by = "/".join(filter(None, (one.rounding.weights_by, one.rounding.inputs_by)))
    return f"{one.rounding.name} {by}".strip() + (", as deployed" if one.deployed else "")
