"""What a run's document means, in sentences: faster or slower, where the time went, lossless or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hilsim.describe.cockpit import UNHEARD
from hilsim.show.numbers import CAUSES, byte_count, clean, counted, duration, mebibytes, percent, three_digits

if TYPE_CHECKING:
    from hilsim.study.usage import Usage

EVEN = 0.02
TASKS_NAMED = 3


def headline(document: dict[str, Any]) -> str:
    """The answer in a sentence or two: the speed-up, what it means for the passenger, and a limit that is exceeded."""
    spoken, beyond = turns_sentence(document.get("turns")), limit_sentence(document.get("caveats", ()))
    return f"{answer(document)}{spoken}{deadlines_sentence(document.get('background', {}))}{beyond}"


def turns_sentence(turns: dict[str, Any] | None) -> str:
    """When the first audio comes, and whether the budget of the spoken turns holds; "" without such turns."""
    if turns is None or turns["first_audio_ms"] is None:
        return ""
    waits = [duration(turns["first_audio_ms"][share]) for share in ("p50", "p90")]
    without = f", without {unheard_text(turns)}" if unheard(turns) else ""
    sentence = f" First audio {waits[0]} after the end of speech (p90 {waits[1]}{without})"
    if not turns["budget"]:
        return f"{sentence}."
    broken = [limit["measure"] for limit in turns["budget"] if limit["broken"]]
    return f"{sentence}; the budget {'is broken: ' + ', '.join(broken) if broken else 'holds'}."


def unheard(turns: dict[str, Any]) -> int:
    """How many turns never had a first audio: a statistic of those that had leaves them out, the budget does not."""
    return sum(turns["outcomes"][outcome] for outcome in UNHEARD)


def unheard_text(turns: dict[str, Any]) -> str:
    """These turns, by what became of them: "3 turns refused, 1 given up"."""
    parts = [(turns["outcomes"][outcome], outcome) for outcome in UNHEARD if turns["outcomes"][outcome]]
    (first, outcome), *others = parts
    return ", ".join([f"{counted(first, 'turn')} {outcome}", *(f"{number} {name}" for number, name in others)])


def missing(background: dict[str, Any]) -> dict[str, Any]:
    """The background tasks that miss deadlines, those that miss the largest share first."""
    late = [(name, task) for name, task in background.items() if task["missed"]]
    return dict(sorted(late, key=lambda item: -item[1]["missed"] / item[1]["released"]))


def deadlines_sentence(background: dict[str, Any]) -> str:
    """Which background tasks miss deadlines, and how many; "" where none does."""
    late = missing(background)
    named = [f"{clean(name)} {late[name]['missed']} of {late[name]['released']}" for name in list(late)[:TASKS_NAMED]]
    more = [f"{counted(len(late) - TASKS_NAMED, 'further task')}"] if len(late) > TASKS_NAMED else []
    return f" Deadlines missed: {', '.join([*named, *more])}." if late else ""


def limit_sentence(caveats: Sequence[dict[str, Any]]) -> str:
    """That the scenario goes beyond a published limit, as the end of an answer; "" where it does not."""
    beyond = any(caveat["kind"] == "published limit" for caveat in caveats)
    return " But this scenario exceeds a published limit." if beyond else ""


def error_bar(document: dict[str, Any], name: str) -> str:
    """The widest interval of a headline number in brackets; "" where nothing was drawn."""
    found = document.get("uncertainty") or {"headline": {}}
    if name not in found["headline"]:
        return ""
    interval = found["headline"][name]
    widest = interval.get("with_other_pairs") or interval.get("with_sampling") or interval
    low, high = three_digits(widest["low"]), three_digits(widest["high"])
    return "" if low == high else f" ({low} to {high} by its widest error bar)"


def answer(document: dict[str, Any]) -> str:
    """The speed-up, and what it means for the passenger."""
    scenario = clean(document["scenario"])
    alone = median(document["baseline"], "time_to_first_clause_ms")
    if document["speculative"] is None:
        if alone is None:
            return f"{scenario}: the target alone; nothing was answered."
        return f"{scenario}: the target alone. The first clause is ready after {duration(alone)} (p50)."
    speedup, bar = document["speedup"], error_bar(document, "speedup") + missed_text(document)
    if abs(speedup - 1) <= EVEN:
        sentence = f"speedup {speedup:.2f}{bar}: speculation makes no difference."
    elif speedup > 1:
        sentence = f"speedup {speedup:.2f}{bar}: answers take {percent(1 / speedup)} of the time of the target alone."
    else:
        sentence = f"speedup {speedup:.2f}{bar}: speculation makes answers {percent(1 / speedup - 1)} slower."
    ours = median(document["speculative"], "time_to_first_clause_ms")
    if alone is None or ours is None:
        return f"{scenario}: {sentence}"
    clause = f"The first clause is ready after {duration(ours)} instead of {duration(alone)} (p50)."
    return f"{scenario}: {sentence} {clause}"


def is_as_wanted(speedup: float, wanted: float | None) -> bool:
    """Whether a run is no slower than the target alone and, where a scenario wants a speed-up, as fast as that."""
    return speedup >= (wanted or 1.0)


def missed_text(document: dict[str, Any]) -> str:
    """That a wanted speed-up is missed, behind the one that there is; "" where it is reached or none is wanted."""
    wanted, speedup = document.get("wanted_speedup"), document["speedup"]
    if wanted is None or is_as_wanted(speedup, wanted):
        return ""
    return f", {'just below' if f'{speedup:.2f}' == f'{wanted:.2f}' else 'not'} {wanted:g}"


def outside_sentence(roles: Sequence[str]) -> str:
    """The warning about roles outside the car, as `outside_car` names them; "" where there is none."""
    return f"CONVERSATIONS LEAVE THE CAR: {clean(' and '.join(roles))}, outside the car." if roles else ""


def median(block: dict[str, Any], metric: str) -> float | None:
    """The p50 of a metric, where there is one."""
    statistics = block[metric]
    return None if statistics is None else float(statistics["p50"])


def where_it_went(document: dict[str, Any]) -> str:
    """What the target spends alone and with the draft, what speculation costs beside that, and the largest of it."""
    alone, ours = document["baseline"], document["speculative"]
    lost = ours["lost_ms"]
    total = sum(lost.values())
    if total <= 0:
        return "Nothing was answered."
    steps, beside = lost["verify"], total - lost["verify"]
    plain = sum(alone["lost_ms"].values())
    sentence = (
        f"The target alone needs {duration(plain)} for these answers. With speculation its steps take"
        f" {duration(steps)}, and everything else takes {duration(beside)}."
    )
    largest = max((name for name in lost if name != "verify"), key=lambda name: float(lost[name]))
    if lost[largest] > 0:
        sentence += f" The largest part of that is {largest}: {duration(lost[largest])} of {CAUSES[largest]}."
    if document["speedup"] < 1 - EVEN and steps > plain:
        sentence += " The target's steps alone take longer than without speculation: a verify costs more than it saves."
    return sentence


def hidden_sentence(found: dict[str, Any]) -> str:
    """How much of the target's hidden states crossed the link, against everything else that did."""
    size, rest = found["bytes"], found["bytes_of_other_messages"]
    sent = f"{mebibytes(size)} in {counted(found['messages'], 'message')}"
    share = f"{counted(found['bytes_a_position'], 'byte')} a position, {percent(size / (size + rest))} of all bytes"
    return f"{sent}: {share}. On the target's own chip none of them cross."


