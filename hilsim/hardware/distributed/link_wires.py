"""The run's connections to both ends of a link: they have messages sent and trigger events when these have arrived."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from socket import SHUT_RDWR

import simpy

from hilsim.describe.address import Address
from hilsim.errors import ChipLost
from hilsim.files import reason
from hilsim.hardware.agent.connection import probe
from hilsim.hardware.distributed.injected_link import USUAL, Fate
from hilsim.hardware.distributed.wall import WallEnvironment
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.hardware.wire.frames import Closed, Frame, FrameError, encoded, read_frame
from hilsim.hardware.wire.replies import AgentFacts, fault_of, shown

REMEDY = "Start the link's ends again (see python -m hilsim link-end --help)."
Awaited = tuple[WallEnvironment, simpy.Event]


class End:
    """One end of a link. A thread reads its messages, as they come unasked.

    `sent` is who waits for an answer, by question; `arrived` who waits for a message, and its size, by its number;
    `replies` where the answers to other questions go. Messages to it are numbered by `messages`. Where messages are
    dropped and copied on purpose, `late` has those that came again, or after they had been given up; `again` is who
    waits for a second copy.
    """

    def __init__(self, address: Address, token: str | None = None):
        self.agent = Agent(address, token)  # for the handshake, which is the agents'
        self.socket = self.agent.connected().socket
        self.socket.settimeout(None)
        probe(self.socket)  # nothing may come for long, but not because the end's machine is gone
        self.numbers = count(2)  # the handshake has used 1
        self.messages = 0
        self.late: list[int] = []
        self.again: dict[int, Awaited] = {}
        self.sent: dict[int, Awaited] = {}
        self.arrived: dict[int, tuple[int, Awaited]] = {}
        self.replies: dict[int, Frame | None] = {}
        self.changed = threading.Condition()
        self.fault: AgentFault | None = None
        threading.Thread(target=self._listen, name=f"end {address}", daemon=True).start()

    @property
    def facts(self) -> AgentFacts:
        """What the end reports about itself."""
        return self.agent.facts

    @property
    def injects(self) -> bool:
        """Whether messages may be dropped, held back, copied and changed there: it was started with `--inject`."""
        return self.facts.device.get("inject") is True

    def send(self, message: int, nbytes: int, sent: Awaited, fate: Fate = USUAL) -> None:
        """Have a message sent; `sent` comes about when the end's socket has taken it."""
        number = next(self.numbers)
        with self.changed:
            self.sent[number] = sent
            fault = self.fault
        if fault is not None:  # it is gone, though the socket may still take bytes that are not read
            self._lost(fault)
            return
        inject = {} if fate == USUAL else {"inject": fate.fields()}
        self._ask(Frame("send", {"id": number, "message": message, "bytes": nbytes, **inject}))

    def expect(self, nbytes: int, arrived: Awaited) -> int:
        """The number of a new message; `arrived` comes about when it is here, its value whether it is intact."""
        with self.changed:
            message, self.messages = self.messages, self.messages + 1
            self.arrived[message] = nbytes, arrived
            fault = self.fault
        if fault is not None:
            self._lost(fault)
        return message

    def expect_again(self, message: int, arrived: Awaited) -> None:
        """`arrived` comes about when a message is here that has been here before."""
        with self.changed:
            self.again[message] = arrived

    def give_up(self, message: int) -> None:
        """Wait no more for a message."""
        with self.changed:
            awaited = self.arrived.pop(message, None)
        if awaited is not None:
            _, (env, event) = awaited
            env.abandon(event)

    def counts(self, within_s: float = 10.0) -> dict[str, int]:
        """How many messages and bytes the end has sent and received. Raises `ChipLost`."""
        number = next(self.numbers)
        with self.changed:
            self.replies[number] = None
        self._ask(Frame("stats", {"id": number}))
        with self.changed:
            self.changed.wait_for(lambda: self.replies[number] is not None or self.fault is not None, within_s)
            found = self.replies.pop(number)
        if found is None:
            fault = self.fault or AgentFault("stalled", f"no answer within {within_s:.2g} s")
            raise ChipLost(self.name, fault.kind, fault.found, REMEDY)
        return {name: value for name, value in found.fields.items() if type(value) is int}

    def close(self) -> None:
        """Hang up; the thread ends with the connection."""
        with suppress(OSError):
            self.socket.shutdown(SHUT_RDWR)
        self.agent.drop()

    def _ask(self, frame: Frame) -> None:
        try:
            self.socket.sendall(encoded(frame))
        except OSError as error:
            self._lost(AgentFault("died", reason(error)))

    def _listen(self) -> None:
        """Hand out what comes until nothing more can."""
        try:
            while True:
                self._handle(read_frame(self.socket.recv, 0))
        except Closed:
            self._lost(AgentFault("died", "it closed the connection"))
        except FrameError as error:
            self._lost(AgentFault("garbage", error.found))
        except AgentFault as fault:
            self._lost(fault)
        except OSError as error:
            self._lost(AgentFault("died", reason(error)))
        except (KeyError, TypeError):
            self._lost(AgentFault("garbage", "an answer to no question"))

    def _handle(self, frame: Frame) -> None:
        fields = frame.fields
        if frame.kind == "sent":
            with self.changed:
                env, event = self.sent.pop(fields["id"])
            env.done(event)
        elif frame.kind == "arrived":
            with self.changed:
                if self.injects and fields["message"] in range(self.messages) and fields["message"] not in self.arrived:
                    self.late.append(fields["message"])
                    if (awaited := self.again.pop(fields["message"], None)) is not None:
                        awaited[0].done(awaited[1])
                    return
                expected, (env, event) = self.arrived.pop(fields["message"])
            if fields["bytes"] != expected:
                found = f"a message of {shown(fields['bytes'])} bytes, of which {expected} were sent"
                env.failed(event, ChipLost(self.name, "garbage", found, REMEDY))
                return
            env.done(event, fields.get("intact", True) is True)
        elif frame.kind == "stats":
            with self.changed:
                if fields["id"] in self.replies:
                    self.replies[fields["id"]] = frame
                self.changed.notify_all()
        elif frame.kind == "error":
            raise fault_of(frame)
        elif frame.kind != "alive":
            raise AgentFault("garbage", f"`{shown(frame.kind)}`, unasked")

    @property
    def name(self) -> str:
        return f"the link's end at {self.agent.address}"

    def _lost(self, fault: AgentFault) -> None:
        """Fail every event that is waited for; the first fault is the one that is reported."""
        with self.changed:
            self.fault = self.fault or fault
            first = self.fault
            waiting = [*self.sent.values(), *self.again.values(), *(awaited for _, awaited in self.arrived.values())]
            self.sent.clear()
            self.again.clear()
            self.arrived.clear()
            self.changed.notify_all()
        for env, event in waiting:
            env.failed(event, ChipLost(self.name, first.kind, first.found, REMEDY))


