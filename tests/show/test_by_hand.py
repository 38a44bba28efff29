"""A scenario tried by hand: answers are those of `simulate --set`, refusals are answers, and who may connect."""

from __future__ import annotations

import asyncio
import logging
import shlex
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from unittest.mock import Mock

import pytest
from bokeh.document import Document
from bokeh.models.widgets.markups import Div
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

import hilsim
from hilsim.commands.main import main
from hilsim.commands.serve import names
from hilsim.describe.load import load_setup
from hilsim.errors import InputError, PlacementError
from hilsim.places import CODE as PROJECT
from hilsim.runs.evaluate import Refused
from hilsim.show import by_hand as written
from hilsim.show.page import server
from hilsim.show.page.by_hand import HandPage
from hilsim.study.by_hand import ByHand, HandAnswer, controls_of

SCENARIO = PROJECT / "scenarios" / "paper_table.yaml"
FEW = ["workload.requests=6", "workload.output_tokens=40"]
T = TypeVar("T")


@pytest.fixture(scope="module")
def tried() -> ByHand:
    return ByHand(SCENARIO, FEW)


def place_of(tried: ByHand, key: str, name: str) -> int:
    (control,) = (control for control in tried.controls if control.key == key)
    return next(place for place, choice in enumerate(control.choices) if choice.name == name)


@pytest.mark.parametrize(
    ("choices", "screened"),
    [
        ({}, True),
        ({"drafted": "2"}, True),
        ({"link": "1000base-t1", "acceptance": "0.5 stated"}, True),
        ({"drafted": "7", "acceptance": "0.9 stated"}, True),
        ({"policy": "async", "link": "1000base-t1"}, False),
        ({"policy": "target_only"}, True),
        ({"policy": "tree"}, False),
    ],
    ids=str,
)
def test_an_answer_is_what_simulate_gives_with_its_command(
    tried: ByHand, choices: dict[str, str], screened: bool
) -> None:
    """To the last bit, whichever way it was timed; and the answer of another choice is another one."""
    answer = tried.answer({key: place_of(tried, key, name) for key, name in choices.items()})
    assert answer.ours is not None, answer.refused
    assert (answer.why_events == "") is screened
    words = shlex.split(written.set_line(tried, answer))
    run = hilsim.simulate(hilsim.load(SCENARIO, words[4::2]))
    assert words[3::2] == ["--set"] * len(words[4::2])
    block = run.report["speculative"] or run.report["baseline"]
    assert answer.ours["speedup"] == run.speedup
    assert answer.ours["output_token_throughput"] == block["output_token_throughput"]
    assert answer.ours["request_latency_ms.p99"] == block["request_latency_ms"]["p99"]
    assert answer.ours["energy_j"] == block["energy_j"]
    assert answer.alone is not None
    assert answer.alone["request_latency_ms.mean"] == run.report["baseline"]["request_latency_ms"]["mean"]
    other = tried.answer({**dict.fromkeys(("drafted",), 1), "acceptance": 1})
    assert other.ours is not None
    assert other.ours["request_latency_ms.p99"] != block["request_latency_ms"]["p99"]


def test_every_choice_is_an_answer(tried: ByHand) -> None:
    """What cannot run has a reason with what is expected, and no choice of one kind ends the program."""
    for control in tried.controls:
        for place, choice in enumerate(control.choices):
            answer = tried.answer({control.key: place})
            assert (answer.ours is None) is (answer.refused is not None), choice
            if answer.refused is not None:
                assert all("expected" in reason for reason in written.reasons(answer)), choice
    refused = tried.answer({"policy": place_of(tried, "policy", "prompt_lookup")})
    assert refused.ours is None
    assert "which have no text" in written.reasons(refused)[0]
    assert not written.is_good(refused)


@pytest.mark.slow
def test_what_does_not_fit_has_remedies_that_fit() -> None:
    tried = ByHand(PROJECT / "scenarios" / "eagle_8775.yaml", [])
    answer = tried.answer({"precision": place_of(tried, "precision", "fp16")})
    assert answer.refused is not None
    assert "too large for" in written.reasons(answer)[0]
    remedies = tried.remedies(answer)
    assert remedies
    for remedy in remedies:
        hilsim.check(hilsim.load(tried.file, [*answer.overrides, *remedy.changes])).require()
    assert tried.remedies(tried.own) == ()


