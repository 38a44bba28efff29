"""Faults that no single record can see: models, chips, links, boards and compiler profiles that do not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hilsim.describe.acceptance import Typed
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.backend import SIMULATED
from hilsim.describe.catalogue import is_file
from hilsim.describe.chip import Chip
from hilsim.describe.config_json import CONFIG, is_draft_head, read_object
from hilsim.describe.deployed_pair import vocabulary_faults
from hilsim.describe.link import Link
from hilsim.describe.placement import HeadPlacement
from hilsim.describe.policy import Tree, TreePolicy
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Lengths, MeasuredAcceptance, Scenario, Synthetic
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.describe.unit_checks import runtime_faults
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import exists

SIZES = {"tree": "branches or nodes", "lookahead": "window, ngram or guesses", "ssd": "branches or forecast_tokens"}


def cross_faults(scenario: Scenario, target: Placed, draft: Placed | None, link: Link | None, file: str) -> list[Fault]:
    """What no single record can see: models, chips and link that do not go together."""
    faults = []
    if draft is not None:
        faults += vocabulary_faults(target, draft, file)
        if link is not None and (fault := link_fault(link, [target.chip, draft.chip], "both models", file)):
            faults.append(fault)
    if (cut := getattr(scenario.payload, "k", 0)) > target.model.vocabulary.entries:
        expected = f"at most {target.model.vocabulary.entries}, the entries of {target.model.name}'s vocabulary"
        faults.append(Fault(file, "payload.k", str(cut), expected, "For all of them full_rows needs no ids."))
    if draft is not None and scenario.logits.source == "live":
        faults += stand_in_faults(draft, file)
    if draft is not None and isinstance(draft.placement, HeadPlacement):
        entries = draft.placement.head_entries or 0
        if entries > target.model.vocabulary.entries:
            expected = f"at most {target.model.vocabulary.entries}, the entries of {target.model.name}'s vocabulary"
            faults.append(Fault(file, "draft.head_entries", str(entries), expected, "Leave it out for all of them."))
    for placed in (target, draft):
        if placed is not None and (wanted := getattr(placed.placement.head, "k", 0)) > placed.model.vocabulary.entries:
            expected = f"at most {placed.model.vocabulary.entries}, the entries of {placed.model.name}'s vocabulary"
            faults.append(Fault(file, f"{placed.role}.head.k", str(wanted), expected))
    if draft is not None and target.track == draft.track:
        faults += runtime_faults(target.placement, draft.placement, file)
    faults += [*tree_faults(scenario, target, file), *([] if draft is None else tree_faults(scenario, draft, file))]
    workload = scenario.workload
    if isinstance(workload, Lengths) and workload.prompt_tokens >= scenario.context_tokens:
        found = str(workload.prompt_tokens)
        faults.append(
            Fault(file, "workload.prompt_tokens", found, f"fewer than context_tokens ({scenario.context_tokens})")
        )
    names = {placed.chip.name for placed in (target, draft) if placed is not None}
    if scenario.application is not None and scenario.application not in names:
        faults.append(Fault(file, "application", repr(scenario.application), f"a chip in use: {', '.join(names)}"))
    for placed in (target, draft):
        if placed is not None and scenario.context_tokens > placed.model.architecture.context:
            faults.append(
                Fault(
                    file,
                    "context_tokens",
                    f"{scenario.context_tokens}",
                    f"at most {placed.model.architecture.context}, the limit of {placed.model.name}",
                )
            )
    return faults


def link_fault(link: Link, chips: Sequence[Chip], ends: str, file: str) -> Fault | None:
    """A link that does not join two chips, or does not reach where they are; None where it does.

    `ends` is what is on the chips, as a message calls it.
    """
    same = chips[0].name == chips[1].name
    if link.on_chip != same:
        where = "the same chip" if same else "two chips"
        expected = "an on-chip link" if same else "a link between chips"
        return Fault(file, "link", f"{link.name}, with {ends} on {where}", expected)
    if same or link.reaches == "anywhere":
        return None
    outside = [chip.name for chip in chips if chip.place == "cloud"]
    if (link.reaches == "cloud") == bool(outside):
        return None
    where = f"{outside[0]} outside the car" if outside else f"{ends} in the car"
    expected = f"a link that reaches {'the cloud' if outside else 'from chip to chip'}"
    return Fault(file, "link", f"{link.name}, with {where}", expected)


def stand_in_faults(draft: Placed, file: str) -> Iterator[Fault]:
    """A draft's folder of another kind than what it stands for; what is wrong inside it is for its loader to say."""
    folder, head, place = draft.stand_in, draft.placement, "draft.stand_in"
    try:
        trained = folder is not None and is_draft_head(folder)
    except InputError:
        return
    if not isinstance(head, HeadPlacement):
        if trained:
            expected = "a checkpoint of a whole model, or head_kind in place of draft.model"
            yield Fault(file, place, f"{head.stand_in}, a draft head behind a draft model", expected)
        return
    if folder is None or not exists(folder / CONFIG):
        return
    document = read_object(folder / CONFIG)
    kind, positions = document.get("head_kind"), document.get("positions")
    if not trained or kind != head.head_kind:
        found = f"{head.stand_in}, {f'a head of kind {kind}' if trained else 'a whole model'}"
        yield Fault(file, place, found, f"a draft head of kind {head.head_kind}, trained on the target's stand-in")
    elif head.positions is not None and isinstance(positions, int) and head.positions > positions:
        expected = f"at most {positions}, those of {head.stand_in}"
        yield Fault(file, "draft.positions", str(head.positions), expected, "Train a head of more positions.")


