"""What is done to messages on purpose happens to their bytes, at an end that was started for it and at no other."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import simpy

from hilsim.describe.address import Address
from hilsim.errors import ChipLost
from hilsim.hardware.agent import listen
from hilsim.hardware.agent.listen import listening, serve
from hilsim.hardware.agent.serve import Service
from hilsim.hardware.distributed import link_end
from hilsim.hardware.distributed.injected_link import (
    CHECKED_HEAD,
    USUAL,
    Fate,
    Outbox,
    checked_message,
    flippable_bits,
)
from hilsim.hardware.distributed.link_end import HEAD, Peer, served
from hilsim.hardware.distributed.link_wires import End, LinkWire
from hilsim.hardware.distributed.wall import WallEnvironment
from hilsim.hardware.wire.frames import FrameError

listen.note = link_end.note = lambda text: None  # its threads outlive the tests, and standard error as those had it
MS = 1_000_000


class Ends:
    """Both ends of a link on loopback, served by threads of the test, and the run's connections to them."""

    def __init__(self, *, injecting: bool):
        self.listeners = [listening("127.0.0.1", 0) for _ in range(3)]
        door = self.listeners[2]
        self.ends = []
        for listener in self.listeners[:2]:
            service = Service({}, {"inject": injecting}, None, 1.0, 1)
            peer = Peer(service, Outbox() if injecting else None)
            threading.Thread(target=serve, args=(listener, partial(served, peer)), daemon=True).start()
            if not self.ends:
                threading.Thread(target=accepting, args=(peer, door), daemon=True).start()
            else:
                threading.Thread(target=peer.knock, args=door.getsockname()[:2], daemon=True).start()
            self.ends.append(End(Address(*listener.getsockname()[:2])))
        self.wire = LinkWire(*self.ends)

    def close(self) -> None:
        for end in self.ends:
            end.close()
        for listener in self.listeners:
            listener.close()


def accepting(peer: Peer, listener: socket.socket) -> None:
    """Until the test is over."""
    with contextlib.suppress(OSError):
        peer.accept(listener)


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends(injecting=True)
    yield made
    made.close()


def send(ends: Ends, *fates: Fate, within_ms: int = 2000) -> list[tuple[int, int, bool]]:
    """Send messages of 64 bytes at once. Of those that arrive their place, when in ns, and whether they are intact."""
    env, arrivals = WallEnvironment(), list[tuple[int, int, bool]]()

    def one(place: int, fate: Fate) -> Iterator[simpy.Event]:
        number, sent, arrived = ends.wire.inject(env, 64, fate)
        yield sent
        patience = env.timeout(within_ms * MS)
        yield arrived | patience
        if arrived.triggered:
            arrivals.append((place, env.now, arrived.value))
        else:
            ends.wire.receiver.give_up(number)

    for place, fate in enumerate(fates):
        env.process(one(place, fate))
    env.run()
    return arrivals


def test_a_message_that_is_dropped_never_arrives_and_the_run_ends_all_the_same(ends: Ends) -> None:
    arrivals = send(ends, USUAL, Fate(drop=True), USUAL, within_ms=200)
    assert [place for place, *_ in arrivals] == [0, 2]
    assert ends.ends[0].counts()["sent_bytes"] == ends.ends[1].counts()["received_bytes"] == 2 * 64


def test_a_message_that_is_held_back_holds_those_behind_it(ends: Ends) -> None:
    arrivals = send(ends, USUAL, Fate(hold_ns=100 * MS), USUAL, USUAL)
    assert [place for place, *_ in arrivals] == [0, 1, 2, 3]
    assert arrivals[0][1] < 100 * MS <= arrivals[1][1]


def test_a_message_that_is_late_is_overtaken(ends: Ends) -> None:
    arrivals = send(ends, USUAL, Fate(hold_ns=100 * MS, overtaken=True), USUAL, USUAL)
    assert [place for place, *_ in arrivals] == [0, 2, 3, 1]
    assert arrivals[2][1] < 100 * MS <= arrivals[3][1]


