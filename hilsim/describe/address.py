"""Where an agent listens: tcp://HOST:PORT, an IPv6 host in brackets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from hilsim.errors import Misfit

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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TCP}{host}:{self.port}"
