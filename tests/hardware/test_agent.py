"""The agent at work: the account of its cache, its stopwatch, its door, and what it says through it."""

from __future__ import annotations

import gc
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.hardware.agent import connection as line_module
from hilsim.hardware.agent import listen, serve
from hilsim.hardware.agent.engine import EngineFacts, Output
from hilsim.hardware.agent.output import EngineFault, named_tensor
from hilsim.hardware.agent.runner import RequestedStep, Runner, shared_prefix
from hilsim.hardware.agent.sensors import Sensors
from hilsim.hardware.conformance.exchanges import AgentUnderTest, whole_numbers
from hilsim.hardware.wire.frames import Frame, encoded
from tests.fake_engines import CONTEXT, VOCABULARY, Chain, Failing

NOWHERE = Path("/nowhere")


@pytest.fixture(autouse=True, scope="module")
def _no_notes() -> Iterator[None]:
    """Agents in threads would write about their clients into the output of the next test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listen, "note", lambda text: None)
        yield


def bare() -> Sensors:
    """Sensors of a board that has none."""
    return Sensors(NOWHERE)


def ask(
    tokens: Sequence[int], cached: int, wanted: int = 1, phase: str = "verify", want: str = "tokens"
) -> RequestedStep:
    return RequestedStep(phase, array("i", tokens), cached, wanted, want)


def runner_of(engine: Chain) -> Runner:
    runner = Runner("toy", lambda: engine)
    runner.load()
    return runner


def test_a_prompt_is_prefilled_and_what_follows_is_stepped() -> None:
    engine = Chain()
    runner = runner_of(engine)
    runner.step(ask([1, 2, 3], 0, phase="prefill"), bare())
    runner.step(ask([1, 2, 3, 4], 3), bare())
    runner.step(ask([1, 2, 3, 4, 5, 6], 4, wanted=2), bare())
    assert engine.calls == [("prefill", [1, 2, 3]), ("step", [4], 1), ("step", [5, 6], 2)]


def test_what_differs_is_rewound_and_what_is_missing_is_read_before_the_clock_starts() -> None:
    engine = Chain()
    runner = runner_of(engine)
    runner.step(ask([1, 2, 3, 4, 5], 0, phase="prefill"), bare())
    engine.calls.clear()
    done = runner.step(ask([1, 2, 9, 8, 7, 6], 5), bare())
    assert engine.calls == [("rewind", 2), ("step", [9, 8, 7], 1), ("step", [6], 1)]
    assert done.prepared_rows == 3
    engine.calls.clear()
    done = runner.step(ask([5, 6, 7], 2), bare())
    assert engine.calls == [("rewind", 0), ("prefill", [5, 6]), ("step", [7], 1)]
    assert done.prepared_rows == 2


def test_cached_tokens_beyond_those_that_the_step_starts_from_are_computed_again() -> None:
    engine = Chain()
    runner = runner_of(engine)
    runner.step(ask([1, 2, 3, 4], 0, phase="prefill"), bare())
    engine.calls.clear()
    assert runner.step(ask([1, 2, 3, 4], 2, wanted=2), bare()).prepared_rows == 0
    assert engine.calls == [("rewind", 2), ("step", [3, 4], 2)]


def test_several_rows_of_a_prompt_are_stepped_as_a_prefill_gives_only_the_last() -> None:
    engine = Chain()
    runner_of(engine).step(ask([1, 2, 3], 0, wanted=2, phase="prefill"), bare())
    assert engine.calls == [("step", [1, 2, 3], 2)]


def test_only_the_step_itself_is_timed() -> None:
    runner = runner_of(Chain(step_s="0.03"))
    start_ns = time.perf_counter_ns()
    done = runner.step(ask([1, 2, 3], 2), bare())
    took_ns = time.perf_counter_ns() - start_ns
    assert done.duration_ns >= 30_000_000
    assert done.prepare_ns >= 30_000_000
    assert done.duration_ns + done.prepare_ns <= took_ns


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.data()), min_size=1, max_size=8))
def test_any_order_of_steps_gives_what_fresh_engines_give(steps: list[tuple[list[int], Any]]) -> None:
    """Three words only, so that prefixes are shared all the time; now and then the engine fails."""
    runner = runner_of(Failing())
    for tokens, data in steps:
        cached = data.draw(st.integers(0, len(tokens) - 1))
        wanted = data.draw(st.integers(1, len(tokens) - cached))
        phase = data.draw(st.sampled_from(["prefill", "verify"]))
        if data.draw(st.booleans()) and len(tokens) > 1:
            with pytest.raises(EngineFault):
                runner.step(ask([*tokens[:-1], 40], cached, wanted), bare())
        fresh = Chain().run(tokens, wanted).logits
        done = runner.step(ask(tokens, cached, wanted, phase, "logits"), bare())
        assert bytes(done.tensors["logits"].data) == fresh.tobytes()


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20), st.integers(0, 20))
def test_shared_prefixes(head: list[int], tail: list[int], at: int) -> None:
    ours, theirs = array("i", head + tail), array("i", head + tail[at:])
    pairs = enumerate(zip(ours, theirs, strict=False))
    assert shared_prefix(ours, theirs) == next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def test_the_collector_of_cycles_is_held_back_while_the_clock_runs() -> None:
    seen = []

    class Watching(Chain):
        def run(self, tokens: Sequence[int], wanted: int) -> Output:
            seen.append(gc.isenabled())
            return super().run(tokens, wanted)

    runner_of(Watching()).step(ask([1, 2], 1), bare())
    assert seen == [True, False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (40, "RuntimeError: the driver said 17"),
        (41, "SystemExit: 3"),
        (42, "no logits"),
        (43, r"logits of shape \(1,\)"),
        (44, "is the unit right"),
        (45, "ids outside a vocabulary"),
        (46, "not finite"),
        (47, "a NoneType from the engine"),
    ],
)
def test_whatever_an_engine_does_is_a_fault_and_its_cache_is_emptied(token: int, words: str) -> None:
    engine = Failing()
    runner = runner_of(engine)
    runner.step(ask([1, 2], 0, phase="prefill"), bare())
    with pytest.raises(EngineFault, match=words):
        runner.step(ask([1, 2, token], 2), bare())
    engine.calls.clear()
    assert runner.step(ask([1, 2, 3], 2), bare()).prepared_rows == 2
    assert engine.calls == [("rewind", 0), ("prefill", [1, 2]), ("step", [3], 1)]


FACTS = EngineFacts(vocabulary=3, context=8)
WRONG = [
    (Output(ids=[1, 2]), "2 ids for 1"),
    (Output(ids=[1.5]), "no whole numbers"),  # type: ignore[list-item]
    (Output(logits=[1.0, 2.0, 3.0]), "no buffer but a list"),
    (Output(logits=np.zeros((1, 3))), "format 'd'"),
    (Output(logits=np.zeros((3, 1), np.float32)), "shape"),
    (Output(logits=np.zeros((1, 6), np.float32)[:, ::2]), "gaps"),
    (Output(logits=np.array([[0, np.inf, 1]], np.float32)), "finite"),
]


@pytest.mark.parametrize(("output", "words"), WRONG)
def test_outputs_are_checked(output: Output, words: str) -> None:
    with pytest.raises(EngineFault, match=words):
        named_tensor(output, 1, "tokens", FACTS)


@pytest.mark.parametrize("without_numpy", [False, True])
def test_the_first_of_equals_is_the_likeliest(monkeypatch: pytest.MonkeyPatch, without_numpy: bool) -> None:
    if without_numpy:
        monkeypatch.delitem(sys.modules, "numpy")
    rows = array("f", [0, 2, 2, -1, -3, -1])
    ids = named_tensor(Output(logits=rows), 2, "tokens", FACTS)["ids"]
    assert array("i", bytes(ids.data)).tolist() == [1, 0]
    with pytest.raises(EngineFault, match="finite"):
        named_tensor(Output(logits=array("f", [0, 1, float("-inf")])), 1, "tokens", FACTS)


@pytest.mark.parametrize(
    "facts",
    [EngineFacts(0, 1), EngineFacts(1, 0), EngineFacts(1, 1, (8, 1)), EngineFacts(1, 1, ()),
     EngineFacts(1, 1, digest=b"x"), EngineFacts("9", 1), None],  # type: ignore[arg-type]
)  # fmt: skip
def test_facts_are_checked_and_a_failed_load_is_tried_again_with_a_new_engine(facts: EngineFacts | None) -> None:
    class Odd(Chain):
        def load(self) -> EngineFacts:
            return facts  # type: ignore[return-value]

    made = [Odd(), Chain()]
    runner = Runner("toy", lambda: made.pop(0))
    with pytest.raises(EngineFault):
        runner.load()
    assert runner.load().vocabulary == VOCABULARY


@contextmanager
def served(engine: Chain, **changes: Any) -> Iterator[AgentUnderTest]:
    """An agent in a thread of this process."""
    settings = {"token": None, "heartbeat_s": 0.05, "most_body_bytes": 2**16, "sensors": bare()} | changes
    service = serve.Service(runners={"toy": Runner("toy", lambda: engine)}, device={"name": "test"}, **settings)
    listener = listen.listening("127.0.0.1", 0)
    threading.Thread(target=listen.serve, args=(listener, partial(serve.served, service)), daemon=True).start()
    try:
        yield AgentUnderTest("127.0.0.1", listener.getsockname()[1], settings["token"])
    finally:
        listener.close()


def test_heartbeats_come_while_a_step_takes_long_and_never_after_it() -> None:
    with served(Chain(step_s="0.3")) as subject, subject.loaded() as talk:
        before = talk.alive
        talk.step([1, 2, 3], 0)
        assert 4 <= talk.alive - before <= 13
        time.sleep(0.2)
        talk.expect_life()
        assert talk.alive - before <= 13


def test_engine_faults_do_not_end_the_conversation(capfd: pytest.CaptureFixture[str]) -> None:
    with served(Failing()) as subject, subject.loaded() as talk:
        fields = {"model": "toy", "phase": "decode", "cached": 0, "wanted": 1, "want": "tokens"}
        answer = talk.ask("step", {"tokens": whole_numbers([1, 40])}, **fields)
        talk.expect_error(answer, "engine", fatal=False)
        assert answer.fields["message"] == "RuntimeError: the driver said 17"
        talk.step([1, 2], 0)
        assert talk.ask("stats").fields["steps"] == 1
    assert "in run" in capfd.readouterr().err  # the traceback, for the engine's author


def heard(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true soon."""
    by = time.monotonic() + 5
    while not condition() and time.monotonic() < by:
        time.sleep(0.01)
    return condition()


