"""The `agent` command: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import argparse
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hilsim.commands.agent import GRACE_S
from hilsim.commands.agent_settings import settings_of
from hilsim.commands.main import parse
from hilsim.describe.address import Address
from hilsim.errors import InputError
from hilsim.hardware.conformance.exchanges import AgentUnderTest, whole_numbers
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.hardware.wire.frames import Frame
from hilsim.places import CODE as PROJECT

pytestmark = pytest.mark.usefixtures("at_home")

BLOCKED = (
    "import sys\n"
    "class Wall:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.split('.')[0] in ('numpy', 'torch', 'pydantic', 'yaml', 'simpy', 'rich', 'scipy', 'jinja2',\n"
    "                                  'safetensors', 'tokenizers'):\n"
    "            raise ModuleNotFoundError(f'{name} is walled off', name=name)\n"
    "sys.meta_path.insert(0, Wall())\n"
    "from hilsim.commands.main import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


@contextmanager
def started(*arguments: str, code: str = BLOCKED) -> Iterator[tuple[subprocess.Popen[str], AgentUnderTest]]:
    """An agent in a process that has the standard library only."""
    words = [sys.executable, "-c", code, "agent", *arguments]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            found = re.fullmatch(r"listening on (.+):(\d+)\n", told)
            assert found, told
            yield process, AgentUnderTest(found[1].strip("[]"), int(found[2]))
        finally:
            process.kill()


ENGINE = ["--engine", "tests/fake_engines.py:Chain", "--model", "toy=README.md", "--listen", "127.0.0.1:0"]


def test_it_runs_with_the_standard_library_alone_and_terminates_cleanly() -> None:
    with started(*ENGINE, "--name", "rig 3") as (process, subject):
        with subject.loaded() as talk:
            assert talk.ready.fields["device"]["name"] == "rig 3"
            assert talk.ready.fields["device"]["engine"] == "Chain"
            assert len(talk.step([1, 2, 3], 1).ids) == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0
        assert out == ""
        assert err.endswith("chain closed\n")
        assert "Traceback" not in err


def test_the_checks_need_the_standard_library_alone_as_well() -> None:
    with started(*ENGINE) as (_, subject):
        words = [sys.executable, "-c", BLOCKED, "agent", "--test", f"tcp://127.0.0.1:{subject.port}"]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "passed    welcome comes first" in done.stdout


def test_an_interrupt_in_the_middle_of_a_step_ends_it_with_130() -> None:
    with started(*ENGINE, "--option", "step_s=20") as (process, subject):
        with subject.loaded() as talk:
            fields = {"model": "toy", "phase": "decode", "cached": 0, "wanted": 1, "want": "tokens"}
            talk.send(Frame("step", {"id": 99, **fields}, {"tokens": whole_numbers([1])}))
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "chain closed" in err
        assert "Traceback" not in err


def test_who_watches_may_go_away() -> None:
    with started(*ENGINE) as (process, subject):
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(3):
            with subject.greeted() as talk:
                talk.expect_life()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_ipv6_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with started(*ENGINE[:-1], "[::1]:0") as (_, subject), subject.greeted() as talk:
        talk.expect_life()


def options(*arguments: str) -> argparse.Namespace:
    return parse(["agent", *arguments])


def faults_of(*arguments: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        settings_of(options(*arguments))
    return [str(fault) for fault in caught.value.faults]


def test_all_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short")
    found = faults_of(
        "--model", "a=README.md", "--model", "a=README.md", "--model", "b=nowhere", "--model", "b c=README.md",
        "--listen", "nonsense", "--token-file", str(tmp_path / "token"), "--heartbeat", "soon",
        "--most-body-mib", "1e9", "--option", "x", "--option", "y=1", "--option", "y=2", "--device", "cuda",
        "--engine", "tests/nothing.py:Chain",
    )  # fmt: skip
    words = [
        "--listen: nonsense", "token of at least 16", "--heartbeat: soon", "--most-body-mib: 1e9", "a second 'a'",
        "no such file or folder", "the name 'b c'", "--option: x", "a second 'y'", "--device: cuda", "no such file",
    ]  # fmt: skip
    assert len(found) == len(words)
    for fault, word in zip(found, words, strict=True):
        assert word in fault


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("tests/fake_engines.py", "no colon"),
        ("tests/fake_engines.py:Chai", "no class 'Chai'; expected one of Chain, Stuck, Failing, NoConstruction"),
        ("tests/fake_engines.py:NoEngine", "a class without load, prefill, step, rewind, close"),
        ("tests/fake_engines.py:NoConstruction", "fails with OSError: no such device: /dev/npu0"),
        ("no.such.module:Engine", "no module 'no'"),
        ("hilsim.errors:Nothing", "rewind, close, and there is none in hilsim.errors"),
        ("BROKEN:Engine", "an import that failed (ZeroDivisionError: division by zero)"),
    ],
)
def test_engines_that_are_none(tmp_path: Path, engine: str, words: str) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    engine = engine.replace("BROKEN", str(tmp_path / "broken.py"))
    (found,) = faults_of("--model", "toy=README.md", "--engine", engine)
    assert words in found


def test_options_that_an_engine_does_not_take() -> None:
    (found,) = faults_of("--model", "t=README.md", "--engine", "tests/fake_engines.py:Chain", "--option", "speed=1")
    assert "unexpected keyword argument 'speed'" in found
    assert "Chain(path: 'Path' = " in found


def test_a_token_is_needed_where_others_can_connect(tmp_path: Path) -> None:
    for host in ("0.0.0.0:1", "[::]:1"):
        (found,) = faults_of(*ENGINE[:-1], host)
        assert "no --token-file" in found
    (tmp_path / "token").write_text("  sixteen letters or more\n")
    settings = settings_of(options(*ENGINE[:-1], "0.0.0.0:1", "--token-file", str(tmp_path / "token")))
    assert settings.token == b"sixteen letters or more"


def test_a_place_alone_names_the_model() -> None:
    settings = settings_of(options("--model", "models/draft-0.2m", "--model", "other=models/draft-0.2m"))
    assert list(settings.runners) == ["draft-0.2m", "other"]


def test_a_port_that_is_taken_is_reported_without_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [sys.executable, "-m", "hilsim", "agent", *ENGINE[:-1], f"127.0.0.1:{taken.getsockname()[1]}"]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["sleeping", "in one call", "swallowing"])
@pytest.mark.slow
def test_sigterm_in_the_middle_of_loading_ends_the_agent_in_time_and_the_client_is_notified(how: str) -> None:
    """Within 5 s of the wall: where the engine can be interrupted at once, else after `GRACE_S`."""
    options = ["--engine", "tests/fake_engines.py:Stuck", "--option", f"how={how}", "--model", "toy=README.md"]
    with started(*options, "--listen", "127.0.0.1:0") as (process, subject):
        faults: list[AgentFault] = []

        def load() -> None:
            agent = Agent(Address(subject.host, subject.port), patience=Timeouts(silence_s=60))
            try:
                agent.load("toy")
            except AgentFault as fault:
                faults.append(fault)
            agent.close()

        client = threading.Thread(target=load)
        client.start()
        time.sleep(1.0)  # it is loading
        assert process.poll() is None
        assert not faults
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(30) == 0
        took = time.monotonic() - began
        client.join(30)
        assert took < (1.0 if how == "sleeping" else GRACE_S) + 2.0
        assert [str(fault) for fault in faults] == ["died: stopping: the agent was asked to end"]
