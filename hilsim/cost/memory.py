"""The memory ledger of a placement: what lies in each chip's memory while it is loaded and in use, and whether it fits.

A ledger is of one reading of the chips' figures: as they stand, or each at the end of its range that needs the most
memory, or the least; an assumed yes or no is then the one or the other. `fit.py` draws the verdict from several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from hilsim.cost.counts import (
    adapter_weights,
    body_weights,
    head_weights,
    kv_numbers,
    kv_numbers_per_token,
    state_bytes,
    table_numbers,
    vision_weights,
)
from hilsim.cost.demand import parameter_bytes, precision_of
from hilsim.cost.step import graphs_run
from hilsim.describe.chip import Ability, Chip
from hilsim.describe.cockpit import Demand, Speech, Stage
from hilsim.describe.compiled import ACTIVATIONS, WORKING_SET, Compiled
from hilsim.describe.drafting import TARGETS_HEAD, held_beside
from hilsim.describe.figure import Figure
from hilsim.describe.layers import BITS
from hilsim.describe.placement import HeadPlacement
from hilsim.describe.policy import Ssd
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, Setup
from hilsim.units import MEGA, gib

Value = Callable[[Figure], float]
FORECAST_PREFIX = 16  # positions, as the trained ones in models/ssd have; assumed of deployed ones, a few MiB at most


@dataclass(frozen=True)
class FigureReading:
    """Which value of each figure counts, in base units: of one that takes memory, of a size, and of a yes or no."""

    need: Value
    size: Value
    holds: Callable[[Ability], bool]


AS_GIVEN = FigureReading(lambda f: f.si, lambda f: f.si, lambda ability: ability.value)
# What a file only assumes of an ability counts as no, or as yes: no ability takes memory.
NEEDS_MOST = FigureReading(lambda f: f.ends[1], lambda f: f.ends[0], lambda a: a.value and a.kind != "assumed")
NEEDS_LEAST = FigureReading(lambda f: f.ends[0], lambda f: f.ends[1], lambda a: a.value or a.kind == "assumed")


# What takes memory: weights in any form, caches of tokens, activations and working sets, runtimes, and the system.
Part = Literal["weights", "KV", "buffers", "runtime", "system"]


@dataclass(frozen=True)
class Item:
    """One line of the ledger, of a `part` of it; `after_loading` where it is taken when everything is loaded.

    What is `while_room` is taken in a run when it has been read, and given back where a conversation needs the memory.
    """

    what: str
    bytes: int
    part: Part
    per_conversation: bool = False
    after_loading: bool = False
    while_room: bool = False


@dataclass(frozen=True)
class Ledger:
    """All that one chip must hold at once in use, and what loading holds for a while beside it.

    Models are loaded one after another, and caches and working sets are taken when all are there: so while loading
    `staged_bytes`, of the model that stages the most, lie beside everything that is not taken later.
    """

    chip: str
    cap_bytes: int
    items: tuple[Item, ...]
    staged_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """In use, once everything is loaded."""
        return sum(item.bytes for item in self.items)

    @property
    def loading_bytes(self) -> int:
        """The peak while loading."""
        return self.staged_bytes + sum(item.bytes for item in self.items if not item.after_loading)

    @property
    def needed_bytes(self) -> int:
        """The larger of the two."""
        return max(self.used_bytes, self.loading_bytes)

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.cap_bytes

    @property
    def ratio(self) -> float:
        """Needed over available."""
        return self.needed_bytes / self.cap_bytes


def layer_bytes(placed: Placed, of: FigureReading = AS_GIVEN) -> int:
    """Matrices of one copy of all layers."""
    precision, shape = placed.unit.precisions[placed.placement.precision], placed.model.architecture
    weights = body_weights(shape) + held_beside(placed.head_kind, shape)
    return round(weights * of.need(precision.weight_bits) / 8)


def head_bytes(placed: Placed, of: FigureReading = AS_GIVEN) -> int:
    """One copy of the output head, at its own precision; nothing where it is the target's."""
    if borrows_head(placed, of):
        return 0
    precision = placed.unit.precisions[placed.placement.precision]
    return round(head_weights(placed.model) * of.need(precision.head_bits) / 8)


def weight_bytes(placed: Placed, of: FigureReading = AS_GIVEN) -> int:
    """Matrices of one copy of the model: layers and head."""
    return layer_bytes(placed, of) + head_bytes(placed, of)


