"""Faults that an agent has on purpose, where it was started with `--inject`; standard library only.

A second listening socket takes them, so that they come at any instant, in the middle of a step as well. It speaks the
agents' protocol (docs/protocol.md) with other kinds:

    client  inject    id, fault ("hang", "slow", "lost", "none"), for_ms (or null: until a reset), factor (of "slow")
    agent   injected  id, clock_ns
    client  reset     id                the agent's process begins anew: models, caches and connections are gone
    agent   resetting id, clock_ns
    client  ping      id
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence

from hilsim.hardware.agent.connection import ClientConnection
from hilsim.hardware.agent.engine import Engine, EngineFacts, Output
from hilsim.hardware.agent.named import Make
from hilsim.hardware.agent.notes import note
from hilsim.hardware.agent.serve import ClientSession, RequestRefused, Service, quoted
from hilsim.hardware.wire.frames import Frame

FAULTS = ("hang", "slow", "lost", "none")
MOST_MS = 600_000.0
MOST_FACTOR = 1000.0


class Injection:
    """The fault that the agent's chip has at the moment. Steps ask it how they fare; another thread sets it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.fault, self.factor, self.until = "none", 1.0, math.inf  # until when, on the monotonic clock

    def begin(self, fault: str, for_s: float, factor: float) -> None:
        """Have a fault from now on, for so long. One that is lost stays lost."""
        with self.changed:
            if self.fault != "lost":
                self.fault, self.factor, self.until = fault, factor, time.monotonic() + for_s
            self.changed.notify_all()

    @property
    def lost(self) -> bool:
        """Whether the chip answers nothing any more, a reset included."""
        return self.fault == "lost"

    def present(self) -> str:
        """The fault that there is now."""
        if self.fault != "lost" and time.monotonic() >= self.until:
            self.fault = "none"
        return self.fault

    def stand_still(self) -> None:
        """Return when the chip does not hang, or no longer."""
        with self.changed:
            while self.present() in ("hang", "lost"):
                left_s = self.until - time.monotonic()
                self.changed.wait(None if self.lost or left_s == math.inf else max(0.0, left_s))

    def stretch(self, took_s: float) -> float:
        """What a pass that has taken so long takes beyond that, as the chip is slow; returns when that is over."""
        with self.changed:
            more_s = (self.factor - 1) * took_s if self.present() == "slow" else 0.0
        time.sleep(more_s)
        return more_s


class Disturbed:
    """An engine whose passes fare as the injection has it. A fault that comes in the middle of a pass holds it."""

    def __init__(self, engine: Engine, injection: Injection):
        self.engine, self.injection = engine, injection
        self.device = getattr(engine, "device", None)

    def load(self) -> EngineFacts:
        self.injection.stand_still()
        return self.engine.load()

    def prefill(self, tokens: Sequence[int]) -> Output:
        return self.disturbed(lambda: self.engine.prefill(tokens))

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        return self.disturbed(lambda: self.engine.step(tokens, wanted))

    def rewind(self, length: int) -> None:
        self.injection.stand_still()
        self.engine.rewind(length)

    def close(self) -> None:
        self.engine.close()

    def disturbed(self, run: Callable[[], Output]) -> Output:
        """A pass, and what the fault adds to it; an engine's own measurement has that in it as well."""
        self.injection.stand_still()
        began = time.perf_counter()
        output = run()
        more_s = self.injection.stretch(time.perf_counter() - began)
        self.injection.stand_still()
        if output.duration_ns is None or not more_s:
            return output
        return Output(output.logits, output.ids, output.duration_ns + round(more_s * 1e9))


def disturbing(make: Make, injection: Injection) -> Make:
    """Makes engines that the injection disturbs."""
    return lambda: Disturbed(make(), injection)


class InjectionClient(ClientSession):
    """A client that has faults happen."""

    def __init__(
        self,
        line: ClientConnection,
        service: Service,
        let_go: Callable[[], None],
        injection: Injection,
        restart: Callable[[], None],
    ):
        super().__init__(line, service, let_go)
        self.injection, self.restart = injection, restart
        self.kinds = {"inject": self.inject, "reset": self.begin_anew, "ping": self.ping}

    def inject(self, id: int, frame: Frame) -> Frame:
        """Begin a fault."""
        fault, for_ms, factor = (frame.fields.get(name) for name in ("fault", "for_ms", "factor"))
        if fault not in FAULTS:
            raise RequestRefused("bad_request", f"fault {quoted(fault)}; expected one of {', '.join(FAULTS)}")
        for_s = math.inf if for_ms is None else number(for_ms, "for_ms", 0.0, MOST_MS) / 1000
        times = number(factor, "factor", 1.0, MOST_FACTOR) if fault == "slow" else 1.0
        note(f"injected: {fault}" + ("" if for_ms is None else f" for {for_ms:g} ms"))
        self.injection.begin(str(fault), for_s, times)
        return Frame("injected", {"id": id, "clock_ns": time.perf_counter_ns()})

    def begin_anew(self, id: int, frame: Frame) -> Frame:
        """Replace this process by a new one of the same arguments; a chip that is lost has none."""
        if self.injection.lost:
            raise RequestRefused("engine", "the chip is lost, as was injected")
        note("reset, as was asked for")
        self.line.send(Frame("resetting", {"id": id, "clock_ns": time.perf_counter_ns()}))
        self.restart()
        raise AssertionError("a process that was replaced goes on")


def served(
    service: Service,
    injection: Injection,
    restart: Callable[[], None],
    connection: socket.socket,
    let_go: Callable[[], None],
) -> str:
    """Serve one client that injects faults; why it went, or nothing."""
    return InjectionClient(ClientConnection(connection), service, let_go, injection, restart).run()


def number(value: object, name: str, least: float, most: float) -> float:
    """A number among the fields."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RequestRefused("bad_request", f"{name} {quoted(value)}; expected a number from {least:g} to {most:g}")
    return float(value)
