"""A link between two chips: a rate that queues and a delay that does not, the same in both directions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hilsim.describe.figure import ByteRate, Duration, Named, Power


class Link(Named):
    """One first-in-first-out server per direction (`message_overhead` + bytes over `rate`), then `propagation`."""

    on_chip: bool = False
    """Whether it joins two units of one chip, in place of two chips."""
    reaches: Literal["car", "cloud", "anywhere"] = "car"
    """What it joins: chips of the car, the car with a chip in the cloud, or either."""
    rate: ByteRate
    """Bytes a second on the wire, in each direction; messages queue for it."""
    message_overhead: Duration
    """Time that every message occupies its direction beside that of its bytes."""
    propagation: Duration
    """Delay of every message once it has left the wire; it holds up no other message."""
    jitter: Duration | None = None
    """Width of a uniform random delay, drawn for every message; none where not given."""
    active_power: Power | None = None
    """Power of the link while a message is on it; its energy is left out where not given."""
    notes: str = Field(default="")
    """Remarks for readers; no time follows from them."""
