"""Speculation on measured chips: the speed-up that a chip's own t(1) and t(n) allow, against the published one.

    speed-up = tokens per verify step x t(1) / (t(n) + drafts x t(draft))

`tokens per verify step` is published with the row. The draft is what the method prescribes: EAGLE3 runs one layer of
the target's width with a 32,000-entry head, 6 times, and verifies 60 positions; MTP runs one layer and the target's own
head once a drafted token (NVIDIA/TensorRT-Edge-LLM 0.10.0, speculative-decoding guide). Where tokens per step are not
published, the row is turned round: how many it would take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilsim.cost.step import Phase, Step
from hilsim.describe.catalogue import known_as
from hilsim.describe.chip import Unit
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.fidelity.cases import CONTEXT, Case

EAGLE_STEPS, EAGLE_ENTRIES, EAGLE_TREE = 6, 32_000, 60


@dataclass(frozen=True)
class Method:
    """What a published row ran: positions verified, passes of the draft, and the draft's shape."""

    name: str
    positions: int
    drafts: int
    draft: Model


@dataclass(frozen=True)
class SpeedUp:
    """A published speed-up and what the chip model makes of it; times in seconds.

    `predicted` is None where tokens per step are not published; `needed` is then the number that would explain it.
    """

    case: Case
    method: Method
    published: float
    tokens_per_step: float | None
    one_row_s: float
    verify_s: float
    draft_s: float

    @property
    def step_s(self) -> float:
        return self.verify_s + self.draft_s

    @property
    def predicted(self) -> float | None:
        return None if self.tokens_per_step is None else self.tokens_per_step * self.one_row_s / self.step_s

    @property
    def needed(self) -> float:
        """Tokens per verify step that would make the published speed-up."""
        return self.published * self.step_s / self.one_row_s


def speed_ups(cases: Sequence[Case], families: Mapping[str, Family]) -> list[SpeedUp]:
    """Every `spec_decode` row whose note gives the vanilla rate."""
    found = []
    for case in cases:
        if case.kind == "speculation" and (row := speed_up(case, case.unit(families))) is not None:
            found.append(row)
    return found


def speed_up(case: Case, unit: Unit) -> SpeedUp | None:
    """One row, from the chip's own step times."""
    row = case.measurement
    vanilla = row.noted("vanilla rate")
    if vanilla is None or case.model is None:
        return None
    method = method_of(case, case.model)
    cached = (row.context or CONTEXT) - 1

    def seconds(model: Model, rows: int) -> float:
        phase = Phase.DECODE if rows == 1 else Phase.VERIFY
        return case.timed(model, unit, Step(phase, rows, cached))

    return SpeedUp(
        case=case,
        method=method,
        published=row.value / vanilla,
        tokens_per_step=row.noted("tokens per verify step"),
        one_row_s=seconds(case.model, 1),
        verify_s=seconds(case.model, method.positions),
        draft_s=method.drafts * seconds(method.draft, 1),
    )


def method_of(case: Case, target: Model) -> Method:
    """The method that a row's model column and note name."""
    text = f"{case.measurement.model}; {case.measurement.note}"
    if found := re.search(r"MTP (\d+)", text):
        drafts = int(found.group(1))
        return Method(f"MTP, {drafts} drafts", drafts + 1, drafts, one_layer(target, target.vocabulary.entries))
    if found := re.search(r"([\w.-]+) draft", text):
        draft = known_as(found.group(1), "model", Model)
        if draft is not None:
            return Method(f"draft model {draft.name}", 16, 4, draft)
    tree = re.search(r"tree (\d+)", text)
    positions = int(tree.group(1)) if tree else EAGLE_TREE
    return Method(f"EAGLE3, tree {positions}", positions, EAGLE_STEPS, one_layer(target, EAGLE_ENTRIES))


def one_layer(target: Model, entries: int) -> Model:
    """A draft of one of the target's layers and a head of `entries`."""
    shape = target.architecture.alike(1)
    vocabulary = target.vocabulary.model_copy(update={"entries": entries})
    return target.model_copy(update={"name": "one layer", "architecture": shape, "vocabulary": vocabulary})
