"""One turn of a passenger under way: from the first word of the question to the last of the answer, or less.

passenger    ▒▒▒▒question▒▒▒▒                                                  ▒interrupts▒▒▒
recognition     ▓chunk▓ ▓chunk▓▓last▓
end of speech                 ▓wait▓
prompt                              ▓▓
language model                        ▓read▓▓▓▓▓first clause▓▓▓second▓▓▓╳ at the next boundary of graphs
synthesis                                              ▓▓▓       ▓▓▓
playback                                                 ▒▒▒▒▒▒▒▒▒▒▒gap▒▒▒▒╳ silent
"""

from __future__ import annotations

from dataclasses import dataclass

from hilsim.describe.cockpit import BargeIn, Playback
from hilsim.sampling.noise import BARGE_IN, uniforms
from hilsim.sim.clauses import Splitter, question_ns
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.request import Request
from hilsim.sim.session import Session, Turn
from hilsim.sim.stages import TEXT, Stages
from hilsim.sim.swap import TARGET
from hilsim.sim.trace import Round, TurnRecord
from hilsim.sim.voice import BYTES_PER_TOKEN, Delivery, Voice
from hilsim.text.prompt import Prompt
from hilsim.units import ns


@dataclass(frozen=True)
class Asked:
    """A question that is about to be asked: whose it is, and since when it was wanted.

    `patience_ns` is how long its first audio may take from the end of speech.
    """

    number: int
    passenger: str
    priority: int
    patience_ns: int | None
    wanted_ns: int


