"""A cable between two network devices of this machine, with a rate and a delay: for kernels without netem.

    python scripts/loopback/cable.py ONE OTHER --rate BIT/S --delay S

makes the TUN devices ONE and OTHER, which may then be moved into namespaces, prints "ready", and carries IP packets
between them. A packet waits until those before it have left, occupies the cable for its bits and an Ethernet frame's,
and arrives the delay later. Standard library only; Linux, and the right to make devices.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import heapq
import os
import select
import struct
import time
from itertools import count
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# Of an Ethernet frame: header 14, checksum 4, preamble 8, gap 12.
FRAME_BYTES = 38
MOST_PACKET_BYTES = 65_535
MOST_WAITING = 10_000  # packets, as netem's own limit would be set
SPIN_NS = 60_000  # what a wake-up may be late by; waited for awake


def device(name: str) -> int:
    """A new TUN device that lives as long as its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class Way:
    """One direction: when the cable is free again, and what is on it."""

    def __init__(self, source: int, sink: int, bits_s: float, delay_ns: int):
        self.source, self.sink, self.bits_s, self.delay_ns = source, sink, bits_s, delay_ns
        self.free_ns = 0
        self.under_way: list[tuple[int, int, bytes]] = []  # when it arrives, its number, the packet
        self.numbers = count()

    def take(self) -> None:
        """Take what the device sends; what no longer fits is dropped, as on any network."""
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self.source, MOST_PACKET_BYTES)
                if len(self.under_way) < MOST_WAITING:
                    start = max(self.free_ns, time.monotonic_ns())
                    self.free_ns = start + round((len(packet) + FRAME_BYTES) * 8e9 / self.bits_s)
                    heapq.heappush(self.under_way, (self.free_ns + self.delay_ns, next(self.numbers), packet))

    def give(self) -> None:
        """Hand over what has arrived."""
        while self.under_way and self.under_way[0][0] <= time.monotonic_ns():
            _, _, packet = heapq.heappop(self.under_way)
            with contextlib.suppress(OSError):  # a device that is down, or whose queue is full
                os.write(self.sink, packet)


def carry(ways: tuple[Way, Way]) -> None:
    """Carry packets for ever."""
    sources = {way.source: way for way in ways}
    while True:
        due = min((way.under_way[0][0] for way in ways if way.under_way), default=None)
        patience_s = None if due is None else max(0, due - time.monotonic_ns() - SPIN_NS) / 1e9
        readable, _, _ = select.select(list(sources), [], [], patience_s)
        for source in readable:
            sources[source].take()
        for way in ways:
            way.give()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devices", nargs=2, metavar="NAME")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--delay", type=float, required=True)
    options = parser.parse_args()
    with contextlib.suppress(OSError):  # wake up when asked to, and not up to 50 us later
        Path("/proc/self/timerslack_ns").write_text("1")
    one, other = map(device, options.devices)
    delay_ns = round(options.delay * 1e9)
    print("ready", flush=True)
    carry((Way(one, other, options.rate, delay_ns), Way(other, one, options.rate, delay_ns)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