def rows_sentences(found: dict[str, Any], speedup: float) -> list[str]:
    """How many bytes of distributions crossed the link, how little or much that matters, and which rate it takes."""
    link, matters = found["link"], percent(found["matters"])
    sentences = [
        f"{byte_count(found['bytes'])} of distributions crossed {link}, {byte_count(found['bytes_per_round'])} "
        f"a round: {percent(found['share_of_link_time'])} of the time that its messages take. "
        f"Messages are {share_of(found['share_of_rounds'])} of a round."
    ]
    if found["speedup_without_link"] is None:
        return sentences
    without, ours = f"{found['speedup_without_link']:.2f}", f"{speedup:.2f}"
    gain = f"the same {ours}" if without == ours else f"{without} instead of {ours}"
    if found["least_bytes_s"] is None:
        rest = f"no rate of {link} makes the difference between more and less than {matters} of that"
    else:
        rest = f"{link} costs more than {matters} of that below {byte_count(found['least_bytes_s'])}/s"
    return [*sentences, f"Over a link that takes no time the speedup is {gain}; {rest}."]


def wanted_sentence(found: dict[str, Any]) -> str:
    """What a wanted speed-up takes, and how far the run is from it."""
    aim = f"{found['speedup']:g}x takes"
    if found["acceptance_needed"] is None:
        return f"{aim} more than this policy brings on these chips: a draft that is always right does not reach it."
    tokens, needed = found["tokens_per_round"], found["tokens_per_round_needed"]
    sentence = (
        f"{aim} {needed:.2f} tokens a round, as acceptance {found['acceptance_needed']:.2f} of every drafted token "
        f"gives; there are {tokens:.2f}"
    )
    if found["acceptance"] is not None:
        sentence += f", as {found['acceptance']:.2f} gives"
    if found["reached"]:
        spare = percent(tokens / needed - 1)
        return (
            f"{sentence}: just reached." if spare in ("0 %", "-0 %") else f"{sentence}: reached, with {spare} to spare."
        )
    return f"{sentence}: not reached, {percent(1 - tokens / needed)} of them are missing."


