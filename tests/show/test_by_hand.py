"""A scenario tried by hand: answers are those of `simulate --set`, refusals are answers, and who may connect."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from bokeh.document import Document
from bokeh.models.widgets.markups import Div
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

import hilsim
from hilsim.commands.main import main
from hilsim.describe.load import load_setup
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from hilsim.show import by_hand as written
from hilsim.show.page import server
from hilsim.show.page.by_hand import HandPage
from hilsim.study.by_hand import ByHand

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
    page.controls["link"].value = str(place_of(tried, "link", "1000base-t1"))
    assert page.line.text.endswith("--set link=1000base-t1")
    assert "link: 1000base-t1" in page.yaml.text
    assert page.shown.text != before
    assert "By screening" in page.shown.text
    assert "of the screening are equal" in drawn(page)
    page.controls["drafted"].value = "2"
    assert "policy.draft_tokens" in page.line.text
    page.controls["policy"].value = str(place_of(tried, "policy", "async"))
    assert page.controls["drafted"].disabled  # async has no such number, so that it is the policy's own again
    assert page.controls["drafted"].value == "0"
    assert "policy.draft_tokens" not in page.line.text
    assert "By the event simulation" in page.shown.text
    page.controls["policy"].value = str(place_of(tried, "policy", "prompt_lookup"))
    assert "This cannot run." in page.shown.text
    assert "hilsim check scenarios/paper_table.yaml" in drawn(page)


@pytest.mark.parametrize("value", ["../../etc/passwd", "link=/etc/passwd", "99", "-1", "", None])
def test_what_is_no_choice_changes_nothing(tried: ByHand, value: str | None) -> None:
    page = HandPage(tried, Document())
    before = page.line.text, page.shown.text
    page.controls["link"].value = value
    assert (page.line.text, page.shown.text) == before
    assert "none of the choices" in page.status.text


def test_what_screening_and_events_disagree_on_is_said(tried: ByHand) -> None:
    from hilsim.show.page.by_hand import confirmation

    assert tried.own.ours is not None
    same = dict(tried.own.ours)
    assert "equal" in confirmation(tried.own, same).sentences[0]
    same["energy_j"] = (same["energy_j"] or 0.0) + 1e-9
    assert "DIFFERS in energy_j" in confirmation(tried.own, same).sentences[0]


def answered(tried: ByHand, questions: Callable[[int], Awaitable[T]]) -> T:
    """Ask a server on a free port."""

    async def ask() -> T:
        running, address = server.started(tried, "127.0.0.1", 0, ["127.0.0.1", "localhost"])
        try:
            return await questions(int(address.rsplit(":")[-1].strip("/")))
        finally:
            running.stop(wait=False)

    return asyncio.run(ask())


async def status_of(port: int, path: str = "/", host: str = "") -> tuple[int, str]:
    """The status and text of a page, asked for under a name."""
    headers = {"Host": host} if host else {}
    request = HTTPRequest(f"http://127.0.0.1:{port}{path}", headers=headers)
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
        with pytest.raises(InputError, match="another port"):
            server.started(tried, "127.0.0.1", port, ["127.0.0.1"])
    for strange in ("a\0b", "x" * 300, "192.0.2.1", "tcp://lab"):
        with pytest.raises(InputError, match="an address to listen on"):
            server.started(tried, strange, 0, ["lab"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "--expose NAME"),
        (["--host", "192.0.2.1"], "--expose NAME"),
        (["--expose", "lab"], "Add --host"),
        (["--host", "0.0.0.0", "--expose", "*"], "names or addresses"),
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


def test_boards_are_not_tried_by_hand() -> None:
    with pytest.raises(InputError):
        ByHand(SCENARIO, ["units={paper-target/any: {backend: 'tcp://127.0.0.1:9'}}"])
    assert load_setup(SCENARIO, []).backends == {}
