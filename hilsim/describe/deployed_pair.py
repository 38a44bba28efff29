"""Checks whether two deployed models share token ids, and notes on models that are described by folders."""

from __future__ import annotations

from pathlib import Path

from hilsim.describe.catalogue import config_of, described
from hilsim.describe.model import Model
from hilsim.describe.setup import Placed, Setup
from hilsim.describe.vocabulary import VocabularyPair, compared, tokens_in
from hilsim.errors import Fault

MOST_NAMED = 3  # models that a remedy lists, the smallest
CLOSE = 0.005  # padding of a vocabulary is up to its maker; another model's is farther off than that


def token_pair(target: Placed, draft: Placed, file: str) -> VocabularyPair | None:
    """How the ids of two deployed models compare, where both have a tokenizer.json."""
    configs = [config_of(placed.placement.model, Path(file)) for placed in (target, draft)]
    found = [None if config is None else tokens_in(config.parent) for config in configs]
    return None if found[0] is None or found[1] is None else compared(found[0], found[1])


def vocabulary_faults(target: Placed, draft: Placed, file: str) -> list[Fault]:
    """Deployed models that do not share token ids, as their tokenizers show or else the names of their vocabularies."""
    if (pair := token_pair(target, draft, file)) is not None:
        return pair.faults(file, "draft.model", ())
    ours, theirs = target.model.vocabulary, draft.model.vocabulary
    unnamed = any(config_of(placed.placement.model, Path(file)) is not None for placed in (target, draft))
    if ours.name == theirs.name or (unnamed and abs(ours.entries / theirs.entries - 1) <= CLOSE):
        return []
    return [
        Fault(
            file,
            "draft.model",
            f"{draft.model.name} with vocabulary {theirs.name} ({theirs.entries} entries)",
            f"vocabulary {ours.name} ({ours.entries} entries), as {target.model.name} has",
            remedy_for(target),
        )
    ]


def remedy_for(target: Placed) -> str:
    """What can draft for a target whose draft has another vocabulary."""
    name, least = target.model.vocabulary.name, matrices(target.model)
    smaller = [one for one in described("model", Model) if one.vocabulary.name == name and matrices(one) < least]
    names = ", ".join(one.name for one in sorted(smaller, key=matrices)[:MOST_NAMED])
    models = f"a draft model of vocabulary {name} ({names}), " if smaller else ""
    return (
        f"Choose {models}a draft head (draft: {{head_kind: eagle3}}), or draft without a model (policy prompt_lookup, "
        "suffix or lookahead). Stand-ins of two vocabularies can be paired, by the tokens whose texts both have: give "
        "draft.model the target's vocabulary, and draft.stand_in the other one."
    )


def matrices(model: Model) -> int:
    """A measure of a model's size: its layers times the square of its width."""
    return model.architecture.layers * model.architecture.hidden**2


def folder_notes(setup: Setup) -> list[str]:
    """Notes on deployed models that are described by checkpoint folders."""
    placed = [one for one in setup.roles.values() if config_of(one.placement.model, Path(setup.file)) is not None]
    found = [f"{one.role} {one.model.name}: {one.model.notes}" for one in placed if one.model.notes]
    if setup.draft is None or not placed:
        return found
    if (pair := token_pair(setup.target, setup.draft, setup.file)) is not None:
        return found + pair.notes()
    ours, theirs = setup.target.model, setup.draft.model
    if ours.vocabulary.name != theirs.vocabulary.name:
        found.append(
            f"Whether {theirs.name} shares the token ids of {ours.name} is unknown (vocabularies "
            f"{theirs.vocabulary.name} of {theirs.vocabulary.entries} entries and {ours.vocabulary.name} of "
            f"{ours.vocabulary.entries})."
        )
    return found
