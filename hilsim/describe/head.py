"""What the graph of a deployed decoder ends in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hilsim.describe.decoding import Accept, Sampling
from hilsim.describe.tagged import Tagged, shorthand


class LogitsHead(Tagged):
    """Rows of logits leave the graph; the host samples."""

    name: Literal["logits"] = Field(default="logits", alias="kind")


class ArgMaxHead(Tagged):
    """The likeliest token of each row leaves the graph."""

    name: Literal["argmax"] = Field(alias="kind")


class TopKHead(Tagged):
    """The k likeliest tokens of each row and their logits leave the graph; the host samples from these."""

    name: Literal["top_k"] = Field(alias="kind")
    k: int = Field(ge=1, le=10**6)
    """Tokens, and their logits, that leave the graph for each row."""


class TopKSamplingHead(Tagged):
    """One token of each row leaves the graph, drawn from the k likeliest; the host sends the random numbers in."""

    name: Literal["top_k_sampling"] = Field(alias="kind")
    k: int = Field(ge=2, le=10**6)
    """Likeliest tokens that the graph draws from."""


LOGITS = LogitsHead.model_construct()  # see `Record`


Heads = LogitsHead | ArgMaxHead | TopKHead | TopKSamplingHead
Head = Annotated[Heads, Field(discriminator="name"), shorthand(Heads)]


def head_for(head: Head, accept: Accept, sampling: Sampling) -> tuple[Head, str]:
    """The head that goes with the rules: the requested one, or logits where it omits what they need; and why."""
    if head.name == "logits" or accept.rule == "greedy":
        return head, ""
    if head.name == "argmax":
        return LOGITS, f"accept {accept.rule} needs more than the likeliest token"
    if head.name == "top_k_sampling" and accept.rule != "sample_match":
        return LOGITS, f"accept {accept.rule} needs whole distributions"
    if sampling.top_k is None or sampling.top_k > head.k:
        return LOGITS, f"sampling is from more than {head.k} tokens"
    return head, ""
