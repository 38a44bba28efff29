"""Two network namespaces of this machine with a shaped link between them, and a way to each from outside it.

    target's namespace   link0 <------ rate, delay ------> link0   draft's namespace
              control0                                        control0
                  |                                              |
                  +------------------ this machine --------------+

The link is a veth pair under `tc netem`, or a cable of our own (`cable.py`) where the kernel has no netem. The ways in
are not shaped. All is gone afterwards, whatever happens meanwhile; names carry the number of this process.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hilsim.errors import HilsimError

CABLE = Path(__file__).with_name("cable.py")
LINK, CONTROL = "link0", "control0"
# RFC 2544 sets this network apart for measurements: 16,384 blocks of eight addresses, one a process.
BENCHMARKS = ipaddress.IPv4Address("198.18.0.0")
BLOCKS = 16_384
ON_LINK = {"target": "198.51.100.1", "draft": "198.51.100.2"}  # not visible outside
# netem counts the 14 bytes of an Ethernet header; checksum, preamble and gap are 24 more.
UNSEEN_BYTES = 24


class NoNamespaces(HilsimError):
    """What could not be set up, and why."""

    def __init__(self, command: str, message: str):
        super().__init__(command, message)

    def __str__(self) -> str:
        command, message = self.args
        return (
            f"`{command}` failed: {message}. Namespaces need root and a system that has them; or use --no-namespaces."
        )


@dataclass(frozen=True)
class Shape:
    """What a link is made to be, in each direction."""

    bits_s: float
    delay_s: float


@dataclass(frozen=True)
class Side:
    """One namespace: its name, and its addresses on the way in and on the link."""

    name: str
    control: str
    link: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What comes before a command that is to run inside."""
        return ("ip", "netns", "exec", self.name)

    def carried_bytes(self) -> int:
        """What the namespace has put on the link until now, headers and acknowledgements included."""
        (device,) = json.loads(run_command("ip", "-n", self.name, "-s", "-j", "link", "show", LINK))
        return int(device["stats64"]["tx"]["bytes"])


@dataclass(frozen=True)
class Network:
    """Both sides by role, and what shapes the link: netem or cable."""

    sides: dict[str, Side]
    shaped_by: str


def run_command(*command: str) -> str:
    """Run a command and return its output. Raises `NoNamespaces` where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoNamespaces(command[0], (error.strerror or str(error)).lower()) from None
    if done.returncode:
        raise NoNamespaces(" ".join(command), " ".join(done.stderr.split()) or f"exit status {done.returncode}")
    return done.stdout


def refusal() -> str:
    """Why there can be no namespaces here, or nothing."""
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"no command {' or '.join(missing)} (iproute2)"
    name = f"hilsim-{os.getpid()}-probe"
    try:
        run_command("ip", "netns", "add", name)
    except NoNamespaces as error:
        return str(error.args[1])
    run_command("ip", "netns", "del", name)
    return ""


@contextmanager
def two_namespaces(shape: Shape) -> Iterator[Network]:
    """The namespaces of target and draft, for as long as they are needed. Raises `NoNamespaces`."""
    number, block = os.getpid(), BENCHMARKS + 8 * (os.getpid() % BLOCKS)
    with ExitStack() as stack:
        sides = {}
        for place, role in enumerate(("target", "draft")):
            sides[role] = Side(f"hilsim-{number}-{role}", str(block + 4 * place + 2), ON_LINK[role])
            way_in(stack, sides[role], f"hs{number}{role[0]}", str(block + 4 * place + 1))
        shaped_by = "netem"
        try:
            shaped_pair(sides, shape)
        except NoNamespaces:
            shaped_by = "cable"
            cable(stack, sides, shape, number)
        for role, side in sides.items():
            other = ON_LINK["draft" if role == "target" else "target"]
            run_command("ip", "-n", side.name, "addr", "add", side.link, "peer", other, "dev", LINK)
            # Without an address of its own making a device sends no packets of its own.
            run_command("ip", "-n", side.name, "link", "set", LINK, "addrgenmode", "none")
            run_command("ip", "-n", side.name, "link", "set", LINK, "up")
        yield Network(sides, shaped_by)


def way_in(stack: ExitStack, side: Side, outside: str, address: str) -> None:
    """A namespace, and an unshaped pair of devices that leads into it."""
    # What must be taken away is written down before it is made, as Ctrl-C may come in between.
    stack.callback(quietly, "ip", "netns", "del", side.name)
    run_command("ip", "netns", "add", side.name)
    stack.callback(quietly, "ip", "link", "del", outside)
    run_command("ip", "link", "add", outside, "type", "veth", "peer", "name", CONTROL, "netns", side.name)
    run_command("ip", "addr", "add", f"{address}/30", "dev", outside)
    run_command("ip", "link", "set", outside, "up")
    run_command("ip", "-n", side.name, "addr", "add", f"{side.control}/30", "dev", CONTROL)
    for device in ("lo", CONTROL):
        run_command("ip", "-n", side.name, "link", "set", device, "up")


def quietly(*command: str) -> None:
    """Run a command that tidies up: what is gone already is no fault."""
    subprocess.run(command, capture_output=True, check=False)


def shaped_pair(sides: dict[str, Side], shape: Shape) -> None:
    """A pair of devices from namespace to namespace, each end shaped by netem. Leaves nothing behind where it fails."""
    one, other = (side.name for side in sides.values())
    run_command("ip", "link", "add", LINK, "netns", one, "type", "veth", "peer", "name", LINK, "netns", other)
    try:
        for name in (one, other):
            # Packets as they would be on a wire: what the stack bundles for itself would count as one.
            run_command("ip", "-n", name, "link", "set", LINK, "gso_max_segs", "1")
            run_command(*netem(name, shape))
    except NoNamespaces:
        run_command("ip", "-n", one, "link", "del", LINK)
        raise


def netem(name: str, shape: Shape) -> tuple[str, ...]:
    """The command that shapes one end."""
    rate, delay = f"{shape.bits_s:.0f}bit", f"{shape.delay_s * 1e6:.0f}us"
    begin = ("tc", "-n", name, "qdisc", "add", "dev", LINK, "root", "netem")
    return (*begin, "limit", "10000", "delay", delay, "rate", rate, str(UNSEEN_BYTES))


def cable(stack: ExitStack, sides: dict[str, Side], shape: Shape, number: int) -> None:
    """Two devices and a process that carries packets between them; the devices end with it."""
    names = [f"hs{number}{role[0]}l" for role in sides]
    options = ("--rate", f"{shape.bits_s:.0f}", "--delay", f"{shape.delay_s:.9f}")
    process = subprocess.Popen(
        [sys.executable, str(CABLE), *names, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the parent process
    )
    stack.callback(ended, process)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        _, message = process.communicate()
        raise NoNamespaces(str(CABLE), message.strip().rpartition("\n")[2])
    for device, side in zip(names, sides.values(), strict=True):
        run_command("ip", "link", "set", device, "netns", side.name)
        run_command("ip", "-n", side.name, "link", "set", device, "name", LINK)


def ended(process: subprocess.Popen[str]) -> None:
    """End the cable."""
    process.kill()
    process.communicate()