def test_the_log_says_why_a_client_went(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(listen, "note", notes.append)
    monkeypatch.setattr(serve, "HELLO_S", 0.3)
    token = b"a secret of more than sixteen letters"

    def why(talking: Callable[[AgentUnderTest], None]) -> str:
        notes.clear()
        talking(subject)
        assert heard(lambda: len(notes) == 2), notes
        return notes[1].partition(" gone")[2]

    def sent(data: bytes | Frame) -> Callable[[AgentUnderTest], None]:
        def talking(subject: AgentUnderTest) -> None:
            with subject.admitted() as talk:
                talk.send(data)
                talk.read()

        return talking

    def quiet(subject: AgentUnderTest) -> None:
        with subject.admitted() as talk:
            talk.expect_end()

    def rude(subject: AgentUnderTest) -> None:
        with subject.greeted() as talk:
            talk.connection.close()

    def brief(subject: AgentUnderTest) -> None:
        with subject.admitted():
            pass

    def half(subject: AgentUnderTest) -> None:
        with subject.greeted() as talk:
            talk.send(b"HILS")
            talk.connection.close()

    def polite(subject: AgentUnderTest) -> None:
        with subject.greeted():
            pass

    with served(Chain(), token=token) as subject:
        hello = {"id": 1, "protocol": 1, "proof": "0" * 64}
        large = encoded(Frame("hello", hello, {"tokens": whole_numbers([1])}))
        assert why(sent(Frame("hello", hello))) == ": denied: the proof is not of this agent's token"
        assert why(sent(b"GET / HTTP/1.1\r\n\r\n\r\n\r\n")) == ": garbage: b'GET ' where a frame begins"
        assert why(sent(encoded(Frame("hello", hello), 7))) == ": version: protocol version 7"
        assert why(sent(large)) == ": too_large: a body of 4 bytes, of which 0 are allowed"
        assert why(quiet) == ": no hello within 0 s"
        assert why(rude) == ": hung up without a bye"
        assert why(brief) == ": hung up without a hello"
        assert why(half) == ": hung up in the middle of a frame"
        assert why(polite) == ""


@pytest.mark.parametrize(
    ("token", "line"),
    [(42, "no logits"), (43, "logits of shape (1,); expected (1, 48)"), (46, "logits that are not finite"),
     (47, "a NoneType from the engine; expected an Output")],
)  # fmt: skip
def test_what_an_engine_gives_and_must_not_is_one_line_of_the_log(
    capsys: pytest.CaptureFixture[str], token: int, line: str
) -> None:
    runner = runner_of(Failing())
    with pytest.raises(EngineFault):
        runner.step(ask([1, token], 0), bare())
    assert capsys.readouterr().err == f"engine of toy: {line}\n"


def test_an_exception_of_several_lines_is_reported_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    class Lost(Chain):
        def run(self, tokens: Sequence[int], wanted: int) -> Output:
            raise RuntimeError("NPU context lost\nsecond line.\n")

    with pytest.raises(EngineFault, match=r"^RuntimeError: NPU context lost; second line\.$"):
        runner_of(Lost()).step(ask([1], 0), bare())
    assert "Traceback" in capsys.readouterr().err


def test_a_silent_client_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "HELLO_S", 0.2)
    with served(Chain()) as subject:
        with subject.admitted() as talk:
            talk.expect_end()
        with subject.admitted() as talk:
            talk.send(b"HILS")
            talk.expect_error(talk.read(), "garbage", fatal=True)
        with subject.greeted() as talk:
            time.sleep(0.3)
            talk.expect_life()


