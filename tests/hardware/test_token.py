"""The secret that an agent asks for appears nowhere: no list of processes, message, log, recording or report."""

from __future__ import annotations

import hashlib
import hmac
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hilsim.commands.agent_settings import settings_of
from hilsim.commands.main import main, parse, simulate_main
from hilsim.describe.address import Address
from hilsim.hardware.agent.serve import Service
from hilsim.hardware.conformance.exchanges import AgentUnderTest
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.hardware.wire.frames import Frame, encoded
from hilsim.places import CODE as PROJECT
from tests.commands.lines import line_of
from tests.fuzz.command_lines import parsers

SECRET = "sEcReT-0123456789-aBcDeF"
ENGINE = f"{PROJECT}/tests/fake_engines.py:Chain"
Capture = pytest.CaptureFixture[str]


class Running:
    """An agent with a secret, and the file of its output."""

    def __init__(self, folder: Path, *models: str):
        self.token, self.log = folder / "token", folder / "agent.log"
        self.token.write_text(f"{SECRET}\n")
        command = [sys.executable, "-m", "hilsim", "agent", *models, "--token-file", str(self.token)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0"], cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.address = f"tcp://{self.process.stdout.readline().removeprefix('listening on ').strip()}"

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path, "--model", f"toy={PROJECT / 'LICENSE'}", "--engine", ENGINE)
    yield found
    found.end()


def holding(secret: str, folder: Path) -> list[Path]:
    """Files that a secret is in, in any part of them, but for the one that it belongs into."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "token"]
    assert files
    return [file for file in files if secret.encode() in file.read_bytes()]


def processes_of(process: subprocess.Popen[str]) -> bytes:
    """What the list of processes shows of one: its arguments, and its environment to its own user."""
    place = Path("/proc") / str(process.pid)
    return (place / "cmdline").read_bytes() + (place / "environ").read_bytes()


def test_the_search_finds_a_secret_that_is_there(tmp_path: Path) -> None:
    """The negative control of the others: a log with the secret, a process with it among its arguments."""
    (tmp_path / "log").write_text(f"connected with {SECRET}")
    assert holding(SECRET, tmp_path) == [tmp_path / "log"]
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", SECRET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert SECRET.encode() in processes_of(process)
        process.communicate("\n")


def test_a_profile_and_the_agent_write_no_secret(running: Running, tmp_path: Path, capsys: Capture) -> None:
    out, token = tmp_path / "profile.jsonl", str(running.token)
    grid = ["--rows", "1,2", "--cached", "0,16", "--prompts", "8", "--repeats", "1", "--warm-up", "0"]
    assert main(["profile", running.address, "--out", str(out), "--token-file", token, *grid]) == 0
    (tmp_path / "shown").write_text("".join(capsys.readouterr()))
    assert main(["agent", "--test", running.address, "--token-file", token]) == 0
    (tmp_path / "tested").write_text("".join(capsys.readouterr()))
    assert SECRET.encode() not in processes_of(running.process)
    running.end()
    assert out.stat().st_size
    assert holding(SECRET, tmp_path) == []


def test_a_wrong_secret_is_shown_by_neither_side(running: Running, tmp_path: Path, capsys: Capture) -> None:
    wrong = "wRoNg-0123456789-aBcDeF"
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong/token").write_text(wrong)
    arguments = ["profile", running.address, "--out", str(tmp_path / "out.jsonl")]
    assert main([*arguments, "--token-file", str(tmp_path / "wrong/token")]) == 2
    (tmp_path / "shown").write_text("".join(capsys.readouterr()))
    assert main(arguments) == 2  # none
    (tmp_path / "none").write_text("".join(capsys.readouterr()))
    running.end()
    assert holding(SECRET, tmp_path) == []
    assert holding(wrong, tmp_path) == []


@pytest.mark.slow
def test_a_run_on_boards_writes_no_secret(tmp_path: Path, capsys: Capture) -> None:
    """Report, trace, tables, recordings and pictures of a run whose both units ask for the secret."""
    models = ("--model", "target=models/target", "--model", "draft=models/draft-0.8m")
    running = Running(tmp_path, *models)
    few = ("networks=[]", "workload.count=1", "workload.max_turns=1", "workload.max_new_tokens=8")
    behind = [
        f"units.{unit}.{setting}"
        for unit in ("npu", "gpu")
        for setting in (f"backend={running.address}", f"token_file={running.token}")
    ]
    arguments = [f"--set={setting}" for setting in (*few, *behind)]
    scenario = str(PROJECT / "scenarios/orin_8295_greedy.yaml")
    try:
        assert simulate_main([scenario, "--json", "--out", str(tmp_path / "out"), *arguments]) == 0
    finally:
        running.end()
    (tmp_path / "shown").write_text("".join(capsys.readouterr()))
    assert {"report.json", "trace.json"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert list((tmp_path / "out").glob("*.jsonl"))
    assert holding(SECRET, tmp_path) == []


@pytest.mark.parametrize("option", ["--token", "--toke", "--tok", "--to"])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("command", [(), ("acceptance",), *sorted(parsers())], ids=" ".join)
def test_a_secret_among_the_arguments_is_refused_and_not_repeated(
    command: tuple[str, ...], option: str, joined: bool, capsys: Capture
) -> None:
    """In every command that the parser knows, before and behind what the command needs."""
    given = [f"{option}={SECRET}"] if joined else [option, SECRET]
    needed = line_of(command)[len(command) :] if command in parsers() else []
    for words in ([*command, *given, *needed], [*command, *needed, *given]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        shown = "".join(capsys.readouterr())
        assert "expected --token-file FILE" in shown
        assert SECRET not in shown


def test_a_secret_in_an_address_or_a_scenario_is_refused_and_not_repeated(capsys: Capture) -> None:
    for setting in (f"units.npu.token={SECRET}", f"units.npu.backend=tcp://{SECRET}@192.168.1.20:7295"):
        assert main(["check", str(PROJECT / "scenarios/orin_8295.yaml"), "--set", setting]) == 2
        message = capsys.readouterr().err
        assert "token_file" in message
        assert SECRET not in message


def test_no_object_shows_its_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    given = ["--engine", ENGINE, "--model", f"toy={PROJECT / 'LICENSE'}", "--token-file", str(tmp_path / "token")]
    settings = settings_of(parse(["agent", *given, "--listen", "127.0.0.1:0"]))
    assert settings.token == SECRET.encode()
    service = Service({}, {}, settings.token, 1.0, 1)
    subject = AgentUnderTest("127.0.0.1", 1, settings.token)
    agent = Agent(Address("127.0.0.1", 1), SECRET)
    for found in (settings, service, subject, agent):
        assert SECRET not in repr(found)
        assert SECRET not in str(found)


def test_the_line_carries_a_proof_and_never_the_secret() -> None:
    """A stranger in the agent's place gets an HMAC over a nonce of its choice, from which no long secret follows."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        connection, _ = listener.accept()
        with closing(connection):
            fields = {"protocol": [1], "nonce": "n" * 32, "token": True, "agent": "stranger"}
            connection.sendall(encoded(Frame("welcome", fields)))
            connection.settimeout(5)
            heard.append(connection.recv(2**16))

    thread = threading.Thread(target=listen)
    thread.start()
    with closing(Agent(Address("127.0.0.1", listener.getsockname()[1]), SECRET)) as agent, pytest.raises(AgentFault):
        agent.load("toy")
    thread.join()
    listener.close()
    proof = hmac.new(SECRET.encode(), b"n" * 32, hashlib.sha256).hexdigest()
    assert proof.encode() in heard[0]
    assert SECRET.encode() not in heard[0]