def test_choices_are_places_in_lists(tried: ByHand) -> None:
    for wrong in ({"link": 99}, {"link": -1}):
        with pytest.raises(IndexError):
            tried.answer(wrong)
    with pytest.raises(KeyError):
        tried.answer({"target.stand_in": 0})
    for control in tried.controls:
        assert control.choices[0].overrides == ()
        assert len({choice.name for choice in control.choices}) == len(control.choices)


def choose(page: HandPage, key: str, value: str | None) -> None:
    """Change a control, and wait for the answer."""
    page.controls[key].value = value
    if page.pending is not None:
        page.answer_now()


def drawn(page: HandPage) -> str:
    """The text of the figures, once all are drawn."""
    page.draw()
    while page.waiting is not None:
        page.go_on()
    return "".join(part.text for part in page.figures.children if isinstance(part, Div))


def test_a_page_answers_its_controls(tried: ByHand) -> None:
    page = HandPage(tried, Document())
    assert page.line.text == f"hilsim simulate scenarios/paper_table.yaml {' '.join(f'--set {one}' for one in FEW)}"
    before = page.shown.text
    choose(page, "link", str(place_of(tried, "link", "1000base-t1")))
    assert page.line.text.endswith("--set link=1000base-t1")
    assert "link: 1000base-t1" in page.yaml.text
    assert page.shown.text != before
    assert "By screening" in page.shown.text
    assert "of the screening are equal" in drawn(page)
    choose(page, "drafted", "2")
    assert "policy.draft_tokens" in page.line.text
    choose(page, "policy", str(place_of(tried, "policy", "async")))
    assert page.controls["drafted"].disabled  # async has no such number, so that it is the policy's own again
    assert page.controls["drafted"].value == "0"
    assert "policy.draft_tokens" not in page.line.text
    assert "By the event simulation" in page.shown.text
    tried_by_events = ByHand(SCENARIO, [*FEW, "policy=async"])
    assert "each change is run event by event" in HandPage(tried_by_events, Document()).notes.text
    choose(page, "policy", str(place_of(tried, "policy", "prompt_lookup")))
    assert "This cannot run." in page.shown.text
    assert "hilsim check scenarios/paper_table.yaml" in drawn(page)


@pytest.mark.parametrize("value", ["../../etc/passwd", "link=/etc/passwd", "99", "-1", "", None])
def test_what_is_no_choice_changes_nothing(tried: ByHand, value: str | None) -> None:
    page = HandPage(tried, Document())
    before = page.line.text, page.shown.text
    choose(page, "link", value)
    assert (page.line.text, page.shown.text) == before
    assert "none of the choices" in page.status.text