def faster_export_sentence(found: dict[str, Any], role: dict[str, Any], speedup: float) -> str:
    """What the speed-up becomes over a target that a faster export makes quicker."""
    low, high = found["range"]
    return (
        f"In {found['precision']} the target alone would be {found['times']:g} times as fast as in {role['precision']} "
        f"({low:g} to {high:g}, {found['kind']}). Over that baseline this run is "
        f"{found['speedup_over_it']:.2f} times as fast, not {speedup:.2f}; drafting for that target would make it "
        f"{found['speedup_with_it']:.2f}."
    )


def share_of(share: float) -> str:
    """A share that may be far below one in a hundred."""
    return f"{100 * share:.2g} %" if share >= 0.0005 else "less than 0.1 %"


def remedy_sentence(found: dict[str, Any]) -> str:
    """The cheapest change that makes a losing speculation win, or what came closest."""
    tried = counted(found["tried"], "change")
    best = found["best"]
    if best is None:
        return f"None of {tried} that were replayed fits in memory and gives a result: use policy target_only."
    change = f"{clean(best['change'])}: speedup {best['speedup']:.2f} by replay ({' '.join(best['set'])})"
    if found["wins"]:
        return f"Of {tried} replayed, cheapest kind first, this gives a speedup: {change}. It costs {best['cost']}."
    return f"None of {tried} that were replayed gives a speedup; the best is {change}. Use policy target_only."


def lossless_sentence(block: dict[str, Any]) -> tuple[str, bool]:
    """Whether the text is the one of the target alone, and whether that is good news."""
    rule, why = f"rule {block['rule']}", block["why"]
    if block["claim"] == "law":
        return f"{rule}: distribution-exact, another text of the target's distribution ({why}).", True
    if block["claim"] == "none":
        distance = block["total_variation"]
        sentence = f"{rule}: LOSSY, not the target's distribution: {why}."
        if distance["mean"] is None:
            return sentence, False
        return (
            f"{sentence} Total variation from it, by exact sums over the {counted(distance['positions'], 'position')}"
            f" tested: mean {distance['mean']:.3f}, largest {distance['max']:.3f}.",
            False,
        )
    checked, mismatches, ties = block["checked_tokens"], block["mismatches"], block["numerical_ties"]
    differ = f"{mismatches} {'mismatch' if mismatches == 1 else 'mismatches'}"
    counts = f"{rule}: {counted(checked, 'token')} checked, {differ}, {counted(ties, 'numerical tie')}"
    if mismatches:
        answers = counted(mismatches, "answer")
        return f"{counts}: NOT lossless, {answers} differ from the target's own text without a numerical tie.", False
    if ties:
        after = counted(block.get("not_compared_tokens", 0), "token")
        return (
            f"{counts}: equal up to last-bit ties; {after} after a tie have another prefix and are not compared.",
            True,
        )
    return f"{counts}: token-exact, every token is the target's own ({why}).", True


def usage_sentence(usage: Usage) -> str:
    """How many points ended a second, and the share of processor time that went into them."""
    points = f"{usage.points:,} {'point' if usage.points == 1 else 'points'} in {duration(1000 * usage.wall_s)}"
    shares = f"{percent(usage.of_cores)} of the time of {counted(usage.cores, 'core')}, "
    share = usage.of_processes
    shares += (
        "and a share of the processor time of all processes that is unknown, as a worker did not say"
        if share is None
        else f"{percent(share)} of the processor time of all processes"
    )
    return f"{points}, {three_digits(usage.points_per_s)} points/s. Evaluating them took {shares}."
