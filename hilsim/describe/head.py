"""What the graph of a deployed decoder ends in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hilsim.describe.decoding import Accept, Sampling
from hilsim.describe.figure import Record


class LogitsHead(Record):
    """Rows of logits leave the graph; the host samples."""

    name: Literal["logits"] = "logits"


class ArgMaxHead(Record):
    """The likeliest token of each row leaves the graph."""

    name: Literal["argmax"]


class TopKHead(Record):
    """The k likeliest tokens of each row and their logits leave the graph; the host samples from these."""

    name: Literal["top_k"]
    k: int = Field(ge=1, le=10**6)


class TopKSamplingHead(Record):
    """One token of each row leaves the graph, drawn from the k likeliest; the host sends the random numbers in."""

    name: Literal["top_k_sampling"]
    k: int = Field(ge=2, le=10**6)


def from_name(data: object) -> object:
    """`head: argmax` is `head: {name: argmax}`."""
    return {"name": data} if isinstance(data, str) else data


Head = Annotated[
    Annotated[LogitsHead | ArgMaxHead | TopKHead | TopKSamplingHead, Field(discriminator="name")],
    BeforeValidator(from_name),
]


def head_faults(role: str, head: Head, accept: Accept, sampling: Sampling) -> Iterator[str]:
    """Heads that keep back what the accept rule needs, as "found; expected"."""
    if head.name == "logits" or accept.rule == "greedy":
        return
    if head.name == "argmax":
        yield f"{role}.head argmax with accept {accept.rule}, which needs more than the likeliest token; logits"
    elif head.name == "top_k_sampling" and accept.rule != "sample_match":
        yield f"{role}.head top_k_sampling with accept {accept.rule}, which needs laws; logits, or accept sample_match"
    elif sampling.top_k is None or sampling.top_k > head.k:
        yield f"{role}.head of {head.k} tokens, and sampling from more; sampling.top_k of at most {head.k}, or logits"