def test_only_the_newest_of_several_changes_is_answered_and_the_status_says_for_which(
    tried: ByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the browser holds against its controls: an answer to what they were shows as being computed."""
    page = HandPage(tried, Document())
    asked: list[dict[str, int]] = []
    answer = tried.answer
    monkeypatch.setattr(tried, "answer", lambda places: asked.append(dict(places)) or answer(places))
    assert page.status.tags == ["0"] * len(page.controls)
    assert "event by event" not in page.notes.text
    for value in ("1", "2", "3"):
        page.controls["link"].value = value
    assert asked == []
    assert page.status.tags == ["0"] * len(page.controls), "until the answer is there"
    page.answer_now()
    assert [places["link"] for places in asked] == [3]
    assert page.status.tags == [select.value for select in page.controls.values()]
    assert page.pending is None
    assert page.answers == 2


def test_the_controls_of_a_scenario_that_cannot_run_need_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = load_setup(PROJECT / "scenarios" / "orin_8295_greedy.yaml", [])
    monkeypatch.setattr("hilsim.study.by_hand.run_of", Mock(side_effect=PlacementError("too large")))
    refused = HandAnswer((), 0.0, refused=Refused(PlacementError("too large"), setup.file))
    last = [*controls_of(setup, refused)][-1]
    assert last.key == "acceptance"
    assert not [choice.name for choice in last.choices if "stated" in choice.name]
    assert "it cannot run" in last.note
    with pytest.raises(PlacementError):
        [*controls_of(setup, HandAnswer((), 0.0))]  # which has numbers, so that its lengths are asked for


@pytest.mark.slow
def test_a_scenario_that_does_not_fit_has_a_page_with_what_would_help() -> None:
    tried = ByHand(PROJECT / "scenarios" / "orin_8295_greedy.yaml", ["target.precision=w8a8"])
    assert tried.own.refused is not None
    page = HandPage(tried, Document())
    assert "too large for sa8295p" in page.shown.text
    assert str(PROJECT) not in page.shown.text
    changes = tried.remedies(tried.own)
    assert "target.precision=w4" in [change for one in changes for change in one.changes]


def test_refusals_name_files_as_they_are_typed(tried: ByHand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = tried.answer({"policy": place_of(tried, "policy", "prompt_lookup")})
    assert any(reason.startswith("scenarios/paper_table.yaml: ") for reason in written.reasons(answer))
    monkeypatch.chdir(tmp_path)
    assert str(PROJECT) not in "".join([*written.reasons(answer), written.set_line(tried, answer)])
    assert written.set_line(tried, answer).startswith("hilsim simulate paper_table --set ")
    other = tmp_path / "table.yaml"
    other.write_text("name: x\n")
    assert written.as_typed(f"{other}: policy: none; see {tmp_path}/x.yaml", other) == (
        "table.yaml: policy: none; see x.yaml"
    )


def test_what_screening_and_events_disagree_on_is_said(tried: ByHand) -> None:
    from hilsim.show.page.by_hand import confirmation

    assert tried.own.ours is not None
    same = dict(tried.own.ours)
    assert "equal" in confirmation(tried.own, same).sentences[0]
    same["energy_j"] = (same["energy_j"] or 0.0) + 1e-9
    assert "DIFFERS in energy_j" in confirmation(tried.own, same).sentences[0]


def answered(
    tried: ByHand,
    questions: Callable[[int], Awaitable[T]],
    host: str = "127.0.0.1",
    names: Sequence[str] = ("127.0.0.1", "localhost"),
) -> T:
    """Ask a server on a free port."""

    async def ask() -> T:
        running, address = server.started(tried, host, 0, names)
        assert address.startswith(f"http://{names[0]}:")
        try:
            return await questions(int(address.rsplit(":")[-1].strip("/")))
        finally:
            running.stop(wait=False)

    return asyncio.run(ask())


async def status_of(port: int, path: str = "/", host: str = "", at: str = "127.0.0.1") -> tuple[int, str]:
    """The status and text of a page, asked for under a name."""
    headers = {"Host": host} if host else {}
    request = HTTPRequest(f"http://{at}:{port}{path}", headers=headers)
    found = await AsyncHTTPClient(force_instance=True).fetch(request, raise_error=False)
    return found.code, found.body.decode()


def test_a_server_answers_to_its_own_names_alone(tried: ByHand) -> None:
    """A page elsewhere whose name is bound to this address (DNS rebinding), or that connects from another origin."""

    async def ask(port: int) -> None:
        for own in ("", f"localhost:{port}", f"127.0.0.1:{port}"):
            code, text = await status_of(port, host=own)
            assert code == 200
            assert "https://" not in text  # nothing from the network
        for other in (f"evil.example:{port}", "evil.example", "127.0.0.1.evil.example", f"xlocalhost:{port}"):
            assert (await status_of(port, host=other))[0] == 404
        assert (await status_of(port, "/../../etc/passwd"))[0] == 404
        assert (await status_of(port, "/static/../../../../etc/passwd"))[0] in (403, 404)
        request = HTTPRequest(f"ws://127.0.0.1:{port}/ws", headers={"Origin": f"http://evil.example:{port}"})
        with pytest.raises(HTTPClientError, match="403"):
            await websocket_connect(request)

    answered(tried, ask)


@pytest.mark.parametrize(("host", "called"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]"), ("0:0::1", "[::1]")])
def test_it_is_reached_at_the_address_that_it_prints(
    tried: ByHand, host: str, called: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("hilsim.study.by_hand.ByHand", lambda *_: tried)

    def serve(tried: ByHand, host: str, port: int, names: list[str], **_: object) -> None:
        given.append((host, names))
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", serve)
    assert main(["serve", str(SCENARIO), "--host", host]) == 130
    ((_, names),) = given
    assert names == [called, "127.0.0.1", "localhost"]

    async def ask(port: int) -> None:
        assert (await status_of(port, at=called))[0] == 200
        assert (await status_of(port, host=f"evil.example:{port}", at=called))[0] == 404
        request = HTTPRequest(f"ws://{called}:{port}/ws", headers={"Origin": f"http://{called}:{port}"})
        (await websocket_connect(request)).close()

    answered(tried, ask, host, names)


def test_what_no_browser_sends_is_a_line_in_the_log(tried: ByHand, caplog: pytest.LogCaptureFixture) -> None:
    """And what our own code raises keeps its traceback."""

    async def ask(port: int) -> None:
        for words in (["bokeh", "xx"], ["bokeh", "e30"], ["bokeh"], ["soap", "xx"]):
            connection = await websocket_connect(f"ws://127.0.0.1:{port}/ws", subprotocols=words)
            assert await connection.read_message() is None, "closed"

    answered(tried, ask)
    refused = [record for record in caplog.records if record.name == "tornado.application"]
    assert len(refused) == 4
    for record in refused:
        assert record.exc_info is None
        assert "\n" not in record.getMessage()
        assert record.getMessage().startswith("Uncaught exception GET /ws")
    try:
        tried.answer({"link": 99})
    except IndexError:
        ours = logging.LogRecord("tornado.application", logging.ERROR, "", 1, "Uncaught", (), sys.exc_info())
    assert server.in_one_line(ours)
    assert ours.exc_info is not None


def test_pages_are_bounded(tried: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_PAGES", 2)
    pages = server.Pages(tried)
    shells = [Document() for _ in range(3)]
    for shell in shells:
        pages.opened(shell)
    assert [len(shell.roots) for shell in shells] == [3, 3, 1]
    for callback in shells[0].session_destroyed_callbacks:
        callback(None)
    pages.opened(again := Document())
    assert len(again.roots) == 3


def test_a_port_that_is_taken_is_refused_in_one_message(
    tried: ByHand,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=r"--port: .*another port"):
            server.started(tried, "127.0.0.1", port, ["127.0.0.1"])
    for strange in ("a\0b", "x" * 300, "192.0.2.1", "tcp://lab", "nohost.invalid"):
        with pytest.raises(InputError, match=r"--host: .*an address of this machine to listen on"):
            server.started(tried, strange, 0, ["lab"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "--expose NAME"),
        (["--host", "192.0.2.1"], "--expose NAME"),
        (["--expose", "lab"], "Add --host"),
        (["--host", "0.0.0.0", "--expose", "*"], "names or addresses"),
        (["--host", "0.0.0.0", "--expose", "lab,[evil"], "names or addresses"),
        (["--port", "70000"], "0 to 65535"),
        (["--set", "policy=none"], "policy"),
    ],
    ids=str,
)
def test_what_is_not_this_machines_own_has_to_be_asked_for(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(["serve", str(SCENARIO), *words])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_names_of_this_machine_may_be_addresses_of_either_kind() -> None:
    assert names("Lab-1, 10.0.0.5,FD00:0::5,lab-1") == ["lab-1", "10.0.0.5", "[fd00::5]"]


def test_who_can_use_it_is_said_only_once_it_listens(
    tried: ByHand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hilsim.study.by_hand.ByHand", lambda *_: tried)
    assert main(["serve", str(SCENARIO), "--host", "192.0.2.1", "--expose", "lab", "--port", "0"]) == 2
    printed = capsys.readouterr().err
    assert "--host" in printed
    assert "anyone" not in printed


def test_boards_are_not_tried_by_hand() -> None:
    with pytest.raises(InputError):
        ByHand(SCENARIO, ["units={paper-target/any: {backend: 'tcp://127.0.0.1:9'}}"])
    assert load_setup(SCENARIO, []).backends == {}
