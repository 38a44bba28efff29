"""The assistant's voice: an answer clause by clause through synthesis to playback, and how much has been heard when."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hilsim.sim.clauses import Clause, Splitter
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.request import Request
from hilsim.sim.stages import AUDIO, SAID_BYTES_PER_S, TEXT, Stages
from hilsim.sim.trace import Round
from hilsim.units import NS_PER_S, ns

BYTES_PER_TOKEN = 4  # of text


class Delivery:
    """An answer as its tokens reach the application: when the first was there, and the first clause."""

    def __init__(self, splitter: Splitter):
        self.splitter, self.tokens = splitter, 0
        self.first_token_ns = self.clause_ns = -1

    @property
    def request(self) -> Request:
        return self.splitter.request

    @property
    def whole(self) -> bool:
        """Whether all of the answer is there."""
        return self.request.done and self.tokens == len(self.request.answer)

    def take(self, delivered: Round) -> list[Clause]:
        """Tokens have arrived; returns the clauses that they complete."""
        self.tokens += delivered.emitted
        if self.first_token_ns < 0:
            self.first_token_ns = delivered.delivered_ns
        found = self.splitter.split(self.tokens, whole=self.whole)
        if found and self.clause_ns < 0:
            self.clause_ns = delivered.delivered_ns
        return found


class Played(NamedTuple):
    """A piece of a clause in the loudspeaker, from `start_ns` on."""

    clause: Clause
    start_ns: int
    length_ns: int


class Voice:
    """One answer on its way to the passenger's ear.

    A clause is synthesised once its text is there and the one before is done. It plays behind the one before, its first
    piece as soon as it is made, the rest so that it does not run out before its synthesis is done. Times without sound
    between the first and the last are `gaps`.
    """

    def __init__(self, stages: Stages, cause: RequestTag, delivery: Delivery):
        self.stages, self.cause, self.delivery, self.env = stages, cause, delivery, stages.env
        self.clauses: deque[Clause] = deque()
        self.news = self.env.event()
        self.sounds = self.env.event()  # the first audio is there
        self.over = self.env.event()  # all is heard, or it was silenced
        self.silent = False
        self.played: list[Played] = []
        self.gaps: list[tuple[int, int]] = []
        self.first_audio_ns = self.end_ns = -1

    @property
    def now(self) -> int:
        return self.stages.board.now

    def take(self, delivered: Round) -> None:
        """Tokens of the answer have arrived."""
        self.clauses += self.delivery.take(delivered)
        self.wake()

    def wake(self) -> None:
        """There is something new to say, or nothing more."""
        if not self.news.triggered:
            self.news.succeed()

    def silence(self) -> None:
        """Stop at once: nothing more is heard."""
        self.silent = True
        self.wake()
        if not self.over.triggered:
            self.over.succeed()

    def speak(self) -> Process:
        """Say clause after clause until all is heard."""
        while not self.silent:
            if self.clauses:
                saying = self.say(self.clauses.popleft())
                yield from self.stages.using("synthesis", self.is_wanted, saying)
            elif self.delivery.whole:
                yield self.env.timeout(max(0, self.end_ns - self.now))
                break
            else:
                self.news = self.env.event()
                yield self.news
        if not self.over.triggered:
            self.over.succeed()

    def is_wanted(self) -> bool:
        """Whether the passenger still listens."""
        return not self.silent

    def say(self, clause: Clause) -> Process:
        """Synthesise one clause and play it."""
        stages, synthesis = self.stages, self.stages.speech.synthesis
        first_ns = round(synthesis.first_share * clause.speech_ns)
        text = BYTES_PER_TOKEN * (clause.end - clause.first)
        yield from stages.ways.send(stages.front, stages.synthesis.chip, TEXT, text, self.cause)
        fixed_ns = ns(synthesis.fixed_ms / 1000)
        yield from stages.synthesis.work(fixed_ns + self.synthesis_ns(first_ns), self.cause)
        yield from self.bring(first_ns)
        self.play(clause, first_ns, self.now)
        rest_ns = clause.speech_ns - first_ns
        if rest_ns and not self.silent:
            yield from stages.synthesis.work(self.synthesis_ns(rest_ns), self.cause)
            yield from self.bring(rest_ns)
            self.play(clause, rest_ns, self.now - rest_ns)

    def synthesis_ns(self, speech_ns: int) -> int:
        """How long it takes to make so much speech."""
        return ns(self.stages.speech.synthesis.real_time_factor * speech_ns / NS_PER_S)

    def bring(self, speech_ns: int) -> Process:
        """Bring so much speech to the loudspeaker."""
        nbytes = speech_ns * SAID_BYTES_PER_S // NS_PER_S
        return self.stages.ways.send(self.stages.synthesis.chip, self.stages.front, AUDIO, nbytes, self.cause)

    def play(self, clause: Clause, length_ns: int, earliest_ns: int) -> None:
        """Play a piece behind all others, no earlier than at an instant."""
        if self.silent:
            return
        if self.first_audio_ns < 0:
            self.first_audio_ns = self.end_ns = self.now
            self.sounds.succeed()
        start = max(self.end_ns, earliest_ns)
        if start > self.end_ns:
            self.gaps.append((self.end_ns, start))
        self.played.append(Played(clause, start, length_ns))
        self.end_ns = start + length_ns

    def heard(self, at_ns: int) -> int:
        """Tokens of the answer that had been heard at an instant: of a clause the share that had sounded."""
        tokens = 0
        sounded: dict[Clause, int] = {}
        for clause, start, length in self.played:
            sounded[clause] = sounded.get(clause, 0) + min(max(0, at_ns - start), length)
        if self.played and at_ns > self.end_ns:  # the rest of the last clause, which is still being made
            clause = self.played[-1].clause
            sounded[clause] = min(clause.speech_ns, sounded[clause] + at_ns - self.end_ns)
        for clause, so_far in sounded.items():
            if so_far < clause.speech_ns:
                return clause.first + (clause.end - clause.first) * so_far // clause.speech_ns
            tokens = clause.end
        return tokens
