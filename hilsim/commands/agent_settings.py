"""The settings of an agent from its arguments: every fault reported at once, before anything is loaded."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilsim.errors import Fault, InputError, Misfit
from hilsim.files import exists, expanded, read_text
from hilsim.hardware.agent.injected import Injection, disturbing
from hilsim.hardware.agent.named import CHECKPOINT, engine_class, makers
from hilsim.hardware.agent.runner import Runner

PORT = 7295
LEAST_TOKEN = 16  # characters; a shorter one could be guessed
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")


@dataclass(frozen=True)
class Settings:
    """What the agent runs, and how it may be reached."""

    host: str
    port: int
    token: bytes | None = field(repr=False)
    heartbeat_s: float
    most_body_bytes: int
    name: str | None
    engine: str
    runners: dict[str, Runner]
    inject: tuple[str, int] | None = None  # where faults to have on purpose are taken
    injection: Injection | None = None


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of a command line. Raises `InputError` with all that is wrong."""
    faults: list[Fault] = []
    host, port = address_of(options.listen, "--listen", faults)
    token = token_of(options.token_file, faults)
    inject = None if options.inject is None else address_of(options.inject, "--inject", faults)
    injection = None if inject is None else Injection()
    doors = {"--listen": (options.listen, host)} | ({} if inject is None else {"--inject": (options.inject, inject[0])})
    for option, (text, name) in doors.items():
        if token is None and options.token_file is None and name and not is_loopback(name):
            remedy = "Give a --token-file, or listen on 127.0.0.1 and come through a tunnel (ssh -L)."
            expected = "a token where other machines can connect"
            faults.append(Fault(option, text, "no --token-file", expected, remedy))
    heartbeat_s = number_of(options.heartbeat, "--heartbeat", 0.05, 60.0, faults)
    most_body_mib = number_of(options.most_body_mib, "--most-body-mib", 0.001, 256.0, faults)
    models = models_of(options.model, faults)
    given = engine_options_of(options, faults)
    runners: dict[str, Runner] = {}
    spec = options.engine or CHECKPOINT
    try:
        engine = engine_class(spec)
        made = makers(engine, spec, models, given)
    except InputError as error:
        faults += error.faults
        made = {}
    for name, make in made.items():
        try:
            runners[name] = Runner(name, make if injection is None else disturbing(make, injection))
        except InputError as error:
            faults += error.faults
        except (Exception, SystemExit) as error:  # whatever a user's engine does
            found = f"an engine that fails with {type(error).__name__}: {error}"
            faults.append(Fault("--model", name, found, f"a model for {spec}"))
    if faults:
        for runner in runners.values():
            runner.close()
        raise InputError(faults)
    return Settings(
        host,
        port,
        token,
        heartbeat_s,
        int(most_body_mib * 2**20),
        options.name,
        spec.rpartition(":")[2],
        runners,
        inject,
        injection,
    )


def address_of(text: str, option: str, faults: list[Fault]) -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 address is in brackets."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):(\d{1,5})", text)
    if found is None or int(found[3]) > 65535:
        faults.append(Fault(option, text, "no address", "HOST:PORT", f"Such as 127.0.0.1:{PORT} or [::1]:{PORT}."))
        return "", 0
    return found[1] or found[2], int(found[3])


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host name are this machine's own."""
    try:
        places = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(place.partition("%")[0]).is_loopback for place in places)
    except (OSError, ValueError):
        return False  # listening reports what is wrong with it


def token_of(file: Path | None, faults: list[Fault]) -> bytes | None:
    """The secret that a file holds, without blanks around it."""
    if file is None:
        return None
    try:
        token = read_text(file).strip().encode()
    except InputError as error:
        faults += [fault.at("--token-file") for fault in error.faults]
        return None
    if len(token) < LEAST_TOKEN:
        remedy = "Such as the output of: python -c 'import secrets; print(secrets.token_hex(32))'."
        found, expected = f"{len(token)} characters", f"a token of at least {LEAST_TOKEN}"
        faults.append(Fault(str(file), "--token-file", found, expected, remedy))
    return token


def number_of(text: str, option: str, least: float, most: float, faults: list[Fault]) -> float:
    """A number within bounds."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        faults.append(Fault(option, text, "no such number", f"a number from {least:g} to {most:g}"))
        return least
    return value


def models_of(given: Sequence[str], faults: list[Fault]) -> dict[str, Path]:
    """Names and paths of NAME=PATH; of a path alone the name is the folder's."""
    models: dict[str, Path] = {}
    if not given:
        faults.append(Fault("--model", "", "none", "at least one NAME=PATH", "Such as draft=models/draft-2m."))
    for text in given:
        before, equals, after = text.partition("=")
        named = bool(equals) and "/" not in before
        try:
            path = Path(expanded(after if named else text))
        except Misfit as error:
            faults.append(error.fault("--model", text, "a path"))
            continue
        name = before if named else Path(os.path.realpath(path)).name
        if not NAME.fullmatch(name):
            faults.append(Fault("--model", text, f"the name {name!r}", "letters, digits, '_', '.' and '-'"))
        elif name in models:
            faults.append(Fault("--model", text, f"a second {name!r}", "a name for each model", "Give NAME=PATH."))
        elif not exists(path):
            faults.append(Fault("--model", text, "no such file or folder", "what the engine runs"))
        else:
            models[name] = path
    return models


def engine_options_of(options: argparse.Namespace, faults: list[Fault]) -> dict[str, str]:
    """Keywords for the engine: those of --option, and for the checkpoint engine --device and --threads."""
    found: dict[str, str] = {}
    for text in options.option:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            faults.append(Fault("--option", text, "no key and value", "KEY=VALUE"))
        elif key in found:
            faults.append(Fault("--option", text, f"a second {key!r}", "each key once"))
        else:
            found[key] = value
    for key in ("device", "threads"):
        value = getattr(options, key)
        if value is None:
            continue
        if options.engine is not None:
            remedy = f"For an engine of your own give --option {key}={value}."
            faults.append(Fault(f"--{key}", value, f"--engine {options.engine} beside it", "the built-in one", remedy))
        elif key in found:
            faults.append(Fault(f"--{key}", value, f"--option {key} beside it", "one of the two"))
        else:
            found[key] = value
    return found
