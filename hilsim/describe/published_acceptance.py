"""How often a published pair of models agrees: acceptance measured elsewhere, against which a stand-in's is held."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Kind, Named, as_tuple
from hilsim.errors import Misfit

ShareOfDrafts = Annotated[float, Field(ge=0, le=1)]


class PublishedAcceptance(Named):
    """Acceptance of one pair over one workload, in one of the two forms in which it is published.

    `tokens_a_round` are emitted tokens a round, the target's own included, by the number of tokens drafted;
    `conditional` is the share of drafts accepted at each place among those whose earlier places were accepted.
    A `drafter` is a model (or head) of its own, or a lookup in the text so far.
    """

    drafter: Literal["model", "lookup"]
    workload: str
    tokens_a_round: dict[str, Annotated[float, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    conditional: Annotated[tuple[ShareOfDrafts, ...], BeforeValidator(as_tuple)] = ()
    kind: Kind
    source: str = Field(min_length=3)
    notes: str = ""

    @model_validator(mode="after")
    def _one_form(self) -> PublishedAcceptance:
        if bool(self.tokens_a_round) == bool(self.conditional):
            raise Misfit("both or neither of tokens_a_round and conditional", "one of them")
        if any(not key.isascii() or not key.isdigit() or int(key) < 1 for key in self.tokens_a_round):
            raise Misfit(f"drafts {', '.join(self.tokens_a_round)}", "whole numbers of drafted tokens")
        known = self.by_drafts
        if sorted(set(known)) != known or any(tokens > drafts + 1 for drafts, tokens in known):
            raise Misfit(f"tokens_a_round {self.tokens_a_round}", "rising, and at most one more than were drafted")
        return self

    @property
    def by_drafts(self) -> list[tuple[int, float]]:
        """Tokens a round as pairs with the drafted tokens, as written."""
        return [(int(drafts), tokens) for drafts, tokens in self.tokens_a_round.items()]
