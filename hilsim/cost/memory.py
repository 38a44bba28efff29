"""The memory ledger of a placement: what lies in each chip's memory, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

from hilsim.cost.counts import body_weights, head_weights, kv_numbers_per_token
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


def weight_bytes(placed: Placed) -> int:
    """Matrices of one copy of the model: body and head, each at its own precision."""
    precision = placed.unit.precisions[placed.placement.precision]
    body = body_weights(placed.model.architecture) * precision.weight_bits.si
    return round((body + head_weights(placed.model) * precision.head_bits.si) / 8)


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


def role_items(placed: Placed, context: int, talkers: int) -> list[Item]:
    """Everything one model brings along."""
    name = f"{placed.role} {placed.model.name}"
    copies = graph_copies(placed)
    graphs = f" x {copies} graphs (widths {', '.join(map(str, placed.widths or ()))})" if copies > 1 else ""
    conversations = f" x {talkers} conversations" if talkers > 1 else ""
    items = [
        Item(f"{name}: weights {placed.placement.precision}{graphs}", copies * weight_bytes(placed)),
        Item(f"{name}: embedding table", embedding_bytes(placed)),
        Item(f"{name}: KV cache of {context} tokens{conversations}", talkers * kv_bytes(placed, context), True),
        Item(f"{name}: activations", activation_bytes(placed, context)),
    ]
    return [item for item in items if item.bytes]


def ledgers(setup: Setup) -> dict[str, Ledger]:
    """One ledger per chip in use, system and runtime reserves included."""
    scenario = setup.scenario
    roles = [placed for placed in (setup.target, setup.draft) if placed is not None]
    found = {}
    for name, chip in setup.chips.items():
        items = [Item("system reserve", round(chip.reserve.si))]
        here = [placed for placed in roles if placed.chip.name == name]
        for unit in dict.fromkeys(placed.placement.unit for placed in here):
            items.append(Item(f"{unit} runtime", round(chip.units[unit].reserve.si)))
        for placed in here:
            items += role_items(placed, scenario.context_tokens, scenario.workload.talkers)
        found[name] = Ledger(name, round(chip.memory.si), tuple(item for item in items if item.bytes))
    return found


def describe(ledger: Ledger) -> str:
    """The ledger as text: a line an item, the sum, the cap and the ratio."""
    rows = [f"  {gib(item.bytes):8.3f} GiB  {item.what}" for item in ledger.items]
    used, cap = gib(ledger.used_bytes), gib(ledger.cap_bytes)
    rows.append(f"  {used:8.3f} GiB  needed, of {cap:.3f} GiB ({ledger.ratio:.2f}x of the cap)")
    return "\n".join(rows)
