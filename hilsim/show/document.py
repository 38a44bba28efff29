"""The JSON document of a run: the one thing that report, `--json` and `report.json` show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hilsim.compiler.plan import Plan
from hilsim.cost.caveats import caveats
from hilsim.cost.fit import fits_of, whole
from hilsim.cost.memory import Ledger
from hilsim.cost.payload import VALUE_BYTES
from hilsim.cost.start_up import START
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline, network_ns, timer_for
from hilsim.describe.acceptance import (
    AcceptedOverDrafted,
    Conditional,
    Marginal,
    TokensARound,
    TokensByDrafts,
    stated,
)
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.backend import SIMULATED
from hilsim.describe.deployed_pair import folder_notes
from hilsim.describe.figure import Figure
from hilsim.describe.figures import figures
from hilsim.describe.known_quality import quality_record
from hilsim.describe.outside import outside_car
from hilsim.describe.scenario import Conversations, MeasuredAcceptance
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.measure.metrics import by_request, compare_texts, speculation, speedup, timing
from hilsim.measure.parts import requests_in_parts
from hilsim.show.break_even import break_even
from hilsim.show.company_notes import batch_notes, not_in_it, passenger_notes
from hilsim.show.compile import assumed_rules, plan_in_short
from hilsim.show.memory import memory_in_full, notes_of
from hilsim.show.sentences import outside_sentence
from hilsim.sim.trace import Pace, Trace
from hilsim.text.coverage import coverage, coverage_notes
from hilsim.units import ms
from hilsim.versions import versions

OTHER_ROUNDS = "rounds of this run do not all draft {} tokens and then verify, or are too few."
FAR_OFF = 0.1  # of a share: more than chance moves it in a run of some hundred drafts
ON_BOARDS = " A board's times hold what load and heat it had while it was measured."


def document(
    setup: Setup,
    ledgers: Mapping[str, Ledger],
    baseline: Trace,
    speculative: Trace | None,
    plans: Sequence[Plan] = (),
) -> dict[str, Any]:
    """All results of a run, in the keys of the contract; `speculative` is None where the target is alone.

    `plans` are the compile plans, in brief; `check --json` has all of them.
    """
    scenario, fits, alone = setup.scenario, fits_of(setup), list(requests_in_parts(baseline))
    found: dict[str, Any] = {
        "scenario": scenario.name,
        "wanted_speedup": scenario.wanted_speedup,
        "question": scenario.question,
        "digest": setup.digest,
        "seed": scenario.seed,
        "versions": versions(),
        "policy": scenario.policy.model_dump(exclude_none=True),
        "accept": scenario.accept.model_dump(),
        "payload": scenario.payload.model_dump(),
        "verify_at": scenario.verify_at,
        "link": scenario.link,
        "context_tokens": scenario.context_tokens,
        "roles": {"target": role(setup.target, setup), "draft": setup.draft and role(setup.draft, setup)},
        "talk_leaves_car": list(outside_car(setup)),
        "networks": [beside(network) for network in setup.networks],
        **({} if setup.profile is None else {"acceptance": whose(setup.profile)}),
        "speculative": None,
        "baseline": timing(baseline, setup.chips, setup.link, alone),
        "speedup": 1.0,
        "lossless": None,
        "break_even": None,
        "memory": {
            chip: {
                "peak_bytes": peak(chip, speculative or baseline),
                **rest,
            }
            for chip, rest in memory_in_full(ledgers, fits).items()
        },
        "fit": whole(fits),
        "caveats": [vars(caveat) for caveat in caveats(setup, fits)],
        "chip_notes": notes_of(setup),
        "compile": [plan_in_short(plan) for plan in plans],
        "assumptions": [*assumptions(setup), *assumed_rules(plans)],
        "corpus_coverage": coverage(setup),
        "notes": notes(setup, speculative or baseline),
    }
    if speculative is not None:
        ours = list(requests_in_parts(speculative))
        found["speculative"] = timing(speculative, setup.chips, setup.link, ours) | speculation(speculative)
        found["speedup"] = speedup(baseline, speculative)
        found["lossless"] = lossless(setup, baseline, speculative)
        found["assumptions"] += exports_held_against(setup)
        conditional = found["speculative"]["conditional_acceptance"]
        found["break_even"] = break_even(setup, baseline, speculative, conditional)
        found["notes"] += acceptance_notes(setup, found["speculative"])
        if (crossed := hidden_states(setup, speculative)) is not None:
            found["hidden_states"] = crossed
        found["requests"] = {baseline.policy: by_request(alone), speculative.policy: by_request(ours)}
    if scenario.company:
        from hilsim.show.cockpit import cockpit

        found |= cockpit(setup, baseline, speculative)
    if baseline.pace is not None:
        found["realtime"] = {
            "factor": baseline.pace.factor,
            "asked_real_time_factor": baseline.pace.asked_real_time_factor,
            "late_limit_ms": baseline.pace.late_limit_ms,
            "baseline": paced(baseline.pace),
            "speculative": None if speculative is None or speculative.pace is None else paced(speculative.pace),
        }
    return found


def as_json(document: dict[str, Any]) -> str:
    """A document as JSON text, which has no NaN and no infinity: such a number is null, and a note lists it."""
    missing: list[tuple[str, float]] = []
    found: dict[str, Any] = finite(document, "", missing)
    if missing:
        reasons = [f"{path} is null: it was computed as {value}, which JSON cannot hold." for path, value in missing]
        found["notes"] = [*found.get("notes", []), *reasons]
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def finite(node: Any, path: str, missing: list[tuple[str, float]]) -> Any:
    """A part of a document with None for numbers that are not finite; those go to `missing` with their paths."""
    if isinstance(node, dict):
        return {key: finite(value, f"{path}.{key}".lstrip("."), missing) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [finite(value, f"{path}[{index}]", missing) for index, value in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        missing.append((path, node))
        return None
    return node


def paced(pace: Pace) -> dict[str, Any]:
    """How one run kept up with the wall clock; the requested pace is in the document."""
    return {
        "real_time_factor": pace.real_time_factor,
        "simulated_s": pace.simulated_s,
        "wall_s": pace.wall_s,
        "events": pace.events,
        "overruns": pace.overruns,
        "max_lateness_ms": pace.max_late_ms,
    }


def lossless(setup: Setup, baseline: Trace, speculative: Trace) -> dict[str, Any]:
    """What the rules guarantee against the target alone, and what the run shows of it.

    Only a token-exact run is checked token by token. A lossy rule reports how far the distribution of what it emits is
    from the target's, as total variation over the drafted positions that were tested.
    """
    claimed = setup.guarantee
    found: dict[str, Any] = {"rule": setup.scenario.accept.rule, "claim": claimed.level, "why": claimed.why}
    if claimed.level == "text":
        return found | compare_texts(baseline, speculative)
    found |= {"checked_tokens": 0, "mismatches": 0, "numerical_ties": 0}
    if claimed.level == "none":
        distances = [distance for closed in speculative.rounds for distance in closed.distances]
        found["total_variation"] = {
            "positions": len(distances),
            "mean": sum(distances) / len(distances) if distances else None,
            "max": max(distances, default=None),
        }
    return found


def role(placed: Placed, setup: Setup) -> dict[str, Any]:
    """One role in the report: the deployed model that sets the times, the stand-in behind its text, the unit."""
    timer = timer_for(placed, setup.scenario.context_tokens)
    backend = setup.backends.get(placed.track)
    bound = timer.costs(Step(Phase.DECODE, 1, 1))[0].bound if isinstance(timer, Roofline) else "table"
    return {
        "model": placed.model.name,
        "stand_in": placed.placement.stand_in if gives_text(placed, setup) else None,
        "chip": placed.chip.name,
        "unit": placed.placement.unit,
        "precision": placed.placement.precision,
        **({} if placed.head_kind is None else {"head_kind": placed.head_kind}),
        "backend": SIMULATED if backend is None else backend.backend,
        "words": "stand_in" if backend is None else backend.words,
        "widths": None if placed.widths is None else list(placed.widths),
        "decode_step_ms": ms(timer.duration_ns(Step(Phase.DECODE, 1, 1))),
        "decode_bound_by": bound,
        "quality": quality_record(placed),
    }


def gives_text(placed: Placed, setup: Setup) -> bool:
    """Whether a role's stand-in is run: where drafts are accepted by chance, the target's alone, for its text."""
    if not setup.scenario.logits.by_chance:
        return True
    return placed.role == "target" and isinstance(setup.scenario.workload, Conversations)


def whose(profile: AcceptanceProfile) -> dict[str, Any]:
    """Whose acceptance a run has."""
    given = profile.acceptance
    kept = ("name", "title", "drafter", "text", "temperature", "rounds", "kind", "source", "notes")
    return {name: getattr(profile, name) for name in kept} | {
        "means": profile.means,
        "conditional": list(profile.conditional),
        "form": "chance" if isinstance(given, float) else next(iter(type(given).model_fields)),
    }


def profile_notes(setup: Setup, profile: AcceptanceProfile) -> list[str]:
    """Whose acceptance a run has, what was drawn from it, and what of its text is real."""
    logits = setup.scenario.logits
    assert isinstance(logits, MeasuredAcceptance)
    drawn = {"replay": "each request replays its rounds", "blocks": "rounds are replayed in blocks"}
    how = drawn.get(logits.use) if isinstance(profile.acceptance, AcceptedLists) else None
    found = [
        f"Acceptance is that of {profile.whose}, not of this scenario's models: {profile.means}; "
        f"{how or 'drawn for every position of the text'}.",
    ]
    if isinstance(setup.scenario.workload, Conversations):
        found.append(
            f"No draft model was run. Questions and the length of answers are those of "
            f"{setup.target.placement.stand_in}, the target's stand-in, in its own tokens; {setup.target.model.name} "
            "would answer with another text."
        )
    else:
        found.append("No model was run, and the text is not real.")
    own = setup.scenario.sampling.temperature
    if profile.temperature is not None and profile.temperature != own:
        found.append(f"The profile holds at temperature {profile.temperature:g}; the scenario samples at {own:g}.")
    if setup.scenario.policy.trees:
        found.append(
            "That acceptance is taken as the tree's, level by level: of a chain it is less than a tree accepts."
        )
    return found + ([profile.notes] if profile.notes else [])


def beside(network: PlacedNetwork) -> dict[str, Any]:
    """A network beside the language model, with `pass_ms`, its time for each question."""
    own = network.placement
    where = {"chip": network.chip.name, "unit": network.unit_name, "precision": network.precision}
    return {"name": own.name, "module": own.module, **where, "pass_ms": ms(network_ns(network))}


def hidden_states(setup: Setup, speculative: Trace) -> dict[str, Any] | None:
    """What a draft head on another chip is sent of the target: bytes in all, of one position, and beside all others."""
    sent = [span.nbytes for span in speculative.spans if span.kind == "hidden states"]
    if not sent or setup.draft is None:
        return None
    return {
        "bytes": sum(sent),
        "messages": len(sent),
        "bytes_a_position": VALUE_BYTES["fp16"] * setup.draft.states_read * setup.target.model.architecture.hidden,
        "bytes_of_other_messages": sum(span.nbytes for span in speculative.spans) - sum(sent),
    }


def peak(chip: str, trace: Trace) -> int:
    """The most that a chip's memory held during the run."""
    return max((level.used_bytes for level in trace.levels if level.chip == chip), default=0)


