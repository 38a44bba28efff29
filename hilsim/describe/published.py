"""What a paper printed for the set-up that a scenario types in. It is compared with and never reckoned with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Misfit

Positive = Annotated[float, Field(gt=0, le=1e6)]


class Published(Record):
    """What a paper printed, one of three figures at least."""

    speedup: Positive | None = None
    """Printed speed-up, measured over the target alone."""
    per_token_ms: Positive | None = None
    """Printed milliseconds a token, measured."""
    expected: Positive | None = None
    """Speed-up that the paper's own formula gives."""
    source: str = Field(min_length=3)
    """Where the figures are printed: the paper and its table."""
    note: str = ""
    """A remark beside the comparison, such as what the paper does not state."""

    @model_validator(mode="after")
    def _says_something(self) -> Published:
        if self.speedup is None and self.per_token_ms is None and self.expected is None:
            raise Misfit("no figure", "speedup, per_token_ms or expected, as printed")
        return self
