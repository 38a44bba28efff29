"""Both ends of a link that is really there: what they carry and count, whom they let in; namespaces, and the cable."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import simpy

from hilsim.commands import link_end as command
from hilsim.commands.main import parse
from hilsim.cost.payload import HEADER_BYTES
from hilsim.cost.wire import wire_ns
from hilsim.describe.address import Address
from hilsim.describe.catalogue import load_record
from hilsim.describe.link import Link
from hilsim.errors import ChipLost, InputError
from hilsim.hardware.agent import listen
from hilsim.hardware.agent.listen import address_text, listening, serve
from hilsim.hardware.agent.serve import Service
from hilsim.hardware.distributed import link_end
from hilsim.hardware.distributed.link_end import HEAD, MAGIC, Peer, served
from hilsim.hardware.distributed.link_wires import End, LinkWire
from hilsim.hardware.distributed.wall import WallEnvironment
from hilsim.hardware.wire.exchange import AgentFault
from scripts.loopback.cable import FRAME_BYTES, Way
from scripts.loopback.namespaces import LINK, Shape, netem, refusal, run_command, two_namespaces
from scripts.loopback.testbed import shaped

listen.note = link_end.note = lambda text: None  # its threads outlive the tests, and standard error as those had it
TOKEN = b"a secret of the tests, long enough"
MS = 1_000_000


@dataclass
class Served:
    """One end, served by threads of the test."""

    address: Address
    peer: Peer
    door: tuple[str, int] | None  # where the other end is let in


@pytest.fixture
def ends() -> Iterator[tuple[Served, Served]]:
    """Both ends on loopback."""
    listeners = [listening("127.0.0.1", 0) for _ in range(3)]
    door = listeners[2].getsockname()
    made = []
    for listener in listeners[:2]:
        service = Service({}, {"peer": address_text(door)}, TOKEN, 1.0, 1)
        peer = Peer(service)
        threading.Thread(target=serve, args=(listener, partial(served, peer)), daemon=True).start()
        made.append(Served(Address(*listener.getsockname()), peer, door))
    threading.Thread(target=accepting, args=(made[0].peer, listeners[2]), daemon=True).start()
    threading.Thread(target=made[1].peer.knock, args=door, daemon=True).start()
    yield made[0], made[1]
    for listener in listeners:
        listener.close()


def accepting(peer: Peer, listener: socket.socket) -> None:
    """Until the test is over."""
    with contextlib.suppress(OSError):
        peer.accept(listener)


def carried(wire: LinkWire, sizes: list[int]) -> list[int]:
    """Send messages one after the other; nanoseconds until each has arrived."""
    env = WallEnvironment()
    took: list[int] = []

    def process() -> Iterator[simpy.Event]:
        for nbytes in sizes:
            began = env.now
            sent, arrived = wire.put(env, nbytes)
            yield sent
            yield arrived
            took.append(env.now - began)

    env.process(process())
    env.run()
    return took


def test_bytes_are_counted_where_they_leave_and_where_they_arrive(ends: tuple[Served, Served]) -> None:
    assert HEAD.size == HEADER_BYTES
    target, draft = (End(end.address, TOKEN.decode()) for end in ends)
    up, down = [HEADER_BYTES, 36, 70_000, 262_160, 262_161, 1_000_000], [24, 24]
    assert len(carried(LinkWire(draft, target), up)) == 6
    assert len(carried(LinkWire(target, draft), down)) == 2
    sent, received = draft.counts(), target.counts()
    assert (sent["sent_messages"], sent["sent_bytes"]) == (6, sum(up))
    assert (received["received_messages"], received["received_bytes"]) == (6, sum(up))
    assert (sent["received_bytes"], received["sent_bytes"]) == (48, 48)
    target.close()
    draft.close()


def test_messages_that_are_sent_at_once_arrive_in_order(ends: tuple[Served, Served]) -> None:
    target, draft = (End(end.address, TOKEN.decode()) for end in ends)
    wire, env, order = LinkWire(draft, target), WallEnvironment(), list[int]()

    def one(number: int) -> Iterator[simpy.Event]:
        sent, arrived = wire.put(env, 5000 - 100 * number)
        yield sent & arrived
        order.append(number)

    for number in range(20):
        env.process(one(number))
    env.run()
    assert order == list(range(20))


@pytest.mark.parametrize("token", [None, "another secret, as long as the first"])
def test_who_does_not_know_the_token_is_refused(token: str | None, ends: tuple[Served, Served]) -> None:
    with pytest.raises(AgentFault, match="token") as refused:
        End(ends[0].address, token)
    assert refused.value.kind == "refused"


def test_an_end_of_another_token_gets_no_message(ends: tuple[Served, Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_end, "PATIENCE_S", 0.2)
    listener = listening("127.0.0.1", 0)
    stranger = Peer(Service({}, {}, b"a secret that nobody else knows", 1.0, 1))
    threading.Thread(target=serve, args=(listener, partial(served, stranger)), daemon=True).start()
    threading.Thread(target=stranger.knock, args=ends[0].door, daemon=True).start()
    sender = End(Address(*listener.getsockname()), "a secret that nobody else knows")
    receiver = End(ends[0].address, TOKEN.decode())
    with pytest.raises(ChipLost, match="the other end of the link is not there"):
        carried(LinkWire(sender, receiver), [24])
    listener.close()


def test_garbage_on_the_link_is_dropped_and_the_other_end_may_come_again(ends: tuple[Served, Served]) -> None:
    target, draft = (End(end.address, TOKEN.decode()) for end in ends)
    carried(LinkWire(draft, target), [24])
    link = ends[1].peer.connection
    assert link is not None
    link.sendall(HEAD.pack(MAGIC, 7, 3))  # a message shorter than its own head
    until = time.monotonic() + 5
    while ends[1].peer.connection in (link, None) and time.monotonic() < until:
        time.sleep(0.01)
    carried(LinkWire(draft, target), [24])
    assert target.counts()["received_bytes"] == 48


def test_a_command_that_is_none_ends_nothing(ends: tuple[Served, Served]) -> None:
    asked = End(ends[0].address, TOKEN.decode())
    env = WallEnvironment()
    asked.send(0, 3, (env, env.task()))  # a message must have room for its head
    with pytest.raises(ChipLost, match="bytes 3"):
        env.run()
    asked.close()
    End(ends[0].address, TOKEN.decode()).close()  # and the next client is served


def test_an_end_that_goes_fails_whoever_waits_for_it(ends: tuple[Served, Served]) -> None:
    target, draft = (End(end.address, TOKEN.decode()) for end in ends)
    carried(LinkWire(draft, target), [24])
    target.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ChipLost, match="died"):
        carried(LinkWire(draft, target), [24])


def test_an_end_that_is_gone_fails_whoever_would_send_by_it(ends: tuple[Served, Served]) -> None:
    """The first bytes after a goodbye find nobody, and no error either: the loss itself must be remembered."""
    target, draft = (End(end.address, TOKEN.decode()) for end in ends)
    draft.socket.shutdown(socket.SHUT_RD)
    with draft.changed:
        assert draft.changed.wait_for(lambda: draft.fault is not None, 5)
    with pytest.raises(ChipLost, match="died"):
        carried(LinkWire(draft, target), [24])
    with pytest.raises(ChipLost, match="died"):
        draft.counts(0.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:0", "--peer", "127.0.0.1:1"], "no --token-file"),
        (["--listen", "127.0.0.1:0", "--peer-listen", "0.0.0.0:0"], "no --token-file"),
        (["--listen", "here", "--peer", "127.0.0.1:1"], "HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--peer", "127.0.0.1:0"], "port 0"),
    ],
)
def test_what_is_wrong_with_a_command_line_is_reported(arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        command.run(parse(["link-end", *arguments]))


def test_a_cable_takes_a_packet_s_time_and_its_delay() -> None:
    """Two packets of 1462 bytes, frames of 1500: 12 ms each at 1 Mbit/s, one behind the other, and there 5 ms later."""
    near, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sink, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (source, sink, far):
        end.setblocking(False)
    way = Way(source.fileno(), sink.fileno(), 1e6, 5 * MS)
    near.send(b"a" * (1500 - FRAME_BYTES))
    near.send(b"b" * (1500 - FRAME_BYTES))
    began = time.monotonic_ns()
    way.take()
    first, second = sorted(way.under_way)
    assert second[0] - first[0] == 12 * MS
    assert first[0] >= began + 17 * MS
    way.give()
    with pytest.raises(BlockingIOError):  # nothing is early
        far.recv(2000)
    time.sleep(max(0, second[0] - time.monotonic_ns()) / 1e9)
    way.give()
    assert [far.recv(2000)[:1], far.recv(2000)[:1]] == [b"a", b"b"]
    for end in (near, source, sink, far):
        end.close()


def test_a_shaped_link_is_described_as_it_is_shaped(tmp_path: Path) -> None:
    (tmp_path / "link.yaml").write_text(shaped(Shape(100e6, 0.001), "tc netem"))
    link = load_record(Link, tmp_path / "link.yaml")
    assert link.propagation.si == pytest.approx(0.001)
    # One segment: 1448 bytes and 90 of headers at 12.5 MB/s; ten of them: ten times that, and the first headers twice.
    assert wire_ns(link, 24) == pytest.approx(1e9 * (24 + 90) / 12.5e6, rel=0.02)
    assert wire_ns(link, 14_480) == pytest.approx(1e9 * (14_480 + 11 * 90) / 12.5e6, rel=0.02)


def test_netem_is_given_rate_delay_and_what_it_does_not_see() -> None:
    assert " ".join(netem("a", Shape(100e6, 0.0015))) == (
        "tc -n a qdisc add dev link0 root netem limit 10000 delay 1500us rate 100000000bit 24"
    )


WHY_NOT = refusal()
ALLOWED = pytest.mark.skipif(bool(WHY_NOT), reason=f"no network namespaces here: {WHY_NOT}")
# Tells what it reads back, one way, and says how long each took to come back.
ECHO = """
import socket, sys, time
if sys.argv[1] == "listen":
    door = socket.create_server(("198.51.100.1", 7000))
    print("up", flush=True)
    other, _ = door.accept()
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := other.recv(24):
        other.sendall(data)