def test_a_frame_that_drips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "FRAME_S", 0.3)
    with served(Chain()) as subject, subject.greeted() as talk:
        for byte in b"HILS\0\1":
            talk.send(bytes([byte]))
            time.sleep(0.01)
        start_s = time.monotonic()
        talk.expect_error(talk.read(), "garbage", fatal=True)
        assert time.monotonic() - start_s < 1


def test_before_the_hello_there_is_no_room_for_a_body() -> None:
    with served(Chain()) as subject, subject.admitted() as talk:
        talk.send(Frame("hello", {"id": 1}, {"tokens": whole_numbers([1])}))
        talk.expect_error(talk.read(), "too_large", fatal=True)


def test_who_hangs_up_during_a_step_makes_room_when_it_is_done() -> None:
    with served(Chain(step_s="0.2")) as subject:
        with subject.loaded() as talk:
            fields = {"model": "toy", "phase": "decode", "cached": 0, "wanted": 1, "want": "tokens"}
            talk.send(Frame("step", {"id": 99, **fields}, {"tokens": whole_numbers([1])}))
            talk.connection.close()
        with subject.loaded() as talk:
            assert talk.step([1, 2], 1).fields["prepared_rows"] == 0


def test_many_requests_at_once_are_answered_in_turn() -> None:
    with served(Chain()) as subject, subject.greeted() as talk:
        for id in range(100, 200):
            talk.send(Frame("ping", {"id": id}))
        assert [talk.read().fields["id"] for _ in range(100)] == list(range(100, 200))


