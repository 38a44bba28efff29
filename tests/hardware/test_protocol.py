"""docs/protocol.md is kept to: its example byte by byte, its limits, and its claims by every agent that there is."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hilsim.hardware.agent import connection as line
from hilsim.hardware.agent import serve
from hilsim.hardware.conformance import checks
from hilsim.hardware.conformance import exchanges as conformance_talk
from hilsim.hardware.conformance.exchanges import AgentUnderTest
from hilsim.hardware.conformance.suite import CheckResult, findings
from hilsim.hardware.wire import frames
from hilsim.places import CODE as PROJECT
from tests.tiny_agent import TinyAgent

pytestmark = pytest.mark.usefixtures("at_home")

PAGE = (PROJECT / "docs" / "protocol.md").read_text(encoding="utf-8")
TUTORIAL = (PROJECT / "docs" / "tutorials" / "engine.md").read_text(encoding="utf-8")
CHAIN = "tests/fake_engines.py:Chain"
TOKEN = b"a secret of more than sixteen letters"
Check = Callable[[AgentUnderTest], str]


def bytes_of_page() -> list[bytes]:
    """The frames that the page spells in hexadecimal, one a block."""
    found: list[bytes] = []
    for offset, digits in re.findall(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) ", PAGE, flags=re.MULTILINE):
        if offset == "0000":
            found.append(b"")
        found[-1] += bytes.fromhex(digits)
    return found


def test_the_example_is_what_the_frames_module_makes() -> None:
    step = frames.Frame(
        "step",
        {"id": 7, "model": "draft", "phase": "draft", "cached": 3, "wanted": 1, "want": "tokens"},
        {"tokens": frames.Tensor("i4", (4,), b"".join(n.to_bytes(4, "little") for n in (1, 17, 300, 2047)))},
    )
    fields = {
        "id": 7, "duration_ns": 2_104_300, "prepared_rows": 0, "prepare_ns": 1900, "energy_mj": None,
        "temperature_c": 41.5, "clock_ns": 81_234_567_890,
    }  # fmt: skip
    done = frames.Frame("done", fields, {"ids": frames.Tensor("i4", (1,), (42).to_bytes(4, "little"))})
    assert bytes_of_page() == [frames.encoded(step), frames.encoded(done)]


def test_the_example_is_read_back() -> None:
    for data in bytes_of_page():
        left = [data]

        def receive(nbytes: int, left: list[bytes] = left) -> bytes:
            piece, left[0] = left[0][:nbytes], left[0][nbytes:]
            return piece

        assert frames.encoded(frames.read_frame(receive)) == data


def test_the_page_has_the_limits_of_the_code() -> None:
    assert f"at most {frames.MOST_HEADER_BYTES:,}" in PAGE
    assert f"at most {frames.MOST_TENSORS}, of at most {frames.MOST_DIMENSIONS} dimensions" in PAGE
    for dtype in frames.ITEM_BYTES:
        assert dtype in PAGE
    assert f"at most {frames.MOST_BODY_BYTES:,}" in PAGE
    assert f"not complete {line.FRAME_S:.0f} s after it began" in PAGE
    assert f"no `hello` after {serve.HELLO_S:.0f} s" in PAGE
    assert f"does not read for {line.SEND_S:.0f} s" in PAGE


def test_the_page_names_every_kind_and_code() -> None:
    code = "".join(
        (PROJECT / "hilsim/hardware/agent" / f"{name}.py").read_text()
        for name in ("serve", "listen", "connection", "injected")
    )
    kinds = set(re.findall(r"Frame\(\s*\"(\w+)\"", code))
    codes = set(re.findall(r"Refused\(\s*\"(\w+)\"", code)) | {"garbage", "too_large", "version", "stopping"}
    assert kinds | {"hello", "load", "step", "reset", "ping", "inject"} == set(
        re.findall(r"^\| \w+ \| `(\w+)`", PAGE, re.MULTILINE)
    )
    assert codes == set(re.findall(r"^\| `(\w+)` \| (?:yes|no)", PAGE, re.MULTILINE))


@contextlib.contextmanager
def agent(*arguments: str, cwd: Path = PROJECT) -> Iterator[int]:
    """An agent in a process of its own, by its port."""
    words = [sys.executable, "-m", "hilsim", "agent", *arguments, "--listen", "127.0.0.1:0"]
    env = {"PYTHONPATH": str(PROJECT), "HOME": os.environ["HOME"]}
    with subprocess.Popen(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    ) as process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            assert told.startswith("listening on 127.0.0.1:"), told
            yield int(told.rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def outcomes(subject: AgentUnderTest) -> dict[str, CheckResult]:
    """All findings by the check's name; those that failed make the message."""
    found = {finding.name: finding for finding in findings(subject)}
    assert not [finding for finding in found.values() if finding.outcome == "failed"]
    return found


