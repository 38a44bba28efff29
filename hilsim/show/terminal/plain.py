"""The run for those without a terminal: one plain line per answered request, no control codes."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from hilsim.measure.formulas import tokens_a_round
from hilsim.measure.turns import times_of
from hilsim.show.numbers import clean, counted, duration_of_ns
from hilsim.sim.trace import RequestRecord, Round, Sample, Span, TurnRecord


class PlainLines:
    """An observer that writes a line when a run starts and one per request that is over."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stdout if stream is None else stream
        self._alone: dict[int, int] = {}
        self._policy, self._requests, self._finished = "", 0, 0
        self._asked, self._turns = 0, 0
        self._rounds: dict[int, tuple[int, int]] = {}  # after the one that reads the question: how many, tokens

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over()
        self.stream.flush()

    def _over(self) -> None:
        """A trip ends by the clock: how much of the workload was asked."""
        if self._turns and self._asked < self._requests:
            self._write(f"{self._asked} asked of {self._requests} in the workload")

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        self._over()
        self._policy, self._requests, self._finished = policy, requests, 0
        self._asked, self._turns = 0, 0
        self._rounds.clear()
        self._write(f"{policy}: {counted(requests, 'request')} on {', '.join(tracks)}")

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        self._asked += 1

    def span(self, span: Span) -> None:
        pass

    def round(self, round: Round, text: str) -> None:
        if round.number:
            rounds, emitted = self._rounds.get(round.request, (0, 0))
            self._rounds[round.request] = (rounds + 1, emitted + round.emitted)

    def request(self, record: RequestRecord) -> None:
        self._finished += 1
        latency = record.finished_ns - record.arrived_ns
        rounds, emitted = self._rounds.pop(record.number, (0, 0))
        figures = [duration_of_ns(latency), counted(record.output_tokens, "token")]
        if self._policy == "target_only":
            self._alone[record.number] = latency
        else:
            if rounds:
                figures.append(f"{tokens_a_round(emitted, rounds):.2f} tokens/round")
            if latency and record.number in self._alone:
                figures.append(f"{self._alone[record.number] / latency:.2f}x")
        messages = [f"passenger: {clean(record.user)}"] if record.user else []
        messages.append(f"assistant: {clean(record.answer).strip()}")
        place = f"[{self._finished}/{self._requests}] request {record.number}"
        self._write(f"{place} | {', '.join(figures)} | {' | '.join(messages)}")

    def sample(self, sample: Sample) -> None:
        pass

    def turn(self, turn: TurnRecord) -> None:
        self._turns += 1
        times, figures = times_of(turn), [turn.outcome]
        for name in ("first_audio", "reaction"):
            if name in times:
                figures.append(f"{name.replace('_', ' ')} {duration_of_ns(times[name])}")
        if turn.gaps:
            figures.append(counted(len(turn.gaps), "gap"))
        who = clean(turn.passenger) or "the passenger"
        self._write(f"turn {turn.number} of {who} | {', '.join(figures)}")

    def _write(self, line: str) -> None:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self.stream.flush()
