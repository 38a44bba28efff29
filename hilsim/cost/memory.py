"""The memory ledger of a placement: what lies in each chip's memory, whether it fits, and how long a context would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hilsim.cost.counts import body_weights, head_weights, kv_numbers_per_token
from hilsim.cost.step import graphs_run
from hilsim.describe.compiled import Compiled
from hilsim.describe.load import Placed, Setup
from hilsim.units import gib


@dataclass(frozen=True)
class Item:
    """One line of the ledger."""

    what: str
    bytes: int
    per_conversation: bool = False


@dataclass(frozen=True)
class Ledger:
    """All that one chip must hold at once."""

    chip: str
    cap_bytes: int
    items: tuple[Item, ...]

    @property
    def used_bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    @property
    def fits(self) -> bool:
        return self.used_bytes <= self.cap_bytes

    @property
    def ratio(self) -> float:
        """Needed over available."""
        return self.used_bytes / self.cap_bytes


def layer_bytes(placed: Placed) -> int:
    """Matrices of one copy of all layers."""
    precision = placed.unit.precisions[placed.placement.precision]
    return round(body_weights(placed.model.architecture) * precision.weight_bits.si / 8)


def head_bytes(placed: Placed) -> int:
    """One copy of the output head, at its own precision."""
    precision = placed.unit.precisions[placed.placement.precision]
    return round(head_weights(placed.model) * precision.head_bits.si / 8)


def weight_bytes(placed: Placed) -> int:
    """Matrices of one copy of the model: layers and head."""
    return layer_bytes(placed) + head_bytes(placed)


def embedding_bytes(placed: Placed) -> int:
    """The embedding table at 16 bits; shared with the head only where that is tied and 16 bits wide as well."""
    precision = placed.unit.precisions[placed.placement.precision]
    if placed.model.architecture.tied_head and precision.head_bits.si == 16:
        return 0
    return 2 * head_weights(placed.model)


def graph_copies(placed: Placed) -> int:
    """How often the weights are held: once per compiled graph, or once where graphs share or widths are free."""
    shared = placed.unit.shared_weights
    if placed.widths is None or (shared is not None and shared.value):
        return 1
    return len(placed.widths)


def kv_bytes(placed: Placed, context: int) -> int:
    """Keys and values of one conversation over the whole context, allocated at once as runtimes do."""
    precision = placed.unit.precisions[placed.placement.precision]
    return round(kv_numbers_per_token(placed.model.architecture) * context * precision.kv_bits.si / 8)


def activation_bytes(placed: Placed, context: int) -> int:
    """Working set of the widest step: hidden states in and out, feed-forward, scores, logits; 16-bit, logits 32-bit."""
    shape = placed.model.architecture
    rows = placed.widths[-1] if placed.widths is not None else min(context, 512)
    hidden = rows * (4 * shape.hidden + 2 * shape.intermediate)
    scores = rows * shape.heads * context
    logits_rows = rows if placed.widths is not None else 64
    return 2 * (hidden + scores) + 4 * logits_rows * placed.model.vocabulary.entries


@dataclass(frozen=True)
class Split:
    """How a model is cut up for a unit that limits what one graph and one context may hold.

    `graphs` run one after another in a step; `contexts` hold all graphs of all widths, cache and working set.
    """

    graphs: int
    contexts: int


def split(placed: Placed, context: int, talkers: int = 1) -> Split:
    """The cuts that a unit's graph and context limits make; one context where it has no limit.

    Every context maps at most `context_limit` bytes, so that much of weights (all copies), cache and activations.
    """
    graphs = graphs_run(placed.model, placed.unit, placed.unit.precisions[placed.placement.precision])
    limit = placed.unit.context_limit
    if limit is None:
        return Split(graphs, 1)
    mapped = graph_copies(placed) * weight_bytes(placed) + talkers * kv_bytes(placed, context)
    return Split(graphs, ceil((mapped + activation_bytes(placed, context)) / limit.si))


def role_items(placed: Placed, context: int, talkers: int) -> list[Item]:
    """Everything one model brings along."""
    name = f"{placed.role} {placed.model.name}"
    precision = placed.unit.precisions[placed.placement.precision]
    copies, parts = graph_copies(placed), split(placed, context, talkers)
    graphs = f" x {copies} graphs (widths {', '.join(map(str, placed.widths or ()))})" if copies > 1 else ""
    cut = f" in {parts.graphs} parts" if parts.graphs > 1 else ""
    conversations = f" x {talkers} conversations" if talkers > 1 else ""
    items = [
        Item(f"{name}: layers {placed.placement.precision}{cut}{graphs}", copies * layer_bytes(placed)),
        Item(f"{name}: output head {precision.head_bits.value:g}-bit{graphs}", copies * head_bytes(placed)),
        Item(f"{name}: embedding table", embedding_bytes(placed)),
        Item(f"{name}: KV cache of {context} tokens{conversations}", talkers * kv_bytes(placed, context), True),
        Item(f"{name}: activations", activation_bytes(placed, context)),
        *compiled_items(name, placed.compiled),
    ]
    return [item for item in items if item.bytes]


def compiled_items(name: str, compiled: Compiled | None) -> list[Item]:
    """What rewrites keep in memory, and of a network its parameters."""
    return [] if compiled is None else [Item(f"{name}: {what}", nbytes) for what, nbytes in compiled.items]


def ledgers(setup: Setup) -> dict[str, Ledger]:
    """One ledger per chip in use, system and runtime reserves included."""
    scenario = setup.scenario
    roles = [placed for placed in (setup.target, setup.draft) if placed is not None]
    found = {}
    for name, chip in setup.chips.items():
        items = [Item("system reserve", round(chip.reserve.si))]
        here = [placed for placed in roles if placed.chip.name == name]
        beside = [network.unit_name for network in setup.networks if network.chip.name == name]
        for unit in dict.fromkeys([*(placed.placement.unit for placed in here), *beside]):
            contexts = sum(
                split(placed, scenario.context_tokens, scenario.workload.talkers).contexts
                for placed in here
                if placed.placement.unit == unit
            ) + beside.count(unit)
            times = f" x {contexts} contexts" if contexts > 1 else ""
            items.append(Item(f"{unit} runtime{times}", contexts * round(chip.units[unit].reserve.si)))
        for placed in here:
            items += role_items(placed, scenario.context_tokens, scenario.workload.talkers)
        for network in setup.networks:
            if network.chip.name == name:
                items += compiled_items(f"network {network.placement.name}", network.compiled)
        found[name] = Ledger(name, round(chip.memory.si), tuple(item for item in items if item.bytes))
    return found


def describe(ledger: Ledger) -> str:
    """The ledger as text: a line an item, the sum, the cap and the ratio."""
    rows = [f"  {gib(item.bytes):8.3f} GiB  {item.what}" for item in ledger.items]
    used, cap = gib(ledger.used_bytes), gib(ledger.cap_bytes)
    rows.append(f"  {used:8.3f} GiB  needed, of {cap:.3f} GiB ({ledger.ratio:.2f}x of the cap)")
    return "\n".join(rows)


@dataclass(frozen=True)
class Largest:
    """The longest context that fits, and what stops it there: a chip's memory or a model's own limit."""

    tokens: int
    stopped_by: str


def largest_context(setup: Setup) -> Largest:
    """The longest `context_tokens` for which every chip's ledger fits; 0 where none does."""
    roles = [placed for placed in (setup.target, setup.draft) if placed is not None]
    shortest = min(roles, key=lambda placed: placed.model.architecture.context)
    most = shortest.model.architecture.context

    def overflowing(tokens: int) -> list[str]:
        scenario = setup.scenario.model_copy(update={"context_tokens": tokens})
        return [chip for chip, ledger in ledgers(replace(setup, scenario=scenario)).items() if not ledger.fits]

    if not overflowing(most):
        return Largest(most, f"{shortest.model.name} has no longer one")
    fits, breaks = 0, most
    while breaks - fits > 1:
        middle = (fits + breaks) // 2
        fits, breaks = (fits, middle) if overflowing(middle) else (middle, breaks)
    return Largest(fits, f"the memory of {' and '.join(overflowing(breaks))}")
