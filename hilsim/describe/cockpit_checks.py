"""Faults of the cockpit's keys that no single record can see: found before the run, all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from hilsim.describe.chip import Chip
from hilsim.describe.cockpit import (
    PLACED_STAGES,
    AtTimes,
    BackgroundTask,
    BargeIn,
    Demand,
    Passenger,
    Pauses,
    Playback,
    Speech,
    Stage,
    Swap,
)
from hilsim.describe.cockpit_names import Cockpit
from hilsim.describe.conversation import Conversation
from hilsim.describe.cross_checks import link_fault
from hilsim.describe.figure import FACTORS
from hilsim.describe.link import Link
from hilsim.describe.names import key_hint
from hilsim.describe.scenario import Lengths, Scenario
from hilsim.describe.setup import Placed, PlacedLink, link_between
from hilsim.errors import Fault

# What a trace calls work of its own: a background task of that name could not be distinguished from it.
STEPS = ("prefill", "draft", "decode", "verify", "prompt", "drafts", "verdict", "network", "wake", "switch", "fault")
LONGEST_SPEECH_S = 3600
RESERVED = (*STEPS, "wake_word", "playback", *PLACED_STAGES)


def cockpit_faults(
    cockpit: Cockpit,
    target: Placed,
    draft: Placed | None,
    link: Link | None,
    conversations: Sequence[Conversation],
    file: str,
) -> Iterator[Fault]:
    """What does not go together; `link` is that of draft and target."""
    scenario, home = cockpit.scenario, target.chip.name
    roles = [placed.chip for placed in (target, draft) if placed is not None]
    chips = {chip.name: chip for chip in (*roles, *cockpit.chips)}
    yield from passenger_faults(scenario, cockpit.written, file)
    yield from task_faults(scenario, list(chips.values()), file)
    first = link_between(target, draft, link)
    links = (*first, *cockpit.links)
    yield from link_faults(links, chips, len(first), file)
    workload = scenario.workload
    turns = workload.requests if isinstance(workload, Lengths) else sum(len(one.turns) for one in conversations)
    if scenario.trip is not None and scenario.trip.cold_start:
        yield from start_faults(
            scenario.speech, [placed for placed in (target, draft) if placed is not None], chips, file
        )
    if scenario.speech is None:
        if scenario.links:
            yield Fault(file, "links", f"{len(scenario.links)}, without speech", "speech, whose stages cross them")
        return
    yield from stage_faults(scenario.speech, home, scenario.application or home, links, chips, file)
    yield from preface_faults(scenario, file)
    yield from length_faults(scenario, scenario.speech.playback, conversations, file)
    if scenario.speech.budget.reaction_ms is not None and scenario.speech.barge_in is None:
        yield Fault(file, "speech.budget.reaction_ms", "a limit without barge_in", "barge_in, which it is a limit of")
    if scenario.speech.swap is not None:
        yield from swap_faults(scenario.speech, scenario.speech.swap, target, file)
    if scenario.speech.barge_in is not None:
        lost = any(one.queue_limit is not None or one.patience_s is not None for one in scenario.passengers)
        yield from barge_in_faults(scenario.speech.barge_in, None if lost else turns, file)


def passenger_faults(scenario: Scenario, asked: Sequence[Passenger], file: str) -> Iterator[Fault]:
    """Passengers of one name, beside several concurrent sessions, or who ask after the trip; a trip without any.

    `asked` are the passengers as written: of an arrival file, a recording, a trip may take the first part.
    """
    if twice := repeated([passenger.name for passenger in scenario.passengers]):
        yield Fault(file, "passengers", f"{', '.join(twice)} twice", "a name for each passenger")
    talkers = scenario.workload.talkers
    if scenario.passengers and talkers > 1:
        expected = "1, as every passenger is one"
        yield Fault(file, "workload.talkers", f"{talkers}, with passengers", expected, "Remove it.")
    for index, passenger in enumerate(scenario.passengers):
        if isinstance(passenger.arrivals, Pauses) and passenger.queue_limit is not None:
            found = f"{passenger.queue_limit}, of one who asks after pauses"
            expected = "none: the next question comes up after the last answer, so none waits"
            yield Fault(file, f"passengers[{index}].queue_limit", found, expected, "Remove it.")
    if scenario.trip is None:
        return
    if not (scenario.passengers or scenario.speech or scenario.trip.cold_start):
        found = "a trip without passengers, whose minutes end nothing"
        yield Fault(file, "trip", found, "passengers, or no trip", "Add passengers, or remove trip.")
    end_s = scenario.trip.minutes * 60
    for index, passenger in enumerate(scenario.passengers):
        arrivals = passenger.arrivals
        if isinstance(arrivals, AtTimes) and arrivals.at_s and arrivals.at_s[0] >= end_s:
            found = f"the first question at {arrivals.at_s[0]:g} s, in a trip of {end_s:g} s"
            yield Fault(file, f"passengers[{index}].arrivals", found, "instants in seconds, before the end of the trip")
            continue
        written = asked[index].arrivals if index < len(asked) else None
        if isinstance(written, AtTimes) and (late := [one for one in written.at_s if one >= end_s]):
            found = f"{', '.join(f'{one:g}' for one in late)} s, in a trip of {end_s:g} s"
            yield Fault(file, f"passengers[{index}].arrivals.at_s", found, "instants before the end of the trip")


def task_faults(scenario: Scenario, chips: Sequence[Chip], file: str) -> Iterator[Fault]:
    """Background tasks without a name of their own, and streams that ask more of a memory than there is."""
    names = [task.name for task in scenario.background]
    if twice := repeated(names):
        yield Fault(file, "background", f"{', '.join(twice)} twice", "a name for each task")
    units = {unit for chip in chips for unit in chip.units}
    taken = {*RESERVED, *units, *(network.name for network in scenario.networks)}
    for index, name in enumerate(names):
        if name in taken:
            found = f"{name!r}, the name of a unit, a stage or a network"
            yield Fault(file, f"background[{index}].name", found, "a name of its own")
    yield from order_faults({task.name: task for task in scenario.background}, scenario, file)
    for chip in chips:
        streams = [task for task in scenario.background if task.chip == chip.name and task.gigabytes_per_s is not None]
        asked = sum((task.gigabytes_per_s or 0.0) * task.duty for task in streams) * FACTORS["GB/s"]
        most = chip.peak_memory_rate
        if asked >= most.ends[1]:
            found = f"streams of {asked / 1e9:.4g} GB/s on {chip.name}, a utilisation of {asked / most.si:.2f}"
            expected = f"less than its memory rate, {most.value:g} {most.unit}"
            yield Fault(file, "background", found, expected, "Lower gigabytes_per_s or duty.")


def order_faults(tasks: Mapping[str, BackgroundTask], scenario: Scenario, file: str) -> Iterator[Fault]:
    """Tasks after others that do not exist, that have another period, or that come after them in turn."""
    named: set[str] = set()
    for index, task in enumerate(scenario.background):
        if task.after is None:
            continue
        place = f"background[{index}]"
        if (before := tasks.get(task.after)) is None:
            known = ", ".join(tasks)
            yield Fault(file, f"{place}.after", repr(task.after), f"a task: {known}", key_hint(task.after, tasks))
            continue
        if task.period_ms != before.period_ms:
            found = f"{task.period_ms:g}, after {before.name} every {before.period_ms:g} ms"
            yield Fault(file, f"{place}.period_ms", found, "the same period")
        way = [task.name]
        while (last := tasks.get(way[-1])) is not None and last.after is not None and last.after not in way:
            way.append(last.after)
        if last is not None and last.after == task.name and task.name not in named:
            named.update(way)
            found = f"a cycle, {' after '.join([*way, task.name])}"
            yield Fault(file, f"{place}.after", found, "a first task, which comes after no other")


def link_faults(links: Sequence[PlacedLink], chips: dict[str, Chip], first: int, file: str) -> Iterator[Fault]:
    """Links from a chip to itself, between chips that are joined already, or that do not reach from one to the other.

    The `first` of them, that of draft and target, is checked with those.
    """
    for index, placed in enumerate(links[first:]):
        place, (one, other) = f"links[{index}]", placed.chips
        if one == other:
            yield Fault(file, f"{place}.between", f"{one} and itself, a cycle", "two chips")
            continue
        if any(earlier.joins(one, other) for earlier in links[: first + index]):
            yield Fault(file, f"{place}.between", f"{one} and {other}, joined already", "one link between two chips")
        if fault := link_fault(placed.link, [chips[one], chips[other]], "its ends", file):
            yield fault.at(f"{place}.link")


def stage_faults(
    speech: Speech, target: str, application: str, links: Sequence[PlacedLink], known: Collection[str], file: str
) -> Iterator[Fault]:
    """Stages that sound or text cannot reach from the application's chip: directly, or by way of the target's.

    Chips that are not `known` have a fault of their own.
    """

    def linked(one: str, other: str) -> bool:
        return one == other or any(link.joins(one, other) for link in links)

    for name in PLACED_STAGES:
        chip = getattr(speech, name).chip
        if chip not in known or linked(application, chip) or (linked(application, target) and linked(target, chip)):
            continue
        found = f"{chip}, which no link joins with {application}" + (f" or {target}" if target != application else "")
        remedy = f"Add to links: {{link: 1000base-t1, between: [{application}, {chip}]}}."
        yield Fault(file, f"speech.{name}.chip", found, "a chip that its neighbours reach", remedy)


def preface_faults(scenario: Scenario, file: str) -> Iterator[Fault]:
    """What stands before and around a question, where the context does not hold it."""
    speech, workload = scenario.speech, scenario.workload
    assert speech is not None, "called only with speech"
    prompt, tools = speech.prompt, speech.tools
    parts = {
        "system": prompt.system_tokens,
        "tool": prompt.tool_tokens,
        "retrieved": prompt.retrieved_tokens,
        "tool call": 0 if tools is None else tools.call_tokens + tools.result_tokens,
    }
    total = sum(parts.values())
    if isinstance(workload, Lengths):
        parts["prompt"] = workload.prompt_tokens
    if total and sum(parts.values()) >= scenario.context_tokens:
        found = (
            f"{sum(parts.values())} tokens ({', '.join(f'{name} {count}' for name, count in parts.items() if count)})"
        )
        expected = f"fewer than context_tokens ({scenario.context_tokens})"
        yield Fault(file, "speech.prompt", found, expected, "Raise context_tokens, or put less before the question.")


def length_faults(
    scenario: Scenario, playback: Playback, conversations: Sequence[Conversation], file: str
) -> Iterator[Fault]:
    """Questions and answers that take longer than an hour to say."""
    workload, said = scenario.workload, {}
    if isinstance(workload, Lengths):
        said["an answer"] = workload.answer_tokens(scenario.context_tokens) / playback.tokens_per_word
        said["a question"] = workload.prompt_tokens / playback.tokens_per_word
    else:
        said["a question"] = max((len(turn.split()) for one in conversations for turn in one.turns), default=0)
    for name, words in said.items():
        if (seconds := words / playback.words_per_s) > LONGEST_SPEECH_S:
            found = f"{name} of {words:.0f} words, {seconds / 3600:.3g} h at {playback.words_per_s:g} words a second"
            yield Fault(file, "speech.playback", found, "an hour at most", "Raise words_per_s, or ask for less.")


def swap_faults(speech: Speech, swap: Swap, target: Placed, file: str) -> Iterator[Fault]:
    """A network that is swapped with the target and is not on its chip, or comes from a flash of unknown rate."""
    chip = getattr(speech, swap.stage).chip
    if chip != target.chip.name:
        found = f"{swap.stage}, on {chip}"
        yield Fault(file, "speech.swap.stage", found, f"a stage on {target.chip.name}, as the target is")
    if swap.flash_mb_per_s is None and target.chip.flash_rate is None:
        found = f"no flash_mb_per_s, and {target.chip.name} has no flash_rate"
        yield Fault(file, "speech.swap", found, "a rate at which models are loaded", "Add flash_mb_per_s.")


def start_faults(
    speech: Speech | None, models: Sequence[Placed], chips: Mapping[str, Chip], file: str
) -> Iterator[Fault]:
    """A cold start on chips that do not say how long it takes; a first pass that is not described is as any other."""
    lacking: dict[str, dict[str, str]] = {}
    stages: list[tuple[Stage, Demand | None]] = []
    if speech is not None:
        recognition, end = speech.recognition, speech.end_of_speech
        stages = [(recognition, speech.wake_word), (recognition, recognition.model), (end, end.model)]
    for stage, demand in stages:
        read = stage.unit is not None and demand is not None and demand.shape is not None
        if read and stage.chip is not None and chips[stage.chip].flash_rate is None:
            lacking[stage.chip] = {"flash_rate": "GB/s"}
    for placed in models:
        figures = {
            "flash_rate": ("GB/s", placed.chip.flash_rate),
            f"units.{placed.unit_name}.start_up": ("s", placed.unit.start_up),
        }
        missing = {name: unit for name, (unit, figure) in figures.items() if figure is None}
        lacking.setdefault(placed.chip.name, {}).update(missing)
    for chip, units in lacking.items():
        if units:
            named = [f"{name}: {{value: ..., unit: {unit}, kind: ..., source: ...}}" for name, unit in units.items()]
            found = f"true, and {chip} has no {' and no '.join(units)}"
            remedy = f"Add to the file of {chip}: {', '.join(named)}; or remove cold_start."
            yield Fault(file, "trip.cold_start", found, "chips that say how long their start takes", remedy)


def barge_in_faults(barge_in: BargeIn, turns: int | None, file: str) -> Iterator[Fault]:
    """Interrupted turns that do not exist, or that are both listed and drawn.

    There are as many `turns` as the workload has; None where questions may be lost, which are turns beside them.
    """
    if not barge_in.turns and not barge_in.share:
        yield Fault(file, "speech.barge_in", "neither share nor turns", "one of them", "Add one, or remove barge_in.")
    if barge_in.turns and barge_in.share > 0:
        yield Fault(file, "speech.barge_in", "both share and turns", "one of them")
    if beyond := [turn for turn in barge_in.turns if turn < 0 or (turns is not None and turn >= turns)]:
        found, last = ", ".join(map(str, beyond)), "" if turns is None else f", 0 to {turns - 1}"
        yield Fault(file, "speech.barge_in.turns", found, f"turns of the report{last or ' from 0'}")
    if twice := repeated([str(turn) for turn in barge_in.turns]):
        yield Fault(file, "speech.barge_in.turns", f"{', '.join(twice)} twice", "each turn once")


def repeated(names: Sequence[str]) -> list[str]:
    """Those that stand there more than once."""
    return sorted({name for name in names if names.count(name) > 1})
