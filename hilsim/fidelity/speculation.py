"""Speculation on measured chips: what a round costs in plain steps, and whether it pays, against published figures.

    round cost = (t(verify) + drafting) / t(1 row),    speed-up = tokens a round / round cost

All three times are of as many sequences as the row has. Tokens a round and the plain rate are published with the row,
so the published round cost is tokens a round over the published speed-up: what the chip does is held apart from what
the draft gets right. Where tokens are not published, the row is turned round: how many it would take. Of some methods
the time of a round alone is published, and a round in plain steps is the tokens a round that break even.

Draft heads have the shapes and passes of `describe/drafting.py`; how a runtime executes them (NVIDIA/TensorRT-Edge-LLM,
speculative-decoding guide of 0.10.0 and `llmInferenceSpecDecodeRuntime.cpp`):

- EAGLE3 has a head of 32,000 entries and drafts a tree: five passes over the whole padded tree of 60 positions, logits
  of the ten newest, and one over the at most seven tokens accepted before. It verifies 60.
- MTP drafts a chain and verifies one position more.
- DFlash drafts a block of 16, the last committed token among them, in fp16 (z-lab/Qwen3-8B-DFlash-b16), and verifies
  16.
- SSD (Genie) needs no draft: its graph of 32 positions reads the tree and the tokens that forecast the next one.
- Lookahead decoding (LADE, Genie; Fu et al. 2402.02057) needs none either: the rows of its window, which make the
  n-grams of later rounds, and those of the guesses, which are verified, are one pass of the same graph.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilsim.cost.step import Phase, Step
from hilsim.describe.catalogue import known_as
from hilsim.describe.chip import Unit
from hilsim.describe.drafting import head_model, level_passes, passes
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.fidelity.cases import Case
from hilsim.fidelity.measurements import Measurement

EAGLE_PASSES, EAGLE_ENTRIES, EAGLE_TREE, EAGLE_TOP, EAGLE_DEPTH = 5, 32_000, 60, 10, 7
DFLASH_BLOCK = 16
GENIE_GRAPH = 32  # positions of the graph that Genie verifies with
EVEN = 0.05  # speed-ups so near to 1 on both sides are neither gain nor loss: releases differ by more
NATIVE = "nvfp4"  # drafts beside it have their head in the format of their weights; others have the target's


@dataclass(frozen=True)
class DraftPasses:
    """`count` passes of a draft over `rows` positions, of which `logits` are wanted."""

    model: Model
    count: int
    rows: int = 1
    logits: int = 1
    precision: str = ""  # "" for the target's


@dataclass(frozen=True)
class Method:
    """What a published row ran: positions verified (of a tree or a chain), and what its draft executes a round."""

    name: str
    positions: int
    drafts: tuple[DraftPasses, ...] = ()
    tree: bool = True


@dataclass(frozen=True)
class SpeedUp:
    """A published speed-up and what the chip model makes of it; times in seconds, of all sequences together.

    `predicted` is None where tokens per step are not published, `published` where the time of a round is, and no rate;
    `needed` are the tokens that would explain the published speed-up.
    """

    case: Case
    method: Method
    published: float | None
    published_round_steps: float | None
    tokens_per_step: float | None
    one_row_s: float
    verify_s: float
    draft_s: float

    @property
    def step_s(self) -> float:
        return self.verify_s + self.draft_s

    @property
    def round_steps(self) -> float:
        """A round in plain steps, as predicted: with so many tokens a round speculation breaks even."""
        return self.step_s / self.one_row_s

    @property
    def round_error(self) -> float | None:
        """Predicted over published round cost, less one."""
        return None if self.published_round_steps is None else self.round_steps / self.published_round_steps - 1

    @property
    def predicted(self) -> float | None:
        return None if self.tokens_per_step is None else self.tokens_per_step / self.round_steps

    @property
    def needed(self) -> float | None:
        """Tokens per verify step that would make the published speed-up."""
        return None if self.published is None else self.published * self.round_steps

    @property
    def same_sign(self) -> bool | None:
        """Whether gain or loss is predicted as published, or both are neither; None where it cannot be."""
        if self.predicted is None or self.published is None:
            return None
        even = max(abs(self.predicted - 1), abs(self.published - 1)) <= EVEN
        return even or (self.predicted > 1) == (self.published > 1)


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
    cached = case.cached

    def seconds(model: Model, step: Step, precision: str = "") -> float:
        return case.timed(model, unit, step, precision, own_head=model is not case.model and case.precision == NATIVE)

    drafts_s = 0.0
    for draft in method.drafts:
        step = Step(Phase.DRAFT, draft.rows, cached, row.batch, draft.rows > 1, draft.logits)
        drafts_s += draft.count * seconds(draft.model, step, draft.precision)
    return SpeedUp(
        case=case,
        method=method,
        published=row.value / vanilla if row.metric == "tok_s" else None,
        published_round_steps=published_round(row),
        tokens_per_step=row.noted("tokens per verify step"),
        one_row_s=seconds(case.model, Step(Phase.DECODE, 1, cached, row.batch)),
        verify_s=seconds(case.model, Step(Phase.VERIFY, method.positions, cached, row.batch, method.tree)),
        draft_s=drafts_s,
    )


def published_round(row: Measurement) -> float | None:
    """A round in plain steps, as the published figures give it; None where they do not."""
    tokens, vanilla = row.noted("tokens per verify step"), row.noted("vanilla rate")
    if vanilla is None:
        return None
    if row.metric == "round_ms":
        return row.value / 1000 * vanilla / row.batch
    return None if tokens is None else tokens * vanilla / row.value


def method_of(case: Case, target: Model) -> Method:
    """The method that a row's model column and note name."""
    text = f"{case.measurement.model}; {case.measurement.note}"
    size = re.search(r"(?:tree|verify size) (\d+)", text)
    if "MTP" in text:
        found = re.search(r"MTP (\d+)", text)
        drafts = int(found.group(1)) if found else int(size.group(1)) - 1 if size else 3
        runs = draft_passes(head_model(target, "mtp"), passes("mtp", drafts, 1))
        return Method(f"MTP, {drafts} drafts", drafts + 1, runs, tree=False)
    if "DFlash" in text:
        block = int(size.group(1)) if size else DFLASH_BLOCK
        runs = draft_passes(head_model(target, "block"), passes("block", block - 1, 1), "fp16")
        return Method(f"DFlash, block of {block}", block, runs, tree=False)
    if "SSD" in text:
        return Method("SSD, branches 3 and 2", GENIE_GRAPH)
    if "lookahead" in text:
        found = re.search(r"(\d+) positions", text)
        return Method("lookahead", int(found.group(1)) if found else GENIE_GRAPH)
    if found := re.search(r"([\w.-]+) draft", text):
        draft = known_as(found.group(1), "model", Model)
        if draft is not None:
            return Method(f"draft model {draft.name}", 16, (DraftPasses(draft, 4),), tree=False)
    positions = int(size.group(1)) if size else EAGLE_TREE
    model = head_model(target, "eagle3", entries=EAGLE_ENTRIES)
    executed = level_passes("eagle3", (EAGLE_TOP,) * (EAGLE_PASSES + 1), EAGLE_DEPTH, positions)
    return Method(f"EAGLE3, tree of {positions}", positions, draft_passes(model, executed))


def draft_passes(model: Model, executed: Sequence[tuple[int, int]], precision: str = "") -> tuple[DraftPasses, ...]:
    """Passes by rows and logits, those that are alike together."""
    return tuple(DraftPasses(model, count, *alike, precision) for alike, count in Counter(executed).items())
