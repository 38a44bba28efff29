"""How much of the processor time of a study went into its points, and how many of them ended a second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a study used while its points ran.

    `useful_s` are processor seconds within the function that evaluates a point, over all processes; `cpu_s` those of
    all processes of the study, starting them and storing points among them, None where a worker did not say. `cores`
    are those that points ran on: of a cluster the threads of its workers.
    """

    points: int
    wall_s: float
    cores: int
    useful_s: float
    cpu_s: float | None

    @property
    def points_per_s(self) -> float:
        """Points that ended a second."""
        return self.points / self.wall_s

    @property
    def of_cores(self) -> float:
        """Useful seconds over those of the cores that points ran on; other work on the machine lowers it."""
        return self.useful_s / (self.cores * self.wall_s)

    @property
    def of_processes(self) -> float | None:
        """Useful seconds over those of all processes of the study, whatever else the machine does; None: unknown."""
        return None if self.cpu_s is None else self.useful_s / self.cpu_s
