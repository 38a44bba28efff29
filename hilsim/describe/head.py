"""What the graph of a deployed decoder ends in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hilsim.describe.figure import Record


class LogitsHead(Record):
    """Rows of logits leave the graph; the host samples."""

    name: Literal["logits"]


class ArgMaxHead(Record):
    """The likeliest token of each row leaves the graph."""

    name: Literal["argmax"]


class TopKHead(Record):
    """The k likeliest tokens of each row and their logits leave the graph; the host samples from these."""

    name: Literal["top_k"]
    k: int = Field(ge=1, le=10_000)


class TopKSamplingHead(Record):
    """One token of each row leaves the graph, drawn from the k likeliest; the host sends the random numbers in."""

    name: Literal["top_k_sampling"]
    k: int = Field(ge=2, le=10_000)


Head = Annotated[LogitsHead | ArgMaxHead | TopKHead | TopKSamplingHead, Field(discriminator="name")]