def test_a_slow_link_keeps_the_sender_busy(ends: Ends) -> None:
    arrivals = send(ends, Fate(busy_ns=50 * MS), Fate(busy_ns=50 * MS))
    assert arrivals[0][1] >= 50 * MS
    assert arrivals[1][1] >= 100 * MS


def test_copies_cross_the_link_and_are_known_as_copies(ends: Ends) -> None:
    assert len(send(ends, USUAL, Fate(copies=3), USUAL)) == 3
    until = time.monotonic() + 5
    while ends.ends[1].counts()["received_messages"] < 5 and time.monotonic() < until:
        time.sleep(0.01)
    assert ends.ends[1].counts()["received_bytes"] == 5 * 64
    assert ends.ends[1].late == [1, 1]


def test_a_message_that_comes_after_it_was_given_up_is_no_fault(ends: Ends) -> None:
    assert send(ends, Fate(hold_ns=150 * MS), within_ms=50) == []
    assert [place for place, *_ in send(ends, USUAL, USUAL)] == [0, 1]  # behind it
    assert ends.ends[1].late == [0]


def test_bits_that_are_inverted_on_the_link_are_found_by_the_checksum(ends: Ends) -> None:
    fates = [Fate(checked=True), Fate(flips=(5,)), Fate(flips=(32, 33, 400)), Fate(checked=True), USUAL]
    assert [intact for *_, intact in send(ends, *fates)] == [True, False, False, True, True]


class Reading:
    """A peer that reads what a test writes."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.peer = Peer(Service({}, {}, None, 1.0, 1))

    def read(self, message: bytes) -> dict[str, int | bool]:
        self.near.sendall(message)
        room = memoryview(bytearray(4096))
        link_end.fill(self.far, room[: HEAD.size])
        return self.peer.read_message(self.far, room)


def test_every_inverted_bit_is_found_and_none_where_none_is() -> None:
    """All single bits of a message of 24 bytes; as a control, messages without any."""
    reading = Reading()
    assert flippable_bits(24) == 8 * 12
    for bit in range(flippable_bits(24)):
        assert reading.read(checked_message(7, 24, (bit,))) == {"message": 7, "bytes": 24, "intact": False}
        assert reading.read(checked_message(7, 24, ())) == {"message": 7, "bytes": 24, "intact": True}
    assert reading.read(checked_message(7, 24, (3, 3)))["intact"]  # inverted twice
    assert len(checked_message(7, 24, ())) == 24
    assert CHECKED_HEAD.size == HEAD.size


def test_a_head_that_claims_less_than_itself_is_no_message() -> None:
    with pytest.raises(FrameError, match="no message"):
        Reading().read(CHECKED_HEAD.pack(b"HILC", 7, 3, 0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"explode": True}, "no object of drop"),
        ([], "no object of drop"),
        ({"hold_ns": -1}, "hold_ns that is no whole number from 0"),
        ({"hold_ns": 10**12}, "hold_ns that is no whole number from 0"),
        ({"hold_ns": True}, "hold_ns that is no whole number from 0"),
        ({"copies": 0}, "copies that is no whole number from 1"),
        ({"drop": 1}, "drop that is neither"),
        ({"flips": 3}, "flips that are no list"),
        ({"flips": [416]}, "flips beyond the 416 bits"),
        ({"flips": [-1]}, "flips beyond"),
    ],
)
def test_a_fate_that_is_none_is_refused(fields: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fate.of(fields, 64)


def test_a_fate_goes_over_the_wire_and_back() -> None:
    for fate in (USUAL, Fate(drop=True), Fate(hold_ns=5, overtaken=True, copies=2, flips=(1, 2)), Fate(checked=True)):
        assert Fate.of(fate.fields(), 64) == fate
    assert USUAL.fields() == {}


def test_an_end_that_was_not_started_for_it_refuses() -> None:
    ends = Ends(injecting=False)
    try:
        assert not ends.ends[0].injects
        with pytest.raises(ChipLost, match="not started with --inject"):
            send(ends, Fate(drop=True), within_ms=50)
    finally:
        ends.close()
