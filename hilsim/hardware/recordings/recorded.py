"""A chip that answers from a recording: the same logits, times and faults as the board gave, with no board attached."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from hilsim.errors import SimulationError
from hilsim.hardware.recordings.entries import Entry
from hilsim.hardware.recordings.interpolated import Durations
from hilsim.hardware.recordings.recording import Recording, entries_of, prefix_digests
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, Rows, StepRequest, StepResult
from hilsim.units import ms

Unseen = Literal["refuse", "interpolate"]
Key = tuple[str, int, int, int, str, str]  # model, rows, cached, wanted, want, digest of the conversation
POLICY = "Record this policy too"


class UnseenStep(SimulationError):
    """A recording was asked for a step that it does not hold."""

    def __init__(self, unit: str, step: str, lacks: str, nearest: str, remedy: str):
        super().__init__(unit, step, lacks, nearest, remedy)

    def __str__(self) -> str:
        unit, step, lacks, nearest, remedy = self.args
        return f"{unit}: found {step}, {lacks}; expected a step of the recording (nearest: {nearest}). {remedy}"


class RecordedChip:
    """`StepExecutor` over a recording.

    The n-th request for a step gets the n-th recorded result, faults included: first of the last session, then of those
    before, then from the beginning again. So a unit that warms up and repeats as `settings` has it replays exactly what
    the recorded one did. A step that was not recorded may still get its logits, which depend on the conversation alone:
    they are assembled from recorded rows after the same tokens. Its duration is then refused or interpolated, as
    `unseen` sets.
    """

    def __init__(self, recording: Recording, unseen: Unseen = "refuse", *, warm: bool = False):
        """`warm` leaves out the warm-up steps of the recording."""
        last = recording.sessions[-1].header
        self.recording, self.unit, self.settings, self.unseen = recording, last.unit, last.settings, unseen
        self.models = recording.models()
        self.replies: dict[Key, list[Entry]] = defaultdict(list)
        self.asked: Counter[Key] = Counter()
        self.rows: dict[tuple[str, str], tuple[Entry, int]] = {}
        self.ids: dict[tuple[str, str], tuple[Entry, int]] = {}
        for session in reversed(recording.sessions):
            for entry in session.entries:
                if warm and entry.use == "warm-up":
                    continue
                self.replies[key_of(entry)].append(entry)
                known = self.rows if entry.want == "logits" else self.ids
                if entry.tensor is not None:
                    for index, prefix in enumerate(entry.prefixes):
                        known.setdefault((entry.model, prefix), (entry, index))
        self.durations = Durations(entries_of(recording), self.models)

    def load(self, model: str) -> ModelFacts:
        """The facts of a recorded model. Raises `AgentFault` for any other."""
        if model not in self.models:
            raise AgentFault("refused", f"no model {model!r} in {self.recording.file}; {', '.join(self.models)}")
        return self.models[model]

    def execute(self, ask: StepRequest) -> StepResult:
        """The recorded answer and duration of this step. Raises `UnseenStep`, or the `AgentFault` that was recorded."""
        prefixes = prefix_digests(ask.tokens, ask.wanted)
        key = (ask.model, ask.rows, ask.cached, ask.wanted, ask.want, prefixes[-1])
        replies = self.replies.get(key)
        if not replies and ask.want == "nothing":  # a step that computed logits was timed as well
            keys = ((*key[:4], want, key[5]) for want in ("logits", "tokens"))
            replies = next((self.replies[other] for other in keys if other in self.replies), None)
        if not replies:
            return self.assemble(ask, prefixes)
        entry = replies[self.asked[key] % len(replies)]
        self.asked[key] += 1
        return self.answer_of(entry)

    def answer_of(self, entry: Entry) -> StepResult:
        """The answer that the chip gave."""
        if entry.fault is not None:
            raise AgentFault(entry.fault.kind, entry.fault.found)
        assert entry.duration_ns is not None, "an answer that took no time"
        array = self.recording.array(entry)
        return StepResult(
            duration_ns=entry.duration_ns,
            rows=array if entry.want == "logits" else None,
            ids=tuple(map(int, array)) if array is not None and entry.want == "tokens" else None,
            wall_ns=entry.wall_ns,
            prepared_rows=entry.prepared_rows,
            energy_mj=entry.energy_mj,
            temperature_c=entry.temperature_c,
            clock_ns=entry.clock_ns,
            at_ns=entry.at_ns,
        )

    def assemble(self, ask: StepRequest, prefixes: Sequence[str]) -> StepResult:
        """An answer to a step that was not recorded, from recorded rows and durations."""
        rows, ids = None, None
        if ask.want == "logits":
            rows = self.known_rows(ask.model, prefixes)
        elif ask.want == "tokens":
            ids = self.known_ids(ask.model, prefixes)
        if ask.want != "nothing" and rows is None and ids is None:
            remedy = f"{POLICY}, or take the text from the stand-ins (words: stand_in)."
            raise self.unseen_step(ask, "whose tokens are not in the recording", remedy)
        if self.unseen == "refuse":
            raise self.unseen_step(
                ask, "whose duration is not in the recording", f"{POLICY}, or set unseen: interpolate."
            )
        duration_ns = self.durations.duration_ns(ask.model, ask.rows, ask.cached)
        if duration_ns is None:
            raise self.unseen_step(
                ask, "outside the range of the recorded steps", f"{POLICY}: interpolation needs two numbers of rows."
            )
        return StepResult(duration_ns, rows, ids, interpolated=True)

    def known_rows(self, model: str, prefixes: Sequence[str]) -> Rows | None:
        """Logits (conversations, vocabulary) after these conversations; None where a row is not recorded."""
        found = [self.rows.get((model, prefix)) for prefix in prefixes]
        made = [self.array(entry)[index] for entry, index in filter(None, found)]
        return np.stack(made) if len(made) == len(prefixes) else None

    def known_ids(self, model: str, prefixes: Sequence[str]) -> tuple[int, ...] | None:
        """Most likely next token ids after these conversations, recorded or by logits; None where one is missing."""
        made = []
        for prefix in prefixes:
            if (named := self.ids.get((model, prefix))) is not None:
                made.append(int(self.array(named[0])[named[1]]))
            elif (known := self.rows.get((model, prefix))) is not None:
                made.append(int(self.array(known[0])[known[1]].argmax()))
            else:
                return None
        return tuple(made)

    def array(self, entry: Entry) -> Rows:
        """The tensor of an entry that has one: logits, or token ids."""
        array = self.recording.array(entry)
        assert array is not None, "an entry without numbers among those with"
        return array

    def unseen_step(self, ask: StepRequest, lacks: str, remedy: str) -> UnseenStep:
        """The error of a step that the recording cannot answer."""
        step = f"{ask.phase} of {counted(ask.rows)} after {ask.cached} cached (model {ask.model}, want {ask.want})"
        return UnseenStep(self.unit, step, lacks, self.nearest(ask), remedy)

    def nearest(self, ask: StepRequest) -> str:
        """The recorded step nearest to one that was not recorded, as text."""
        known = [entry for entry in entries_of(self.recording) if entry.model == ask.model and entry.duration_ns]
        if not known:
            return f"none of model {ask.model}"
        near = min(known, key=lambda entry: (abs(entry.rows - ask.rows), abs(entry.cached - ask.cached)))
        shape = f"{near.phase} of {counted(near.rows)} after {near.cached} cached, {ms(near.duration_ns or 0):.3f} ms"
        if (near.rows, near.cached) != (ask.rows, ask.cached):
            return shape
        return f"{shape}, want {near.want}" if near.want != ask.want else f"{shape}, in another conversation"

    def close(self) -> None:
        """Nothing to do: the file is closed with the recording."""


def counted(rows: int) -> str:
    """A number of rows as text."""
    return "1 row" if rows == 1 else f"{rows} rows"


def key_of(entry: Entry) -> Key:
    """The lookup key of a request."""
    return entry.model, entry.rows, entry.cached, entry.wanted, entry.want, entry.prefix