class LinkWire:
    """One way over a link between two ends."""

    def __init__(self, sender: End, receiver: End):
        self.sender, self.receiver = sender, receiver

    def put(self, env: WallEnvironment, nbytes: int) -> tuple[simpy.Event, simpy.Event]:
        """Send a message: an event for when the sender's socket has taken it, one for when it has arrived whole."""
        _, sent, arrived = self.inject(env, nbytes, USUAL)
        return sent, arrived

    def inject(self, env: WallEnvironment, nbytes: int, fate: Fate) -> tuple[int, simpy.Event, simpy.Event]:
        """As `put`, with what becomes of the message; its number, by which the receiver gives it up, stands before."""
        sent, arrived = env.task(), env.task()
        message = self.receiver.expect(nbytes, (env, arrived))
        self.sender.send(message, nbytes, (env, sent), fate)
        return message, sent, arrived


@dataclass(frozen=True)
class LinkEnds:
    """Both ends of a link, by role, and what counts its bytes on the way where something does."""

    ends: Mapping[str, End]
    carried: Callable[[], dict[str, int]] | None = None  # bytes by direction, headers and acknowledgements included

    @property
    def wires(self) -> dict[str, LinkWire]:
        """The link's directions: `up` runs from the draft's side to the target's."""
        target, draft = self.ends["target"], self.ends["draft"]
        return {"up": LinkWire(draft, target), "down": LinkWire(target, draft)}

    def counted(self) -> dict[str, int]:
        """Bytes of messages that have arrived until now, by direction, as the ends have counted them."""
        received = {role: end.counts()["received_bytes"] for role, end in self.ends.items()}
        return {"up": received["target"], "down": received["draft"]}
