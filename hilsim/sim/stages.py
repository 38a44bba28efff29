"""The stages of spoken turns on a board: where each runs, and what crosses a link between two of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hilsim.cost.demand import priced, streamed_bytes
from hilsim.describe.cockpit import Demand, Recognition, Speech, Stage
from hilsim.describe.setup import Setup
from hilsim.sim.board import Board, Direction
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.swap import SharedRoom
from hilsim.units import NS_PER_S, ns

HEARD_BYTES_PER_S = 32_000  # 16-bit samples at 16 kHz, as recognition takes them
SAID_BYTES_PER_S = 48_000  # 16-bit samples at 24 kHz, as synthesis makes them
AUDIO, TEXT = "audio", "text"  # messages between stages


class StagePlace:
    """A stage where it runs: on a unit, in turn with all else there, or on hardware beside the chip's units."""

    def __init__(self, board: Board, stage: Stage, kind: str):
        assert stage.chip is not None, "a loaded scenario has a chip for every stage"
        self.chip, self.kind = stage.chip, kind
        self.priority, self.megabytes_per_s = stage.priority, stage.megabytes_per_s
        self.graph_ns = None if stage.graph_ms is None else ns(stage.graph_ms / 1000)
        chip = board.setup.chips[stage.chip]
        self.unit = None if stage.unit is None else chip.units[stage.unit]
        self.place = board.outside(chip) if stage.unit is None else board.place(chip, stage.unit)

    def work(self, took_ns: int, cause: RequestTag, nbytes: int = 0, kind: str = "") -> Process:
        """Wait for the unit where there is one, and hold it for so long."""
        if took_ns:
            nbytes += streamed_bytes(self.megabytes_per_s, took_ns)
            yield from self.place.work(kind or self.kind, took_ns, cause, nbytes, self.priority, graph_ns=self.graph_ns)

    def run(self, demand: Demand, cause: RequestTag, kind: str = "") -> Process:
        """One execution of what a demand asks for."""
        if self.unit is None:
            assert demand.ms is not None, "a shape has a unit, which prices it"
            return self.work(ns(demand.ms / 1000), cause, round(demand.megabytes * 10**6), kind)
        took_ns, nbytes = priced(demand, self.unit)
        return self.work(took_ns, cause, nbytes, kind)


class Ways:
    """The links between the chips of a spoken turn, each way with a track of its own.

    Where two chips have none, a message goes by the target's. The link of draft and target is shared with the language
    model's messages.
    """

    def __init__(self, board: Board, setup: Setup, chips: list[str]):
        self.home = setup.target.chip.name
        self.directions: dict[tuple[str, str], Direction] = {}
        if board.up is not None and board.down is not None and setup.draft is not None:
            away = setup.draft.chip.name
            self.directions = {(away, self.home): board.up, (self.home, away): board.down}
        wanted = {leg for pair in pairwise(chips) for leg in self.legs(setup, *pair)}
        for placed in setup.links:
            for way, (origin, goal) in (("up", placed.chips), ("down", placed.chips[::-1])):
                if (origin, goal) in wanted and (origin, goal) not in self.directions:
                    link = placed.link.model_copy(update={"name": placed.name})
                    self.directions[origin, goal] = board.direction(link, way)
                    board.trace.directions += (self.directions[origin, goal].track,)
        board.trace.tracks = (*reversed(board.trace.units), *board.trace.directions)
        self.setup = setup

    def legs(self, setup: Setup, origin: str, goal: str) -> list[tuple[str, str]]:
        """The links from one chip to another."""
        if origin == goal:
            return []
        if any(placed.joins(origin, goal) for placed in setup.links):
            return [(origin, goal)]
        return [(origin, self.home), (self.home, goal)]

    def send(self, origin: str, goal: str, kind: str, nbytes: int, cause: RequestTag) -> Process:
        """Send a message from one chip to another; nothing is sent where they are one."""
        for leg in self.legs(self.setup, origin, goal):
            yield from self.directions[leg].send(kind, nbytes, cause)


class Stages:
    """All stages of a scenario's spoken turns."""

    def __init__(self, board: Board, speech: Speech):
        self.board, self.speech, self.env = board, speech, board.env
        self.end_of_speech = StagePlace(board, speech.end_of_speech, "end_of_speech")
        self.recognition = StagePlace(board, speech.recognition, "recognition")
        self.synthesis = StagePlace(board, speech.synthesis, "synthesis")
        self.front = board.setup.application
        self.room = None if speech.swap is None else SharedRoom(board, speech.swap)
        chips = [self.front, self.recognition.chip, self.front, self.synthesis.chip, self.front]
        self.ways = Ways(board, board.setup, chips)

    def using(self, model: str, wanted: Callable[[], bool], work: Process) -> Process:
        """Work of a model once it is in memory, as long as it is wanted."""
        if self.room is None:
            yield from work
        elif (yield from self.room.enter(model, wanted)):
            yield from work
            self.room.leave(model)

    def recognise(self, heard_ns: int, cause: RequestTag) -> Process:
        """All of a question after its end."""
        recognition = self.speech.recognition
        yield from self.hear(heard_ns, cause)
        for chunk_ns in chunks(heard_ns, recognition) if recognition.model is not None else (heard_ns,):
            yield from self.chunk(chunk_ns, cause, last=True)

    def recognise_streaming(self, begun_ns: int, heard_ns: int, cause: RequestTag) -> Process:
        """Chunk by chunk while a question is asked; the last one ends with it."""
        until = begun_ns
        for chunk_ns in chunks(heard_ns, self.speech.recognition):
            until += chunk_ns
            yield self.env.timeout(max(0, until - self.board.now))
            yield from self.hear(chunk_ns, cause)
            yield from self.chunk(chunk_ns, cause, last=until == begun_ns + heard_ns)

    def hear(self, heard_ns: int, cause: RequestTag) -> Process:
        """Bring so much of the passenger's speech to the chip that recognises it."""
        nbytes = heard_ns * HEARD_BYTES_PER_S // NS_PER_S
        return self.ways.send(self.front, self.recognition.chip, AUDIO, nbytes, cause)

    def chunk(self, heard_ns: int, cause: RequestTag, *, last: bool) -> Process:
        """Recognise a piece of speech; what it takes beside is counted with the last one."""
        recognition = self.speech.recognition
        if recognition.model is not None:
            return self.recognition.run(recognition.model, cause)
        took = recognition.real_time_factor * heard_ns / NS_PER_S + (recognition.fixed_ms / 1000 if last else 0)
        return self.recognition.work(ns(took), cause)


def chunks(heard_ns: int, recognition: Recognition) -> list[int]:
    """The lengths of the chunks of a question: the first is what is left, so the last is whole."""
    size = max(1, ns(recognition.chunk_ms / 1000))
    whole, rest = divmod(heard_ns, size)
    return ([rest] if rest or not whole else []) + [size] * whole
