"""Addresses of hosts: where an agent listens, tcp://HOST:PORT, and hosts as URLs have them, IPv6 in brackets."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from hilsim.errors import Fault, Misfit
from hilsim.files import reason

TCP = "tcp://"
EXPECTED = f"{TCP}HOST:PORT, such as {TCP}127.0.0.1:7295"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
MOST_PORT = 65_535


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port of it."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that a text spells. Raises `Misfit`."""
        if not text.startswith(TCP):
            raise Misfit(f"{text!r} without {TCP}", EXPECTED)
        if "@" in text:  # what stands before it may be a secret, and is not shown
            raise Misfit("an address with '@'", EXPECTED, "An agent's secret belongs into a file: token_file.")
        host, colon, port = text.removeprefix(TCP).rpartition(":")
        if not colon or (host.startswith("[") and not host.endswith("]")):
            raise Misfit(f"{text!r} without a port", EXPECTED)
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= MOST_PORT):
            raise Misfit(f"{text!r} with port {port!r}", f"a port from 1 to {MOST_PORT}")
        if host.startswith("["):
            host = host[1:-1]
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise Misfit(f"{text!r} with host '[{host}]'", "an IPv6 address between the brackets") from None
        elif ":" in host:
            raise Misfit(f"{text!r} with colons in its host", f"an IPv6 address in brackets: {TCP}[::1]:7295")
        elif not HOST.fullmatch(host):
            raise Misfit(f"{text!r} with host {host!r}", EXPECTED)
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{TCP}{in_url(self.host)}:{self.port}"


def in_url(host: str) -> str:
    """A host, by name or number, as URLs have it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def browsers_name(host: str) -> str:
    """A host as a browser sends it: in small letters, a number in its shortest form, an IPv6 address in brackets."""
    try:
        return in_url(ipaddress.ip_address(host).compressed)
    except ValueError:
        return host.lower()


def listening_fault(host: str, port: int, error: OSError | ValueError, options: str, running: str = "") -> Fault:
    """Why a server cannot listen: by the port's option, or the host's where the address is at fault.

    `options` is what both options begin with, such as `--metrics-`; `running` asks what may have the port already.
    """
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        remedy = "For this machine alone: 127.0.0.1."
        return Fault(f"{options}host", repr(host), reason(error), "an address of this machine to listen on", remedy)
    remedy = f"Choose another port, or 0 for any that is free{running or '.'}"
    return Fault(f"{options}port", f"{in_url(host)}:{port}", reason(error), "an address to listen on", remedy)