def left_out(found: dict[str, CheckResult]) -> set[str]:
    return {name for name, finding in found.items() if finding.outcome == "left out"}


def test_the_shipped_agent_keeps_to_the_page(tmp_path: Path) -> None:
    """With everything that can be left out: a token, and a load that takes several heartbeats."""
    (tmp_path / "token").write_bytes(TOKEN + b"\n")
    options = ["--option", "load_s=0.7", "--heartbeat", "0.2", "--token-file", str(tmp_path / "token")]
    with agent("--model", "toy=README.md", "--engine", CHAIN, *options) as port:
        assert left_out(outcomes(AgentUnderTest("127.0.0.1", port, TOKEN))) == set()


def test_the_shipped_agent_keeps_to_it_with_real_networks() -> None:
    with agent("--model", "models/draft-0.2m", "--model", "other=models/draft-0.8m") as port:
        for model in ("draft-0.2m", "other"):
            found = outcomes(AgentUnderTest("127.0.0.1", port, model=model))
            assert left_out(found) == {"long loads send heartbeats", "a wrong token is denied"}
            assert "vocabulary 2048, context 1024" in found["loading twice changes nothing"].found


def test_a_second_program_keeps_to_it_too() -> None:
    assert left_out(outcomes(AgentUnderTest("127.0.0.1", TinyAgent().port))) == {
        "long loads send heartbeats",
        "a wrong token is denied",
    }


def test_a_second_program_with_a_token() -> None:
    assert left_out(outcomes(AgentUnderTest("127.0.0.1", TinyAgent(token=TOKEN).port, TOKEN))) == {
        "long loads send heartbeats"
    }