def assumptions(setup: Setup) -> list[dict[str, Any]]:
    """Every figure that this run rests on and that was not measured for it, with its source.

    A chip's figures count where they enter: the units and precisions in use; with a table timer, only what the
    ledger and the energy need. With a climate all that heats any chip, and carries the heat off, counts.
    """
    found: list[dict[str, Any]] = []

    def add(name: str, figure: Any) -> None:
        if figure.kind == "assumed" and (line := with_source(name, figure)) not in found:
            found.append(line)

    for placed in (setup.target, setup.draft):
        if placed is None:
            continue
        chip, unit, precision = placed.chip, placed.placement.unit, placed.placement.precision
        for path, figure in figures(chip).items():
            parts = path.split(".")
            elsewhere = parts[0] == "units" and (
                parts[1] != unit or (parts[2] == "precisions" and parts[3] != precision)
            )
            timed = parts[0] == "units" and parts[-1] not in ("reserve", "active_power")
            measured = placed.placement.timer is not None or placed.track in setup.backends
            beside = parts[-1] in START or ".faster_exports[" in path or parts[0] == "thermal"
            if not elsewhere and not (timed and measured) and not beside:
                add(f"{chip.name}.{path}", figure)
        shape = placed.model.architecture
        if shape.kind == "assumed":
            found.append(
                {
                    "figure": f"{placed.model.name}.architecture",
                    "value": f"{shape.layers} layers of {shape.hidden}",
                    "kind": "assumed",
                    "source": shape.source,
                }
            )
    if setup.scenario.climate is not None:
        for chip in setup.chips.values():
            for path, figure in figures(chip).items():
                if path.startswith("thermal.") or path.endswith("_power"):
                    add(f"{chip.name}.{path}", figure)
    if setup.link is not None and setup.draft is not None:
        for path, figure in figures(setup.link).items():
            add(f"{setup.link.name}.{path}", figure)
    workload = setup.scenario.workload
    found.append(
        {
            "figure": "workload.pause_ms",
            "value": f"{workload.pause_ms:g} ms",
            "kind": "assumed",
            "source": f"{setup.scenario.name}: the scenario's own figure",
        }
    )
    return found


