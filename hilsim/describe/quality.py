"""What a precision costs a deployed model in text, as it was measured."""

from __future__ import annotations

from pydantic import Field

from hilsim.describe.figure import Kind, Record

FLOATS = ("fp32", "fp16", "bf16")


class QualityFigure(Record):
    """A measure of a model in one precision, and the same measure in `floats`, the format it is held against."""

    metric: str = Field(min_length=3)
    """What was measured, such as perplexity over a named text."""
    value: float
    """The measure in this precision."""
    reference: float
    """The same measure in the format that it is held against."""
    floats: str = Field(min_length=3)
    """The format that it is held against."""
    how: str = Field(min_length=3)
    """What was rounded and how, as precisions of one name are made in several ways."""
    kind: Kind
    """How well it is known."""
    source: str = Field(min_length=3)
    """Where it is from."""

    @property
    def compared(self) -> str:
        """Both values: "perplexity 16.28 against 15.11 in fp16"."""
        return f"{self.metric} {self.value:g} against {self.reference:g} in {self.floats}"

    def __str__(self) -> str:
        return f"{self.compared} ({self.source})"