@pytest.mark.parametrize("id", [None, -1, 2**63, 1.0, True, "7", [1]])
def test_an_id_is_a_whole_number(id: object) -> None:
    with served(Chain()) as subject, subject.greeted() as talk:
        talk.send(Frame("ping", {"id": id}))
        answer = talk.read()
        talk.expect_error(answer, "bad_request", fatal=False)
        assert answer.fields["id"] is None


def test_long_names_come_back_short() -> None:
    """A frame's header has 64 KiB, and JSON may need six letters for one."""
    with served(Chain()) as subject, subject.greeted() as talk:
        for kind, fields in (
            ("\ud800" * 10_000, {}),
            ("load", {"model": "\0" * 10_000}),
            ("load", {"model": [[1]] * 9000}),
        ):
            answer = talk.ask(kind, **fields)
            talk.expect_error(answer, "unknown_model" if fields else "unknown_kind", fatal=False)
            assert len(answer.fields["message"]) < 1000


def test_ids_without_logits_are_reported_as_they_are_and_logits_refused() -> None:
    with served(Chain(gives="tokens")) as subject, subject.loaded() as talk:
        assert subject.facts["gives"] == ["tokens"]
        assert talk.step([1, 2], 0).ids == talk.step([1, 2], 1).ids
        fields = {"model": "toy", "phase": "decode", "cached": 0, "wanted": 1, "want": "logits"}
        talk.expect_error(talk.ask("step", {"tokens": whole_numbers([1])}, **fields), "bad_request", fatal=False)


def test_a_model_must_be_loaded_before_its_steps() -> None:
    with served(Chain()) as subject, subject.greeted() as talk:
        assert talk.ask("reset", model="toy").kind == "done"
        fields = {"model": "toy", "phase": "decode", "cached": 0, "wanted": 1, "want": "tokens"}
        talk.expect_error(talk.ask("step", {"tokens": whole_numbers([1])}, **fields), "bad_request", fatal=False)


def test_a_mistake_of_the_agents_own_leaves_it_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: serve.ClientSession, id: int, frame: Frame) -> Frame:
        raise ZeroDivisionError

    with served(Chain()) as subject:
        with monkeypatch.context() as patch:
            patch.setattr(serve.ClientSession, "ping", broken)
            with subject.greeted() as talk:
                talk.send(Frame("ping", {"id": 5}))
                talk.expect_end()
        with subject.greeted() as talk:
            talk.expect_life()


def test_a_step_may_fill_the_context_to_its_end() -> None:
    with served(Chain()) as subject, subject.loaded() as talk:
        tokens = [1] * CONTEXT
        assert talk.step(tokens, 0).ids == talk.step(tokens, CONTEXT - 1).ids