def with_source(name: str, figure: Any) -> dict[str, Any]:
    """A figure of a chip's file as the list of assumptions has it."""
    value = f"{figure.value:g} {figure.unit}" if isinstance(figure, Figure) else figure.value
    line = {"figure": name, "value": value, "kind": figure.kind, "source": figure.source}
    if isinstance(figure, Figure) and figure.range is not None:
        line["range"] = list(figure.range)
    return line


def exports_held_against(setup: Setup) -> list[dict[str, Any]]:
    """The assumed speeds of faster exports that a simulated speed-up is held against."""
    if setup.backends:
        return []
    track = setup.target.track
    return [
        with_source(f"{track}.faster_exports.{export.precision}", export.speed)
        for export in setup.target.faster_exports
        if export.speed.kind == "assumed"
    ]


def timed_and_text(placed: Placed, setup: Setup) -> str:
    """Which model or board a role is timed by, and which one generates its text."""
    backend = setup.backends.get(placed.track)
    times = placed.model.name if backend is None else backend.backend
    source = backend.backend if backend is not None and backend.gives_tokens else placed.placement.stand_in
    return f"{times} is timed, {source} generates the text"


def acceptance_notes(setup: Setup, came_to: dict[str, Any]) -> list[str]:
    """Where a synthetic acceptance came out far from the given figure, and which definition that may follow."""
    typed, places = setup.acceptance, len(came_to["num_draft_tokens_per_pos"])
    if typed is None or not came_to["num_draft_tokens"]:
        return []
    rate, tokens = came_to["draft_acceptance_rate"], came_to["mean_acceptance_length"]
    found = f"{rate:.3g} of the drafted tokens were accepted, {tokens:.3g} tokens a round"
    match typed:
        case float() if abs(rate - typed) > FAR_OFF and setup.profile is None:
            meant = f"logits.acceptance={{accepted_over_drafted: {typed:g}, drafted: {places}}}"
            return [
                f"{found}: draft_acceptance_rate counts drafts behind a wrong one too, so it is not the {typed:g} that "
                f"was given. If that is accepted over drafted (llama.cpp, vLLM), use --set '{meant}'."
            ]
        case AcceptedOverDrafted(accepted_over_drafted=share, drafted=drafted) if abs(rate - share) > FAR_OFF:
            return [f"{found}, not the {share:g} that was given: {OTHER_ROUNDS.format(drafted)}"]
        case TokensARound(tokens_a_round=wanted, drafted=drafted) if abs(tokens - wanted) > FAR_OFF * drafted:
            return [f"{found}, not the {wanted:g} that were given: {OTHER_ROUNDS.format(drafted)}"]
        case Conditional(chances=chances) | Marginal(chances=chances) | TokensByDrafts(chances=chances) if places > len(
            chances
        ):
            rest = "later positions use the last one's"
            return [f"Acceptance is given for {len(chances)} positions and {places} were drafted: {rest}."]
    return []