def compile_faults(scenario: Scenario, parts: Sequence[Placed | PlacedNetwork], file: Path) -> Iterator[Fault]:
    """A profile that is not there or that no unit lists, and networks on chips that take no part."""
    roles = {part.chip.name for part in parts if isinstance(part, Placed)}
    for index, network in enumerate(part for part in parts if isinstance(part, PlacedNetwork)):
        if network.chip.name not in roles:
            expected = f"a chip in use: {', '.join(sorted(roles))}"
            yield Fault(str(file), f"networks[{index}].chip", repr(network.chip.name), expected)
    names = [network.name for network in scenario.networks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield Fault(str(file), "networks", f"{', '.join(twice)} twice", "a name for each network")
    pinned = scenario.compile.profile
    if pinned is None:
        return
    try:
        known = load_profile(pinned, file)
    except InputError as error:
        yield from (fault.at("compile.profile") if fault.place == "profile" else fault for fault in error.faults)
        return
    if is_file(pinned) and any(known.suits(part.unit) for part in parts):
        return
    listed = sorted({profile for part in parts for profile in part.unit.profiles})
    if pinned not in listed:
        expected = f"a profile that a unit in use lists: {', '.join(listed) or 'none does'}"
        yield Fault(str(file), "compile.profile", repr(pinned), expected, "Units name theirs under `profiles`.")


def tree_faults(scenario: Scenario, placed: Placed, file: str) -> Iterator[Fault]:
    """A token tree needs a graph that takes any mask, and one that takes all of it at once."""
    policy = scenario.policy
    if not isinstance(policy, TreePolicy) or placed.widths is None:
        return
    if placed.role == "draft" and not policy.needs_draft:
        return
    where = f"{placed.chip.name}.{placed.placement.unit}"
    able = placed.unit.tree_attention
    if able is None or not able.value:
        why = "an unknown ability" if able is None else able.source
        yield Fault(
            file,
            "policy",
            f"{policy.name}, with {placed.role} on {where}, whose graphs take no tree mask ({why})",
            "a chain of drafts, or a unit with tree_attention",
            f"Use {'sync or adaptive' if policy.needs_draft else 'prompt_lookup or suffix'}; or describe a chip of "
            "your own with tree_attention where your export has it.",
        )
    # The draft reads at most one level in a pass, and the last not at all, or the whole tree where that is padded.
    levels = max((read for _, read in policy.shape.growth[:-1]), default=1)
    whole = policy.rows if placed.role == "target" else policy.padded_rows if isinstance(policy, Tree) else None
    rows = whole or levels
    if rows > placed.widths[-1]:
        widths = " ".join(map(str, placed.widths))
        yield Fault(
            file,
            f"{placed.role}.widths",
            f"{policy.name}, {rows} rows in one pass, and graphs of widths {widths}",
            f"a graph at least {rows} wide",
            f"Add that width, or lower {SIZES[policy.name]}.",
        )


def backend_faults(scenario: Scenario, roles: Mapping[str, Placed], file: str) -> Iterator[Fault]:
    """Units that no role uses, names that mean two units, and kinds of board answers that the rules cannot use."""
    tracks = {(placed.chip.name, placed.placement.unit) for placed in roles.values()}
    for name, backend in scenario.units.items():
        meant = [pair for pair in sorted(tracks) if name in (pair[1], "/".join(pair))]
        known = ", ".join("/".join(pair) for pair in sorted(tracks))
        if not meant:
            yield Fault(file, f"units.{name}", repr(name), f"a unit that a role uses, as UNIT or CHIP/UNIT: {known}")
            continue
        if len(meant) > 1:
            yield Fault(file, f"units.{name}", f"{name!r}, which two chips have", f"one of {known}")
        if backend.backend == SIMULATED:
            continue
        if scenario.company:
            found = f"{backend.backend}, with {', '.join(scenario.company_keys)}"
            expected = f"{SIMULATED}: a board's steps are neither shared, batched, interrupted nor heated by a scenario"
            yield Fault(file, f"units.{name}.backend", found, expected)
        head = next((one for one in roles.values() if one.head_kind is not None), None)
        if head is not None and (head.chip.name, head.unit_name) in meant:
            found, remedy = f"{backend.backend}, with a draft head there", "Use a draft model, or simulate the unit."
            yield Fault(file, f"units.{name}.backend", found, f"{SIMULATED}: boards run whole models", remedy)
        place = f"units.{name}.words"
        warm = scenario.sampling.temperature > 0 or scenario.sampling.repetition_penalty is not None
        if backend.words == "tokens" and warm:
            expected = "logits or stand_in: the likeliest token is all that greedy decoding needs, and no more"
            yield Fault(file, place, "tokens, with a distribution to sample from", expected)
        if backend.gives_tokens and scenario.logits.source != "live":
            found = f"{backend.words}, with {scenario.logits.source} logits"
            yield Fault(file, place, found, "stand_in, so that the board gives times alone", "Or live logits.")
        if backend.gives_tokens and scenario.policy.trees:
            found = f"{backend.words}, with policy {scenario.policy.name}"
            yield Fault(file, place, found, "stand_in: boards read chains of tokens")


def acceptance_faults(scenario: Scenario, profile: AcceptanceProfile | None, file: str) -> Iterator[Fault]:
    """Another kind of drafter, and recorded rounds that are not those of requests known by their length.

    Of conversations the run finds that.
    """
    workload, logits = scenario.workload, scenario.logits
    name = scenario.policy.name
    looks_up = name in ("prompt_lookup", "suffix")
    # Of a target that drafts for itself nothing is published by position: any acceptance is a supposition there.
    drafter = None if profile is None or name in ("target_only", "lookahead", "ssd") else profile.drafter
    if profile is not None and drafter is not None and looks_up != (drafter == "lookup"):
        found = f"policy {name} with {profile.name}, the acceptance of a {drafter}"
        expected = f"the acceptance of a {'lookup' if looks_up else 'model or a head'}"
        yield Fault(file, "logits.file", found, expected, "What a round costs would be another drafter's.")
    if isinstance(logits, Synthetic):
        acceptance: float | Typed = logits.acceptance
    elif isinstance(logits, MeasuredAcceptance) and profile is not None:
        acceptance = profile.acceptance
    else:
        return
    if not isinstance(acceptance, AcceptedLists):
        if logits.use != "replay":
            found = f"{logits.use}, with acceptance that has no rounds of requests"
            yield Fault(file, "logits.use", found, "nothing", "Remove it.")
    elif logits.use == "replay" and isinstance(workload, Lengths):
        answers = [workload.answer_tokens(scenario.context_tokens)] * workload.requests
        yield from replay_faults(acceptance, answers, file)


def replay_faults(lists: AcceptedLists, answers: Sequence[int], file: str) -> Iterator[Fault]:
    """Requests whose recorded rounds are not those of their answers, which have so many tokens; the first alone."""
    remedy = "Use the lengths that were recorded, or --set logits.use=blocks, which takes rounds as far as needed."
    if len(lists.accepted) != len(answers):
        expected = f"{len(answers)}, a list for every request of the run"
        yield Fault(file, "logits.file", f"the rounds of {len(lists.accepted)} requests", expected, remedy)
        return
    for request, tokens in enumerate(answers):
        if why := lists.fits(request, tokens - 1):
            yield Fault(file, "logits.file", f"request {request}: {why}", "rounds that make the answer", remedy)
            return


def require_simulated(setup: Setup, command: str) -> None:
    """Refuse boards and recordings where a command runs its own versions of a scenario."""
    faults = [
        Fault(
            setup.file,
            f"units.{name}.backend",
            backend.backend,
            f"{SIMULATED} for `{command}`",
            "Boards and recordings are run by simulate.py; calibrate a chip file from a recording for studies.",
        )
        for name, backend in setup.scenario.units.items()
        if backend.backend != SIMULATED
    ]
    if faults:
        raise ScenarioError(faults)


def alone_faults(setup: Setup, what: str, why: str) -> Iterator[Fault]:
    """What else goes on, where something takes one session after another on idle, cool chips alone."""
    if keys := setup.scenario.company_keys:
        remedy = "simulate.py, `modes` and `study` run such scenarios."
        yield Fault(setup.file, keys[0], ", ".join(keys), f"none of them for {what}: {why}", remedy)