else:
    link = socket.create_connection(("198.51.100.1", 7000))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(8):
        began = time.monotonic()
        link.sendall(bytes(24))
        link.recv(24)
        print(time.monotonic() - began)
"""


@ALLOWED
def test_two_namespaces_have_a_link_of_the_delay_asked_for_and_leave_nothing_behind() -> None:
    with two_namespaces(Shape(10e6, 0.005)) as network:
        target, draft = network.sides["target"], network.sides["draft"]
        assert network.shaped_by in ("netem", "cable")
        command = [sys.executable, "-c", ECHO]
        with subprocess.Popen([*target.prefix, *command, "listen"], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            server.stdout.readline()
            done = subprocess.run([*draft.prefix, *command, "ask"], capture_output=True, text=True, check=True)
            server.kill()
        trips = sorted(map(float, done.stdout.split()))
        assert trips[0] >= 0.010
        assert trips[len(trips) // 2] < 0.025
        assert draft.carried_bytes() >= 8 * (24 + 52)
        assert json.loads(run_command("ip", "-n", target.name, "-j", "link", "show", LINK))
    assert left_over() == []


@ALLOWED
def test_nothing_is_left_behind_where_something_goes_wrong() -> None:
    def broken() -> None:
        with two_namespaces(Shape(10e6, 0.001)):
            assert len(left_over()) == 4  # two namespaces, two ways in
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        broken()
    assert left_over() == []


def left_over() -> list[str]:
    """Namespaces and devices that carry this process's number."""
    number = str(os.getpid())
    spaces = [line.split()[0] for line in run_command("ip", "netns").splitlines() if f"hilsim-{number}-" in line]
    devices = [
        line.split()[0] for line in run_command("ip", "-br", "link").splitlines() if line.startswith(f"hs{number}")
    ]
    return [*spaces, *devices]