def notes(setup: Setup, trace: Trace) -> list[str]:
    """Notes that a reader needs to interpret the numbers."""
    scenario = setup.scenario
    found = []
    if setup.profile is not None:
        found += profile_notes(setup, setup.profile)
    elif scenario.logits.source == "synthetic":
        found.append(f"The source is synthetic: {stated(scenario.logits.acceptance)}, and no model generates the text.")
    else:
        pairs = "; ".join(timed_and_text(placed, setup) for placed in setup.roles.values())
        timed = "deployed models or the boards" if setup.backends else "deployed models"
        text = "stand-in models or the boards" if setup.backends else "stand-in models"
        found.append(f"Timing is for the {timed}; text and acceptance come from the {text}: {pairs}.")
        found.append(
            "The stand-ins' training corpus is regular: small drafts are accepted more often than in real use."
        )
    found += coverage_notes(setup)
    found += folder_notes(setup)
    for placed in (setup.target, setup.draft):
        if placed is not None and placed.placement.timer is not None:
            found.append(f"{placed.role} step times are given in the scenario: {placed.placement.timer.source}")
    if (missing := not_in_it(scenario)) is not None:
        found.append(missing + (ON_BOARDS if setup.backends else ""))
    if setup.target.widths is not None and setup.target.widths[0] > 1:
        width = setup.target.widths[0]
        found.insert(
            0, f"No graph of width 1: the target alone runs {width} rows a token, so the speedup is overstated."
        )
    if trace.reread:
        found.insert(
            0,
            f"Before {len(trace.reread)} turns the chat template or the tokenizer changed earlier turns: "
            f"{sum(trace.reread)} tokens were dropped from the caches, and their replacement was prefilled.",
        )
    if unused := sorted({what for conversation in setup.conversations for what in conversation.unused}):
        found.append(f"Not used from the conversations' file: {', '.join(unused)}. The target generates every answer.")
    found += [*passenger_notes(scenario, trace), *batch_notes(setup)]
    if trace.skipped_turns:
        found.insert(0, f"{trace.skipped_turns} turns were left out because the context was full.")
    if outside_car(setup):
        found.insert(0, outside_sentence(outside_car(setup)))
    return found
