"""One observer that is several: each sees everything, in the order given."""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.sim.trace import Observer, RequestRecord, Round, Sample, Span, TurnRecord


class ObserverGroup:
    """Passes every call on to each observer."""

    def __init__(self, observers: Sequence[Observer]):
        self.observers = tuple(observers)

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        for observer in self.observers:
            observer.started(policy, tracks, requests)

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        for observer in self.observers:
            observer.asked(request, conversation, user, at_ns)

    def span(self, span: Span) -> None:
        for observer in self.observers:
            observer.span(span)

    def round(self, round: Round, text: str) -> None:
        for observer in self.observers:
            observer.round(round, text)

    def request(self, record: RequestRecord) -> None:
        for observer in self.observers:
            observer.request(record)

    def sample(self, sample: Sample) -> None:
        for observer in self.observers:
            observer.sample(sample)

    def turn(self, turn: TurnRecord) -> None:
        for observer in self.observers:
            observer.turn(turn)
