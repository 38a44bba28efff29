"""How often the target accepts what each draft head proposes, by position, over conversations that training never saw.

Position j counts the rounds that drafted j tokens and whose first j - 1 were accepted: its acceptance is conditional.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.conversation import Conversation
from hilsim.describe.decoding import Sampling
from hilsim.networks.draft_head_file import load_draft_head
from hilsim.networks.network import Network, weights_of
from hilsim.sim.lead import View
from hilsim.sources.live import LiveSource, StandIns
from hilsim.text.pairs import CommonVocabulary
from hilsim.text.tokenizer import ChatTokenizer

ANSWER_TOKENS = 96  # at most, of one answer


@dataclass(frozen=True)
class HeadAcceptance:
    """One head at one temperature: of the rounds that came to each position, how many accepted it."""

    kind: str
    parameters: int
    file_bytes: int
    temperature: float
    reached: tuple[int, ...]
    accepted: tuple[int, ...]
    rounds: int
    tokens: int

    @property
    def by_position(self) -> list[float]:
        """Conditional acceptance of the first, second, ... drafted token."""
        return [yes / max(1, all_of) for yes, all_of in zip(self.accepted, self.reached, strict=True)]

    @property
    def tokens_a_round(self) -> float:
        """Emitted tokens: accepted ones and the target's own."""
        return self.tokens / self.rounds


def measured(
    folder: Path,
    target: Network,
    tokenizer: ChatTokenizer,
    asked: Sequence[Conversation],
    temperature: float,
    most: int,
) -> HeadAcceptance:
    """Let the target answer with the head of `folder` drafting `most` tokens a round: greedy or by the ratio rule."""
    head = load_draft_head(folder, target)
    columns = {"target": CommonVocabulary(target.config.vocab_size)}
    stand_ins = StandIns({"target": weights_of(target)}, tokenizer, tuple(asked), columns, drafts=True, head=head)
    source = LiveSource(stand_ins, Sampling(temperature=temperature), target.config.max_positions, seed=1)
    reached, accepted, rounds, tokens = [0] * most, [0] * most, 0, 0
    for number, conversation in enumerate(asked):
        text: list[int] = []
        view = View(number, number, text)
        for turn in range(len(conversation.turns)):
            prompt = source.prompt(number, turn, text)
            text[prompt.prefix_length :] = prompt.tokens
            room = target.config.max_positions - len(text)
            for drafted, stood, emitted in answered(source, view, most, min(ANSWER_TOKENS, room)):
                rounds, tokens = rounds + 1, tokens + emitted
                for place in range(min(stood + 1, drafted)):
                    reached[place] += 1
                    accepted[place] += place < stood
        source.forget(number)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return HeadAcceptance(
        head.config.kind, head.parameter_count, size, temperature, (*reached,), (*accepted,), rounds, tokens
    )


def answered(source: LiveSource, view: View, most: int, room: int) -> Iterator[tuple[int, int, int]]:
    """Tokens drafted, accepted and emitted in each round of one answer, which ends with its turn."""
    text = view.tokens
    assert isinstance(text, list), "the view grows by the answer"
    limit, ended = len(text) + room, False
    while len(text) + most + 1 < limit and not ended:
        draft = source.draft(view, most)
        verdict = source.verify(view, draft)
        new = verdict.tokens(draft)
        end = next((place for place, token in enumerate(new, 1) if source.ends(token)), None)
        ended, new = end is not None, new[:end]
        text += new
        yield len(draft.tokens), verdict.accepted, len(new)


def table(found: Sequence[HeadAcceptance]) -> list[str]:
    """The measured heads as lines of Markdown."""
    most = max(len(one.reached) for one in found)
    places = " | ".join(map(str, range(1, most + 1)))
    lines = [
        f"| head | parameters | MB | temperature | {places} | tokens a round | rounds |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * most} ---: | ---: |",
    ]
    for one in found:
        places = " | ".join(f"{share:.2f}" for share in one.by_position)
        lines.append(
            f"| `{one.kind}` | {one.parameters:,} | {one.file_bytes / 1e6:.1f} | {one.temperature:g} | {places} "
            f"| {one.tokens_a_round:.2f} | {one.rounds:,} |"
        )
    return lines