class TurnUnderWay:
    """A turn in progress. `stages` is None without speech: the question is there as text at once, and so its answer."""

    def __init__(self, asked: Asked, session: Session, turn: Turn, prompt: Prompt, stages: Stages | None):
        self.asked, self.session, self.turn, self.prompt, self.stages = asked, session, turn, prompt, stages
        self.board, self.env = session.context.board, session.context.board.env
        self.cause = RequestTag(turn.index, 0)
        self.request: Request | None = None
        self.delivery: Delivery | None = None
        self.voice: Voice | None = None
        self.outcome = "answered"
        self.given_up = self.env.event()
        self.free_ns = -1  # since when the passenger may ask again
        self.spoke_ns = self.spoken_ns = self.noticed_ns = self.recognised_ns = self.asked_ns = -1
        self.interrupted_ns = self.silent_ns = self.freed_ns = self.heard_tokens = -1

    @property
    def now(self) -> int:
        return self.board.now

    def run(self, begun_ns: int) -> Process:
        """All of the turn, whose question is begun at an instant; returns when it was interrupted, or None.

        A question that is given up before its text is there ends at once. What is under way for it ends by itself.
        """
        self.spoke_ns = begun_ns
        if self.stages is None:
            self.spoken_ns = self.noticed_ns = self.recognised_ns = begun_ns
            self.watch_patience()
        else:
            yield self.env.process(self.listen(self.stages)) | self.given_up
        if self.outcome == "answered":
            yield from self.answer()
        self.close()
        if self.stages is None or not self.given_up.triggered:
            self.free_ns = self.now
        return self.interrupted_ns if self.interrupted_ns >= 0 else None

    def listen(self, stages: Stages) -> Process:
        """Wake word, question, end of speech, recognition, prompt."""
        speech = stages.speech
        if speech.wake_word is not None:
            yield from stages.recognition.run(speech.wake_word, self.cause, "wake_word")
            begun = self.now
        else:
            begun = self.spoke_ns
        heard_ns = question_ns(self.turn.user, self.session.setup.scenario.workload, speech.playback)
        recognising = None
        if speech.recognition.streaming:
            recognition = stages.recognise_streaming(begun, heard_ns, self.cause)
            recognising = self.env.process(stages.using("recognition", self.is_wanted, recognition))
        yield self.env.timeout(max(0, begun + heard_ns - self.now))
        self.spoken_ns = begun + heard_ns
        self.watch_patience()
        yield self.env.timeout(max(0, self.spoken_ns + ns(speech.end_of_speech.wait_ms / 1000) - self.now))
        if speech.end_of_speech.model is not None:
            yield from stages.end_of_speech.run(speech.end_of_speech.model, self.cause)
        self.noticed_ns = self.now
        if recognising is not None:
            yield recognising
        else:
            yield from stages.using("recognition", self.is_wanted, stages.recognise(heard_ns, self.cause))
        self.recognised_ns = self.now
        text = BYTES_PER_TOKEN * len(self.prompt.tokens)
        yield from stages.ways.send(stages.recognition.chip, stages.front, TEXT, text, self.cause)
        yield self.env.timeout(ns(speech.prompt.ms / 1000))

    def answer(self) -> Process:
        """The language model's turn, and the voice behind it."""
        session, turn, stages = self.session, self.turn, self.stages
        self.asked_ns = self.now
        self.board.priorities[turn.index] = self.asked.priority
        self.request = session.ask(turn, self.prompt, self.take)
        playback = Playback() if stages is None else stages.speech.playback
        splitter = Splitter(session.context.source, self.request, session.setup.scenario.workload, playback)
        self.delivery = Delivery(splitter)
        if stages is None:
            yield from session.answer(self.request)
            return
        self.voice = Voice(stages, self.cause, self.delivery)
        self.env.process(self.voice.speak())
        interruption = None
        if stages.speech.barge_in is not None and interrupts(
            stages.speech.barge_in, self.asked.number, turn.index, session
        ):
            interruption = self.env.process(self.interrupt(stages.speech.barge_in, self.voice))
        yield self.env.process(stages.using(TARGET, self.is_wanted, session.answer(self.request)))
        self.freed_ns = self.now
        if self.outcome != "given up":
            yield self.voice.over
        if interruption is not None and self.interrupted_ns >= 0:
            yield interruption

    def is_wanted(self) -> bool:
        """Whether the passenger still wants an answer."""
        return self.outcome == "answered"

    def take(self, delivered: Round) -> None:
        """The application has tokens of the answer."""
        assert self.delivery is not None, "an answer begins after its question"
        if self.voice is not None:
            self.voice.take(delivered)
        else:
            self.delivery.take(delivered)

    def interrupt(self, barge_in: BargeIn, voice: Voice) -> Process:
        """The passenger speaks up while the answer plays; once that is noticed, playback and language model stop."""
        yield voice.sounds
        yield self.env.timeout(ns(barge_in.after_s))
        if voice.over.triggered:
            return
        self.interrupted_ns, self.outcome = self.now, "interrupted"
        yield self.env.timeout(ns(barge_in.notice_ms / 1000))
        self.silent_ns = min(self.now, voice.end_ns) if voice.over.triggered else self.now
        voice.silence()
        self.cancel()

    def watch_patience(self) -> None:
        """The question is given up where it has no first audio in time."""
        if self.asked.patience_ns is not None:
            self.env.process(self.give_up(self.spoken_ns + self.asked.patience_ns))

    def give_up(self, at_ns: int) -> Process:
        """Wait for so long; then nothing more is done for a question without first audio."""
        yield self.env.timeout(max(0, at_ns - self.now))
        if self.answering:
            return
        self.outcome, self.free_ns = "given up", self.now
        if self.voice is not None:
            self.voice.silence()
        self.cancel()
        if self.stages is not None and self.stages.room is not None:
            self.stages.room.serve()
        self.given_up.succeed()

    @property
    def answering(self) -> bool:
        """Whether the passenger gets an answer: hears it, or reads it where there is no speech."""
        if self.stages is None:
            return self.delivery is not None and self.delivery.first_token_ns >= 0
        return self.voice is not None and self.voice.first_audio_ns >= 0

    def cancel(self) -> None:
        """Nothing more is done for the question; the step under way ends with the graph that is running."""
        if self.request is not None and not self.request.done:
            self.request.finish = "cut"
        self.board.cancel(self.turn.index)

    def close(self) -> None:
        """Cut the conversation to what was heard, where the passenger stopped the answer; add the turn to the trace."""
        request, voice, delivery = self.request, self.voice, self.delivery
        self.board.priorities.pop(self.turn.index, None)
        if request is None:
            self.session.leave_unanswered(self.prompt)
        if request is not None and self.outcome != "answered":
            self.heard_tokens = 0 if voice is None else voice.heard(self.silent_ns)
            barge_in = None if self.stages is None else self.stages.speech.barge_in
            lost = self.outcome == "interrupted" and barge_in is not None and barge_in.cache == "lost"
            self.session.cut(request, self.heard_tokens, lost=lost)
        interrupted = self.outcome == "interrupted"
        self.board.trace.add_turn(
            TurnRecord(
                self.asked.number,
                self.asked.passenger,
                self.turn.index if request is not None and request.rounds else -1,
                self.spoke_ns,
                self.spoken_ns,
                self.noticed_ns,
                self.recognised_ns,
                self.asked_ns,
                -1 if delivery is None else delivery.first_token_ns,
                -1 if delivery is None else delivery.clause_ns,
                -1 if voice is None else voice.first_audio_ns,
                request.delivered_ns if request is not None and request.rounds else -1,
                voice.end_ns if voice is not None and self.outcome == "answered" else -1,
                () if voice is None else tuple(voice.gaps),
                self.interrupted_ns,
                self.silent_ns,
                self.heard_tokens,
                self.outcome,
                self.asked.wanted_ns,
                max(self.freed_ns, self.silent_ns) if interrupted else -1,
            )
        )


def interrupts(barge_in: BargeIn, number: int, request: int, session: Session) -> bool:
    """Whether a turn is interrupted: as listed by its number, or by chance that depends on its request alone."""
    if barge_in.turns:
        return number in barge_in.turns
    return uniforms(session.setup.scenario.seed, BARGE_IN, request, 0).spare < barge_in.share
