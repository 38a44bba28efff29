"""Error bars in a document, and in the report: every interval with what it holds and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hilsim.fidelity.confidence import SHARE
from hilsim.show.numbers import clean, counted, percent, three_digits
from hilsim.show.terminal.page import Page
from hilsim.study.step_classes import StepClass
from hilsim.study.uncertainty import Acceptance, FitChance, Uncertainty

NAME = 26
INTERVALS = (
    ("with_sampling", "with resampled requests"),
    ("with_other_pairs", "with other pairs' acceptance too"),
)


def as_json(found: Uncertainty, fit: FitChance, movers: int = 3) -> dict[str, Any]:
    """As the document of a run has it: the interval of each headline number and what moves it."""
    return {
        "draws": found.draws,
        "figures_in_use": found.in_use,
        "figures_drawn": list(found.ranged),
        "step_classes_drawn": classes_as_json(found.classes),
        "interval": "5 % to 95 % of the draws",
        "holds": holds(found),
        "does_not_hold": does_not_hold(found),
        "headline": {
            name: {
                "nominal": interval.nominal,
                "low": interval.low,
                "median": interval.median,
                "high": interval.high,
                "moved_most_by": [
                    {"figure": mover.figure, "at_low": mover.at_low, "at_high": mover.at_high}
                    for mover in interval.movers[:movers]
                ],
                **acceptance_of(found.acceptance, name),
            }
            for name, interval in found.intervals.items()
        },
        "acceptance": None if found.acceptance is None else pairs_as_json(found.acceptance),
        "fit": fit_as_json(fit),
    }


def classes_as_json(classes: Sequence[StepClass]) -> list[dict[str, Any]]:
    """Kinds of steps whose times are drawn from the residuals of their class, with the interval of each."""
    return [
        {
            "part": one.part, "unit": one.track, "steps": one.kind, "class": str(one.interval),
            "share": SHARE, "low": one.interval.low, "high": one.interval.high,
        }
        for one in classes
    ]  # fmt: skip


def acceptance_of(found: Acceptance | None, name: str) -> dict[str, Any]:
    """What acceptance does to one headline number."""
    if found is None:
        return {}
    given = {
        "sampling_alone": found.alone[name], "with_sampling": found.with_sampling[name],
        "with_other_pairs": found.with_pairs[name],
    }  # fmt: skip
    ends = {key: {"low": low, "high": high} for key, (low, high) in given.items()}
    return ends | {"at_published_pairs": {pair.name: numbers[name] for pair, _, numbers in found.pairs}}


def pairs_as_json(found: Acceptance) -> dict[str, Any]:
    """The sample, and the published pairs."""
    return {
        "drawn_anew": f"{found.clusters} {found.unit}",
        "tokens_a_round": found.tokens_a_round,
        "published_pairs": [
            {
                "name": pair.name, "title": pair.label, "workload": pair.text, "tokens_a_round": tokens,
                "kind": pair.kind, "source": pair.source,
            }
            for pair, tokens, _ in found.pairs
        ],
    }  # fmt: skip


def fit_as_json(found: FitChance) -> dict[str, Any]:
    """As the document of a run has it."""
    return {
        "draws": found.draws,
        "figures_drawn": list(found.figures),
        "share_that_fits": found.share,
        "by_chip": found.by_chip,
    }


def holds(found: Uncertainty) -> list[str]:
    """What the intervals hold, from the narrowest to the widest."""
    lines = [f"chips: {len(found.ranged)} of {found.in_use} figures in use have a range and were drawn"]
    if found.classes:
        lines[0] += (
            "; step times by what was measured of their class, each unit and kind of steps by one factor for the whole"
            f" run, within which {SHARE:.0%} lie: {', '.join(map(class_words, found.classes))}; a figure's range then"
            " moves steps in proportion to these alone"
        )
    if found.acceptance is not None:
        sample = f"{found.acceptance.clusters} {found.acceptance.unit}"
        lines.append(
            f"with_sampling: and the {sample} of the workload, resampled with replacement; this and the next are"
            " widened where needed to contain the narrower ones"
        )
    if found.acceptance is not None and found.acceptance.pairs:
        names = ", ".join(pair.label for pair, _, _ in found.acceptance.pairs)
        lines.append(f"with_other_pairs: and acceptance as of the run or of a published pair ({names})")
    return lines


def class_words(one: StepClass) -> str:
    """Factors of a kind of steps between which most lie, and what they are of."""
    of, rounds = one.interval, " over decode steps" if one.kind == "verify" else ""
    return f"{one.part} {one.kind} on {one.track}{rounds} {of.low:.2f} to {of.high:.2f} times ({of})"


def does_not_hold(found: Uncertainty) -> list[str]:
    """What none of the intervals holds."""
    fixed = f"{found.in_use - len(found.ranged)} figures in use without a range"
    unheld = "what the chip model leaves unexplained of measurements: the steps are of no class that was measured"
    lines = [
        f"{fixed}, and common causes of several figures"
        + (", as two units that are off alike" if found.classes else ""),
        *([] if found.classes else [unheld]),
        "speech recognition and synthesis, heat, and other work on the same chips",
    ]
    if found.acceptance is None:
        lines.append("sampling error and other pairs' acceptance: there is one sample of requests, or none")
    elif not found.acceptance.pairs:
        lines.append("acceptance of other pairs: none is published in the form that this policy needs")
    return lines


def error_bars(page: Page, found: dict[str, Any]) -> None:
    """Each headline number with its intervals, the figure that moves it most, and what published pairs make of it."""
    drawn, fixed = len(found["figures_drawn"]), found["figures_in_use"] - len(found["figures_drawn"])
    classes = found.get("step_classes_drawn", [])
    steps = f"{counted(len(classes), 'kind')} of steps and " if classes else ""
    page.title("error bars", f"{found['draws']} draws of {steps}{counted(drawn, 'figure')}, {found['interval']}")
    if not drawn and not classes:
        page.paragraph(
            "No figure in use has a range, so none could be drawn: this says nothing about how certain the result is.",
            2,
        )
    else:
        page.paragraph(f"{fixed} more figures in use have no range and stayed as they are.", 2)
    acceptance = found.get("acceptance")
    titles = {} if acceptance is None else {pair["name"]: pair["title"] for pair in acceptance["published_pairs"]}
    for name, interval in found["headline"].items():
        page.line(f"  {name:<{NAME}} {three_digits(interval['nominal']):>8}   {spread(interval)} by chips alone")
        for key, words in INTERVALS:
            if key in interval and (key != "with_other_pairs" or titles):
                page.line(f"  {'':<{NAME}} {'':>8}   {spread(interval[key])} {words}")
        if interval["moved_most_by"]:
            mover = interval["moved_most_by"][0]
            ends = f"{three_digits(mover['at_low'])} and {three_digits(mover['at_high'])} at its ends"
            page.paragraph(f"most by {mover['figure']}: {ends}", 4)
        supposed = interval.get("at_published_pairs", {})
        if supposed and name in ("speedup", "request_latency_ms p50"):
            each = "; ".join(f"{three_digits(value)} as of {titles[pair]}" for pair, value in supposed.items())
            page.paragraph(f"if acceptance were that of a published pair: {clean(each)}", 4)
    if acceptance is not None:
        page.paragraph(rounds(acceptance), 2)
    if found.get("fit") is not None:
        page.paragraph(fit_sentence(found["fit"]), 2)
    for key, words in (("holds", "These intervals contain"), ("does_not_hold", "None of them contains")):
        if found.get(key):
            page.paragraph(f"{words}: {'; '.join(found[key])}.", 2)


def spread(interval: dict[str, float]) -> str:
    """An interval's two ends."""
    return f"{three_digits(interval['low'])} to {three_digits(interval['high'])}"


def rounds(acceptance: dict[str, Any]) -> str:
    """Tokens a round of the run and of each pair, as this policy drafts."""
    own = acceptance["tokens_a_round"]
    if own is None:
        return f"Requests were resampled from {acceptance['drawn_anew']}."
    pairs = [f"{pair['tokens_a_round']:.2f} as of {pair['title']}" for pair in acceptance["published_pairs"]]
    others = f"; {'; '.join(pairs)}" if pairs else ""
    return f"Tokens a round (accepted drafts + 1) of {acceptance['drawn_anew']}: {own:.2f} here{clean(others)}."


def fit_sentence(found: dict[str, Any]) -> str:
    """How much of the ranges of sizes and reserves fits."""
    if not found["figures_drawn"]:
        return "No size or reserve in use has a range: whether it fits follows from the figures alone."
    chips = ", ".join(f"{chip} {percent(share)}" for chip, share in found["by_chip"].items())
    return (
        f"It fits in {percent(found['share_that_fits'])} of {found['draws']} draws of {len(found['figures_drawn'])} "
        f"sizes and reserves ({chips}): of their assumed ranges, not of devices."
    )