def embedding_bytes(placed: Placed) -> int:
    """The tables that tokens look up, at 16 bits; a whole head that is tied and as wide shares the embedding.

    A draft head on its target's unit looks tokens up in the target's.
    """
    if placed.with_target:
        return 0
    precision, model = placed.unit.precisions[placed.placement.precision], placed.model
    shared = model.architecture.tied_head and precision.head_bits.si == 16 and model.head_entries is None
    return 2 * (table_numbers(model) - (head_weights(model) if shared else 0))


def graph_copies(placed: Placed, of: FigureReading = AS_GIVEN) -> int:
    """How often the weights are held: once per compiled graph, or once where graphs share or widths are free."""
    return 1 if placed.widths is None or share_weights(placed, of) else len(placed.widths)


def share_weights(placed: Placed, of: FigureReading = AS_GIVEN) -> bool:
    """Whether graphs on a unit can hold weights together."""
    shared = placed.unit.shared_weights
    return placed.widths is None or (shared is not None and of.holds(shared))


def borrows_head(placed: Placed, of: FigureReading = AS_GIVEN) -> bool:
    """Whether a draft head reads the target's own output head, which lies on the unit already."""
    head = placed.placement
    whole = isinstance(head, HeadPlacement) and head.head_kind in TARGETS_HEAD and head.head_entries is None
    return whole and placed.with_target and share_weights(placed, of)


def kv_bytes(placed: Placed, context: int, of: FigureReading = AS_GIVEN) -> int:
    """Keys and values of one conversation over the whole context, allocated at once as runtimes do, and its states."""
    precision, shape = placed.unit.precisions[placed.placement.precision], placed.model.architecture
    return round(kv_numbers(shape, context) * of.need(precision.kv_bits) / 8) + state_bytes(shape)


def activation_bytes(placed: Placed, context: int) -> int:
    """Working set of the widest step: hidden states in and out, feed-forward, scores, logits; 16-bit, logits 32-bit.

    Into a draft head come the target's hidden states as well.
    """
    shape, model = placed.model.architecture, placed.model
    rows = placed.widths[-1] if placed.widths is not None else min(context, 512)
    hidden = rows * ((4 + placed.states_read) * shape.hidden + 2 * shape.intermediate)
    scores = rows * shape.heads * context if kv_numbers_per_token(shape) or state_bytes(shape) else 0
    logits_rows = (rows if placed.widths is not None else 64) * model.rows_a_position
    return 2 * (hidden + scores) + 4 * logits_rows * model.row_entries


@dataclass(frozen=True)
class Split:
    """How a model is cut up for a unit that limits what one graph and one context may hold.

    `graphs` run one after another in a step; `contexts` hold all graphs of all widths, cache and working set.
    """

    graphs: int
    contexts: int


def split(placed: Placed, context: int, talkers: int = 1, of: FigureReading = AS_GIVEN) -> Split:
    """The cuts that a unit's graph and context limits make; one context where it has no limit.

    Every context maps at most `context_limit` bytes, so that much of weights (all copies), cache and activations.
    """
    graphs = graphs_run(placed.model, placed.unit, placed.unit.precisions[placed.placement.precision])
    limit = placed.unit.context_limit
    if limit is None:
        return Split(graphs, 1)
    mapped = graph_copies(placed, of) * weight_bytes(placed, of) + talkers * kv_bytes(placed, context, of)
    return Split(graphs, ceil((mapped + activation_bytes(placed, context)) / of.size(limit)))


