"""A link between two chips: a rate that queues and a delay that does not, the same in both directions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hilsim.describe.figure import ByteRate, Duration, Named, Power


class Link(Named):
    """One first-in-first-out server per direction (`message_overhead` + bytes over `rate`), then `propagation`.

    `jitter` is the width of a uniform extra delay per message. `on_chip` links join units of one chip, all others
    join two chips of the car, or the car with the cloud.
    """

    on_chip: bool = False
    reaches: Literal["car", "cloud", "anywhere"] = "car"
    rate: ByteRate
    message_overhead: Duration
    propagation: Duration
    jitter: Duration | None = None
    active_power: Power | None = None
    notes: str = Field(default="")
