"""Profiles: which steps are asked for, in which order, what is kept of them, and what happens when something breaks."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.cost.step import Phase
from hilsim.hardware.measured.profile import ProfileGrid, Shape, asks, swept, taken
from hilsim.hardware.recordings.recording import Recording, entries_of, read_recording
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.places import CODE as PROJECT
from tests.agents import agent
from tests.hardware_fakes import FACTS, Toy

LARGE = ModelFacts("large", 100, 1024, None, ("tokens",))
SMALL = ModelFacts("small", 100, 256, None, ("tokens",))
COMPILED = ModelFacts("compiled", 100, 1024, (1, 8, 128), ("tokens",))


def shape_of(ask: StepRequest) -> Shape:
    return Shape(ask.model, Phase(ask.phase).reads, ask.rows, ask.cached)


@pytest.mark.parametrize("facts", [LARGE, SMALL, COMPILED, ModelFacts("tiny", 2, 1, None, ("tokens",))])
def test_every_shape_is_asked_once_a_round_and_fits_the_context(facts: ModelFacts) -> None:
    found = asks([facts], ProfileGrid())
    assert set(Counter(map(shape_of, found)).values()) == {1}
    for ask in found:
        assert 0 <= ask.cached < len(ask.tokens) <= facts.context
        assert all(0 <= token < facts.vocabulary for token in ask.tokens)
        assert ask.wanted == (1 if Phase(ask.phase).reads else ask.rows)
        assert ask.want == "nothing"


def test_the_default_grid_follows_context_and_widths() -> None:
    free, compiled = (list(map(shape_of, asks([facts], ProfileGrid()))) for facts in (LARGE, COMPILED))
    assert {shape.cached for shape in free if not shape.reading} == {0, 64, 256, 768}
    assert {shape.rows for shape in free if not shape.reading} >= {1, 2, 5, 64, 128}
    assert {shape.rows for shape in compiled if not shape.reading} == {1, 8, 128}
    assert {shape.rows for shape in compiled if shape.reading} == {8, 128, 256}  # the widest twice: two passes


def test_next_to_nothing_is_read_again_and_steps_follow_on_their_like() -> None:
    """A cache that keeps what it has: in a round only the first fill of each model has to be read."""
    held, read = {"large": 0, "small": 0}, Counter[str]()
    shapes = []
    for ask in asks([LARGE, SMALL], ProfileGrid()):
        read[ask.model] += max(0, ask.cached - held[ask.model])
        held[ask.model] = len(ask.tokens)
        shapes.append(shape_of(ask))
    # The half full cache of the prompts is read once more at most, as the fills end at 0.
    assert read["large"] <= 768 + 256
    assert read["small"] <= 192 + 64
    both = shapes[: 2 * sum(shape.model == "small" for shape in shapes)]
    assert all(one.model != other.model for one, other in pairwise(both))  # models take turns
    alone = [shape for shape in shapes if shape.model == "large" and not shape.reading]
    order = sorted({shape.rows for shape in alone})
    for one, other in pairwise(alone):
        assert abs(order.index(one.rows) - order.index(other.rows)) <= 1


def test_repeats_are_spread_over_the_whole_time_and_warm_up_comes_first() -> None:
    one_round = asks([FACTS], ProfileGrid(rows=(1, 2, 4), cached=(0, 8), prompts=(16,)))
    found = list(swept(Toy(), one_round, warm_up=2, repeats=3))
    assert [use for use, _, _ in found] == ["warm-up"] * 2 * len(one_round) + ["profile"] * 3 * len(one_round)
    places = [place for place, (_, ask, _) in enumerate(found) if ask == one_round[0]]
    assert [after - before for before, after in pairwise(places)] == [len(one_round)] * 4


ENGINE = f"{PROJECT}/tests/fake_engines.py:Chain"
FEW = ("--rows", "1,2,4", "--cached", "0,16", "--prompts", "8", "--repeats", "4", "--warm-up", "1")
SHAPES = 3 * 2 + 2  # a model; prompts are read after 0 and after 16


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = str(tmp_path_factory.mktemp("engine"))
    with agent("--engine", ENGINE, "--model", f"one={folder}", "--model", f"two={folder}") as address:
        yield address


def profiled(board: str, file: Path, *options: str) -> Recording:
    assert main(["profile", board, "--out", str(file), *FEW, *options]) == 0
    return read_recording(file)


def test_a_profile_is_a_recording_with_every_step_of_every_round(
    board: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = profiled(board, tmp_path / "a.jsonl")
    (session,) = recording.sessions
    assert Counter(entry.use for entry in session.entries) == {"warm-up": 2 * SHAPES, "profile": 4 * 2 * SHAPES}
    assert session.header.settings == {"warm_up": 1, "repeats": 4}
    assert set(session.header.models) == {"one", "two"}
    found = taken(entries_of(recording))
    assert len(found) == 2 * SHAPES
    assert {len(one.all_ns) for one in found} == {4}
    told = capsys.readouterr().out
    for words in ("one", "two", "rows \\ cached", "prompt of 8"):
        assert words in told
    # Again into the same file: another session, of one model.
    again = profiled(board, tmp_path / "a.jsonl", "--model", "two")
    assert [set(session.header.models) for session in again.sessions] == [{"one", "two"}, {"two"}]


def test_an_interrupt_keeps_what_was_recorded(
    board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after(5, KeyboardInterrupt(), monkeypatch)
    assert main(["profile", board, "--out", str(tmp_path / "a.jsonl"), *FEW]) == 130
    assert f"interrupted; 5 steps are saved in {tmp_path / 'a.jsonl'}." in capsys.readouterr().err
    assert len(list(entries_of(read_recording(tmp_path / "a.jsonl")))) == 5


def test_a_board_that_breaks_is_reported_and_written_down(
    board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after(5, AgentFault("died", "it closed the connection"), monkeypatch)
    assert main(["profile", board, "--out", str(tmp_path / "a.jsonl"), *FEW]) == 2
    told = capsys.readouterr().err
    assert f"{board}: died: it closed the connection. 6 steps are saved" in told
    entries = list(entries_of(read_recording(tmp_path / "a.jsonl")))
    assert [entry.fault is None for entry in entries] == [True] * 5 + [False]


def after(steps: int, fault: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that answers so many steps, and then something happens."""
    execute, left = Agent.execute, [steps]

    def once(self: Agent, ask: StepRequest) -> StepResult:
        left[0] -= 1
        if left[0] < 0:
            raise fault
        return execute(self, ask)

    monkeypatch.setattr(Agent, "execute", once)


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "another model": (("--model", "three"), "--model: found 'three'; expected a model that tcp://127.0.0.1:"),
    "a context": (("--cached", "5000"), "profile: found no step that fits; expected some within the context (one 256"),
    "a folder": (("--out", "/proc/nowhere/a.jsonl"), "expected a folder that can be written to"),
    "a token": (("--token-file", "nowhere"), "nowhere: found no such file"),
}


@pytest.mark.parametrize(("options", "expected"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_profiled_is_refused(
    options: tuple[str, ...], expected: str, board: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", board, "--out", str(tmp_path / "a.jsonl"), *FEW, *options]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_no_agent_and_no_address_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "a.jsonl")]
    assert main(["profile", "tcp://127.0.0.1:9", *out]) == 2
    assert "unreachable" in (told := capsys.readouterr().err)
    assert "Start one on the board: python -m hilsim agent" in told
    assert main(["profile", "127.0.0.1:7295", *out]) == 2
    assert "without tcp://; expected tcp://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--rows=0", "--rows=1,1", "--cached=-1", "--prompts=a", "--repeats=0", "--warm-up=x"]
)
def test_numbers_that_are_none_are_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "tcp://127.0.0.1:9", "--out", "a.jsonl", words])
    assert ended.value.code == 2
    assert "expected" in capsys.readouterr().err
