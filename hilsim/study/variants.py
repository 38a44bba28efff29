"""Many versions of one scenario side by side: each a few changed values, run over the same requests, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.verdict import check
from hilsim.describe.setup import Setup
from hilsim.errors import CompileError, InputError, PlacementError, TooShallow
from hilsim.sim.trace import Trace

Run = Callable[[Setup], tuple[Trace, Trace]]


@dataclass(frozen=True)
class Variant:
    """A version of a scenario: its group (one row of an answer), its name, and its values of `--set`."""

    group: str
    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """A variant that ran: its set-up and the runs of the target alone and of its policy."""

    variant: Variant
    setup: Setup
    baseline: Trace
    ours: Trace


@dataclass(frozen=True)
class Refused:
    """A variant that cannot run here, and why."""

    variant: Variant
    why: str


def tried(file: Path, overrides: Sequence[str], variants: Iterable[Variant], run: Run) -> Iterator[Ran | Refused]:
    """Each variant in turn. A fault of the scenario itself is the caller's to find first."""
    for variant in variants:
        changed = [*overrides, *variant.overrides]
        try:
            setup = load_compiled(file, changed)
            check(setup, changed, load_compiled).require()
        except InputError as error:
            yield Refused(variant, error.faults[0].found)
            continue
        except (CompileError, PlacementError) as error:
            yield Refused(variant, str(error).splitlines()[0])
            continue
        try:
            traces = run(setup)
        except InputError as error:  # a transcript knows nothing of other speakers or rules,
            yield Refused(variant, error.faults[0].found)
        except TooShallow as error:  # and of drafts to its depth alone
            yield Refused(variant, str(error))
        else:
            yield Ran(variant, setup, *traces)


def policies() -> list[Variant]:
    """Every policy with a handful of its settings."""
    found = [("target_only", "target_only", "{name: target_only}")]
    found += [("sync", f"sync {n}", f"{{name: sync, draft_tokens: {n}}}") for n in (1, 2, 3, 4, 5, 7, 10)]
    for rule, extra in (("schedule", ""), ("confidence", ", threshold: 0.4"), ("entropy", ""), ("expected", "")):
        found.append(("adaptive", f"adaptive {rule}", f"{{name: adaptive, rule: {rule}{extra}}}"))
    found += [("pearl", f"pearl {n}", f"{{name: pearl, draft_tokens: {n}}}") for n in (1, 2, 4, 7)]
    found += [("async", f"async min_batch {n}", f"{{name: async, min_batch: {n}}}") for n in (0, 1, 2, 4)]
    for n in (2, 4, 7):
        for blocks in (1, 2):
            text = f"{{name: pipelined, draft_tokens: {n}, blocks_in_flight: {blocks}}}"
            found.append(("pipelined", f"pipelined {n} x {blocks}", text))
    found += [("prompt_lookup", f"prompt_lookup {n}", f"{{name: prompt_lookup, draft_tokens: {n}}}") for n in (3, 7)]
    for branches in ([2, 1, 1], [3, 2, 1], [4, 2, 2, 1]):
        found.append(("tree", f"tree {'-'.join(map(str, branches))}", f"{{name: tree, branches: {branches}}}"))
    return [Variant(group, name, (f"policy={text}",)) for group, name, text in found]


def payloads(top_k: int | None) -> list[Variant]:
    """Every accept rule with every payload that it can use above temperature 0; lossy ones by their own name."""
    full = [("full_rows fp32", "{scheme: full_rows, format: fp32}"), ("full_rows fp16", "full_rows"),
            ("full_rows counts8", "{scheme: full_rows, format: counts8}")]  # fmt: skip
    cut = [(f"top_k {k}", f"{{scheme: top_k, k: {k}}}") for k in (64, 16)]
    found = [("exact", f"ratio, {name}", "ratio", text, "target") for name, text in (*full, *cut)]
    found.append(("exact", "ratio, scalar, row", "ratio", "scalar", "target"))
    if top_k is not None:
        text = "{scheme: scalar, down: support}"
        found.append(("exact", "ratio, scalar, support", "ratio", text, "target"))
    found += [
        ("exact", "ratio, one_hot", "ratio", "one_hot", "target"),
        ("exact", "gumbel, token_ids", "gumbel", "token_ids", "target"),
        ("exact", "sample_match, token_ids", "sample_match", "token_ids", "target"),
        ("exact", "block, top_k 64", "block", "{scheme: top_k, k: 64}", "target"),
        ("exact", "ratio at draft, full_rows", "ratio", "full_rows", "draft"),
    ]
    if top_k is not None:
        text = f"{{scheme: top_k, k: {top_k}}}"
        found.append(("exact", f"ratio at draft, top_k {top_k}", "ratio", text, "draft"))
    found += [
        ("lossy", "ratio, top_k_after 16", "ratio", "{scheme: top_k_after, k: 16}", "target"),
        ("lossy", "lenient 0.5, top_k 64", "{rule: lenient, lenience: 0.5}", "{scheme: top_k, k: 64}", "target"),
        ("lossy", "typical, token_ids", "typical", "token_ids", "target"),
    ]
    return [
        Variant(group, name, (f"accept={rule}", f"payload={payload}", f"verify_at={where}"))
        for group, name, rule, payload, where in found
    ]