# A fault of the tiny agent, and the check that must find it.
FAULTS: dict[str, Check] = {
    "stale_cache": checks.another_continuation_and_back,
    "second_client": checks.a_second_client_is_refused,
    "long_duration": checks.no_step_takes_longer_than_the_wait_for_it,
    "deaf_reset": checks.a_reset_empties_the_cache,
    "nothing_prepared": checks.missing_tokens_are_read_and_counted,
    "second_best": checks.ids_are_the_likeliest,
    "moody": checks.a_step_repeats,
    "microseconds": checks.the_clock_runs_evenly,
    "other_id": checks.unknown_keys_are_ignored,
    "one_nonce": checks.welcome_comes_first,
    "any_word": checks.steps_without_sense_are_refused,
    "dies": checks.garbage_ends_one_connection_only,
    "stays": checks.goodbye_frees_the_agent,
    "any_token": checks.a_wrong_token_is_denied,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_find_what_is_wrong(fault: str) -> None:
    token = TOKEN if fault == "any_token" else None
    (found,) = findings(AgentUnderTest("127.0.0.1", TinyAgent(fault, token).port, token), [FAULTS[fault]])
    assert found.outcome == "failed", found


def mute(listener: socket.socket) -> None:
    """Accepts, and never says a word."""
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(listener.accept())


def chatty(listener: socket.socket) -> None:
    """Some other server."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].sendall(b"SSH-2.0-OpenSSH_9.6p1 Debian-5\r\n")


@pytest.mark.parametrize(
    ("server", "words"),
    [(mute, "nothing within 0 s where welcome was expected. Is it an agent at all?"),
     (chatty, "no frame where welcome was expected (b'SSH-' where a frame begins). Is it an agent at all?")],
)  # fmt: skip
def test_what_cannot_shake_hands_is_asked_no_more(
    monkeypatch: pytest.MonkeyPatch, server: Callable[[socket.socket], None], words: str
) -> None:
    monkeypatch.setattr(conformance_talk, "GREETING_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=server, args=(listener,), daemon=True).start()
        first, rest = findings(AgentUnderTest("127.0.0.1", listener.getsockname()[1]))
    assert (first.name, first.outcome) == ("welcome comes first", "failed")
    assert words in first.found
    assert (rest.name, rest.outcome, rest.checks) == (f"the other {len(checks.CHECKS) - 1}", "left out", 24)


def test_a_token_that_is_missing_or_wrong_is_reported_once() -> None:
    port = TinyAgent(token=TOKEN).port
    first, rest = findings(AgentUnderTest("127.0.0.1", port))
    assert (first.name, first.outcome, rest.checks) == ("welcome comes first", "failed", 24)
    assert first.found == (
        "it asks for a token, and none is given. Give the --token-file that the agent was started with."
    )
    welcome, ready, rest = findings(AgentUnderTest("127.0.0.1", port, b"another"))
    assert (welcome.outcome, ready.name, ready.outcome, rest.checks) == (
        "passed", "ready describes the device", "failed", 23,
    )  # fmt: skip
    assert ready.found == (
        "error denied () where ready was expected. Give the --token-file that the agent was started with."
    )


def test_an_agent_with_another_client_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance_talk, "BUSY_S", 0.1)
    port = TinyAgent().port
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.recv(1)
        first, rest = findings(AgentUnderTest("127.0.0.1", port))
    assert "refused, busy (another is here) where welcome was expected. Try again when" in first.found
    assert rest.outcome == "left out"


def test_a_cache_that_is_not_rewound_shows_in_other_checks_as_well() -> None:
    found = findings(AgentUnderTest("127.0.0.1", TinyAgent("stale_cache").port))
    failed = {finding.name for finding in found if finding.outcome == "failed"}
    assert "another continuation and back" in failed
    assert "welcome comes first" not in failed


@pytest.mark.parametrize("block", [0, 1])
def test_the_tutorial_says_what_is_printed(tmp_path: Path, block: int) -> None:
    """Its programs are saved under the names that it gives them, its commands run as they stand but for the port."""
    names = re.findall(r"this\s+as `(\w+\.py)`|it as `(\w+\.py)`", TUTORIAL)
    programs = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    for name, program in zip(names, programs, strict=True):
        (tmp_path / (name[0] or name[1])).write_text(program, encoding="utf-8")
    (tmp_path / "LICENSE").write_bytes((PROJECT / "LICENSE").read_bytes())
    start, test = re.findall(r"```sh\n(.*?)```", TUTORIAL, flags=re.DOTALL)[block].splitlines()
    claimed = re.findall(r"`(\d+ passed, \d+ failed, \d+ left out)`", TUTORIAL)[block]
    words = [sys.executable if word == "python" else word for word in shlex.split(start.replace("=python ", "=PY "))]
    words = [word.replace("=PY ", f"={sys.executable} ") for word in words]
    with agent(*words[4:], cwd=tmp_path) as port:
        command = [sys.executable, *shlex.split(test)[1:-1], f"tcp://127.0.0.1:{port}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert claimed in done.stdout


def test_a_test_that_fails_has_status_1_and_one_that_finds_nobody_2() -> None:
    def tested(port: int) -> int:
        words = [sys.executable, "-m", "hilsim", "agent", "--test", f"tcp://127.0.0.1:{port}"]
        return subprocess.run(words, cwd=PROJECT, capture_output=True, check=False, timeout=60).returncode

    tiny = TinyAgent("second_best")
    assert tested(tiny.port) == 1
    assert tested(TinyAgent(token=TOKEN).port) == 1
    tiny.listener.close()
    assert tested(1) == 2
