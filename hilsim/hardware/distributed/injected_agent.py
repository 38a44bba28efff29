"""The run's way to have an agent fail on purpose: a second connection, to the address that it states for that."""

from __future__ import annotations

import time
from typing import Protocol

from hilsim.describe.address import TCP, Address
from hilsim.errors import Misfit
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault

ANSWER_S = 5.0
PAUSE_S = 0.01  # between two tries to reach an agent that begins anew
RETURN_S = 120.0  # one that has begun anew is back by then


class FaultDoor(Protocol):
    """Where a device takes faults, and is reset as by a board's watchdog. Raises `AgentFault`."""

    def inject(self, fault: str, for_ms: float | None, factor: float | None = None) -> None:
        """Begin a fault ("hang", "slow", "lost" or "none"), for so long or until a reset."""
        ...

    def reset(self) -> None:
        """Have the device begin anew."""
        ...

    def await_return(self, model: str, within_s: float) -> None:
        """Return when it has begun anew and has loaded its model."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class AgentDoor:
    """The door of an agent that was started with `--inject`; `client` is the run's connection for steps."""

    def __init__(self, client: Agent, agent: Agent):
        self.client, self.agent = client, agent

    @classmethod
    def of(cls, client: Agent, token: str | None) -> AgentDoor | None:
        """The door of the agent that a client is connected to; None where it has none. Raises `AgentFault`.

        What is bound to all addresses is reached where the agent is.
        """
        stated = client.facts.device.get("inject")
        if not isinstance(stated, str):
            return None
        try:
            port = Address.parse(f"{TCP}{stated}").port
        except Misfit as misfit:
            raise AgentFault("garbage", f"a door for faults at {misfit.found}") from None
        return cls(client, Agent(Address(client.address.host, port), token))

    def inject(self, fault: str, for_ms: float | None, factor: float | None = None) -> None:
        """Begin a fault ("hang", "slow", "lost" or "none"), for so long or until a reset. Raises `AgentFault`."""
        self.ask("inject", "injected", {"fault": fault, "for_ms": for_ms, "factor": factor})

    def reset(self) -> None:
        """Have the agent's process begin anew. Raises `AgentFault` where it cannot."""
        self.ask("reset", "resetting")
        self.agent.drop()

    def ask(self, kind: str, expected: str, fields: dict[str, object] | None = None) -> None:
        """Ask, and once more where the process that the connection led to has been replaced."""
        try:
            with self.agent.careful():
                self.agent.ask(kind, expected, ANSWER_S, fields)
        except AgentFault as fault:
            if fault.kind != "died":
                raise
            with self.agent.careful():
                self.agent.ask(kind, expected, ANSWER_S, fields)

    def await_return(self, model: str, within_s: float) -> None:
        """Return when the agent has begun anew and its model is loaded. Raises `AgentFault` where that takes longer."""
        until = time.monotonic() + within_s
        self.client.drop()
        while True:
            try:
                self.client.load(model)
                return
            except AgentFault as fault:
                if fault.kind not in ("unreachable", "died") or time.monotonic() > until:
                    raise
            time.sleep(PAUSE_S)

    def close(self) -> None:
        """Let go of the agent's door."""
        self.agent.close()