def role_items(placed: Placed, context: int, talkers: int, of: FigureReading = AS_GIVEN) -> list[Item]:
    """Everything one model brings along."""
    name = f"{placed.role} {placed.model.name}"
    precision = placed.unit.precisions[placed.placement.precision]
    copies, parts = graph_copies(placed, of), split(placed, context, talkers, of)
    graphs = f" x {copies} graphs (widths {', '.join(map(str, placed.widths or ()))})" if copies > 1 else ""
    cut = f" in {parts.graphs} parts" if parts.graphs > 1 else ""
    conversations = f" x {talkers} conversations" if talkers > 1 else ""
    items = [
        Item(f"{name}: layers {placed.placement.precision}{cut}{graphs}", copies * layer_bytes(placed, of), "weights"),
        Item(
            f"{name}: output head {precision.head_bits.value:g}-bit{graphs}", copies * head_bytes(placed, of), "weights"
        ),
        Item(f"{name}: embedding table", embedding_bytes(placed), "weights"),
        Item(f"{name}: vision tower, {BITS}-bit", vision_weights(placed.model) * BITS // 8, "weights"),
        *adapter_items(name, placed),
        Item(
            f"{name}: KV cache of {context} tokens{conversations}",
            talkers * kv_bytes(placed, context, of),
            "KV",
            True,
            True,
        ),
        Item(f"{name}: activations", activation_bytes(placed, context), "buffers", after_loading=True),
        *compiled_items(name, placed.compiled),
    ]
    return [item for item in items if item.bytes]


def swap_items(setup: Setup, chip: str) -> list[Item]:
    """What the network of a stage that is swapped with the target needs beyond the target's place."""
    speech = setup.scenario.speech
    if speech is None or speech.swap is None or chip != setup.target.chip.name:
        return []
    place = graph_copies(setup.target) * weight_bytes(setup.target) + embedding_bytes(setup.target)
    beyond = max(0, round(speech.swap.megabytes * MEGA) - place)
    return [
        Item(f"{speech.swap.stage}: parameters beyond those of the target, in whose place they are", beyond, "weights")
    ]


def stage_shapes(speech: Speech | None, chip: str) -> Iterator[tuple[str, str, Demand]]:
    """Name, unit and demand of the networks that stages of a spoken turn run on units of a chip.

    One that is swapped with the target lies in its place, and is not among them.
    """
    if speech is None:
        return
    recognition, end = speech.recognition, speech.end_of_speech
    swapped = None if speech.swap is None else speech.swap.stage
    stages: tuple[tuple[str, Stage, Demand | None], ...] = (
        ("wake_word", recognition, speech.wake_word),
        ("end_of_speech", end, end.model),
        ("recognition", recognition, recognition.model),
    )
    for name, stage, demand in stages:
        here = stage.chip == chip and name != swapped
        if here and stage.unit is not None and demand is not None and demand.shape is not None:
            yield name, stage.unit, demand


def shape_items(shapes: Iterable[tuple[str, str, Demand]], chip: Chip, of: FigureReading = AS_GIVEN) -> Iterator[Item]:
    """Parameters of networks by name, unit of a chip, and demand."""
    for name, unit, demand in shapes:
        if demand.shape is not None:
            bits = of.need(precision_of(demand, chip.units[unit]).weight_bits)
            yield Item(f"{name}: parameters, {bits:g}-bit", parameter_bytes(demand.shape, bits), "weights")


def other_items(scenario: Scenario, chip: Chip, of: FigureReading = AS_GIVEN) -> list[Item]:
    """Parameters of the networks of stages and background tasks on a chip's units."""
    tasks = (
        (task.name, task.unit, task.work)
        for task in scenario.background
        if task.chip == chip.name and task.unit is not None and task.work is not None
    )
    return list(shape_items([*stage_shapes(scenario.speech, chip.name), *tasks], chip, of))


def prefix_items(setup: Setup, placed: Placed, of: FigureReading = AS_GIVEN) -> list[Item]:
    """The kept prefix of one model: keys and values of system prompt and tools, beside those of any conversation.

    It is no reason to refuse a placement: where it does not fit it is left out, and a run reads the prefix again.
    """
    speech = setup.scenario.speech
    if speech is None or not speech.prompt.kept or not speech.prompt.standing_tokens:
        return []
    tokens = speech.prompt.standing_tokens
    what = f"{placed.role} {placed.model.name}: KV cache of the kept prefix, {tokens} tokens"
    return [Item(what, kv_bytes(placed, tokens, of), "KV", after_loading=True, while_room=True)]


def forecast_items(setup: Setup, placed: Placed, of: FigureReading = AS_GIVEN) -> list[Item]:
    """What self-speculation trains beside the target: embeddings of forecast tokens, keys and values before them."""
    policy = setup.scenario.policy
    if not isinstance(policy, Ssd) or placed.role != "target":
        return []
    embeddings = policy.forecast * placed.model.architecture.hidden * BITS // 8
    what = f"{policy.forecast} forecast tokens and a prefix of {FORECAST_PREFIX} positions"
    return [
        Item(
            f"{placed.role} {placed.model.name}: {what}", embeddings + kv_bytes(placed, FORECAST_PREFIX, of), "weights"
        )
    ]


def prefix_bytes(setup: Setup) -> dict[str, int]:
    """Bytes of the kept prefix by chip."""
    found: dict[str, int] = {}
    for placed in setup.roles.values():
        for item in prefix_items(setup, placed):
            found[placed.chip.name] = found.get(placed.chip.name, 0) + item.bytes
    return found


def adapter_items(name: str, placed: Placed) -> list[Item]:
    """All adapters that are loaded; switching between them moves no weights."""
    if (adapter := placed.model.adapter) is None:
        return []
    each = adapter_weights(placed.model) * BITS // 8
    return [
        Item(f"{name}: {adapter.loaded} adapters of rank {adapter.rank}, {BITS}-bit", adapter.loaded * each, "weights")
    ]


def runtime_items(placed: Placed, own: int, memory: float, of: FigureReading = AS_GIVEN) -> list[Item]:
    """What the runtime takes beside a model of `own` bytes: its workspace, and a share of the memory in advance.

    The share holds the model and the workspace. A model that is larger than the share does not start, whatever else is
    free: what the runtime would leave then counts as taken.
    """
    name, unit, items = f"{placed.role} {placed.model.name}", placed.unit, []
    if unit.workspace is not None:
        items.append(
            Item(f"{name}: runtime's workspace", round(of.need(unit.workspace)), "runtime", after_loading=True)
        )
    if unit.taken_in_advance is not None:
        share = of.need(unit.taken_in_advance)
        left = round(share * memory) - own - sum(item.bytes for item in items)
        if left >= 0:
            items.append(
                Item(f"{name}: more that the runtime takes when it starts ({share:.0%} of the memory)", left, "runtime")
            )
        else:
            over = round((1 - share) * memory)
            items.append(
                Item(f"{name}: memory beyond the runtime's share of {share:.0%}, which it needs", over, "runtime")
            )
    return [item for item in items if item.bytes]


def compiled_items(name: str, compiled: Compiled | None) -> list[Item]:
    """What rewrites keep in memory, and of a network its parameters."""
    return [
        Item(f"{name}: {what}", nbytes, "buffers" if what in (ACTIVATIONS, WORKING_SET) else "weights")
        for what, nbytes in (() if compiled is None else compiled.items)
    ]


def ledgers(setup: Setup, of: FigureReading = AS_GIVEN, context: int | None = None) -> dict[str, Ledger]:
    """One ledger per chip in use, system and runtime reserves included; for another `context` than the scenario's."""
    scenario = setup.scenario
    tokens, talkers = context or scenario.context_tokens, scenario.sessions
    roles = [placed for placed in (setup.target, setup.draft) if placed is not None]
    found = {}
    for name, chip in setup.chips.items():
        memory = of.size(chip.memory)
        items = [Item("system reserve", round(of.need(chip.reserve)), "system")]
        here = [placed for placed in roles if placed.chip.name == name]
        beside = [network.unit_name for network in setup.networks if network.chip.name == name]
        for unit in dict.fromkeys([*(placed.placement.unit for placed in here), *beside]):
            contexts = beside.count(unit) + sum(
                split(placed, tokens, talkers, of).contexts
                for placed in here
                if placed.placement.unit == unit and not (placed.with_target and placed.unit.context_limit is None)
            )
            times = f" x {contexts} contexts" if contexts > 1 else ""
            items.append(Item(f"{unit} runtime{times}", contexts * round(of.need(chip.units[unit].reserve)), "runtime"))
        own = {placed.role: role_items(placed, tokens, talkers, of) for placed in here}
        for placed in here:
            items += [*own[placed.role], *forecast_items(setup, placed, of)]
            if not placed.with_target:  # a head on its target's unit is in the target's runtime
                inside = [one.role for one in here if one is placed or one.with_target]
                size = sum(item.bytes for role in inside for item in own[role])
                items += runtime_items(placed, size, memory, of)
        for network in setup.networks:
            if network.chip.name == name:
                items += compiled_items(f"network {network.placement.name}", network.compiled)
        items += [*swap_items(setup, name), *other_items(scenario, chip, of)]
        kept = [item for placed in here for item in prefix_items(setup, placed, of)]
        if sum(item.bytes for item in [*items, *kept]) <= round(memory):
            items += kept
        staged = [
            round(of.need(placed.unit.staged) * weight_bytes(placed, of))
            for placed in here
            if placed.unit.staged is not None
        ]
        found[name] = Ledger(name, round(memory), tuple(item for item in items if item.bytes), max(staged, default=0))
    return found


def describe(ledger: Ledger) -> str:
    """The ledger as text: a line an item, the sum, the cap and the ratio; and the peak while loading."""
    rows = [f"  {gib(item.bytes):8.3f} GiB  {item.what}" for item in ledger.items]
    used, cap = gib(ledger.used_bytes), gib(ledger.cap_bytes)
    rows.append(f"  {used:8.3f} GiB  needed, of {cap:.3f} GiB ({ledger.used_bytes / ledger.cap_bytes:.2f}x of the cap)")
    loading = f"while loading, {gib(ledger.staged_bytes):.3f} GiB of it weights held a second time"
    rows.append(f"  {gib(ledger.loading_bytes):8.3f} GiB  {loading}")
    return "\n".join(rows)
