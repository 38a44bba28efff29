"""Which roles of a set-up run outside the car."""

from __future__ import annotations

from hilsim.describe.setup import Setup


def outside_car(setup: Setup) -> tuple[str, ...]:
    """The roles that run outside the car, each with its chip: conversations then leave the car."""
    roles = (role for role in (setup.target, setup.draft) if role is not None)
    return tuple(f"{role.role} on {role.chip.name}" for role in roles if role.chip.place == "cloud")
