"""What stands before questions, and the prefix of it that the caches keep from one conversation to the next."""

from __future__ import annotations

from hilsim.cost.memory import prefix_bytes
from hilsim.describe.cockpit import Speech
from hilsim.sampling.noise import TOOLS, uniforms
from hilsim.sim.board import Board

KEPT = "kept prefix"


class Preface:
    """System prompt, tools and retrieved passages of a scenario: positions known by number alone.

    System prompt and tools (`standing` positions) are read once a conversation, or copied from the kept prefix: a copy
    of their keys and values, made when they are read, which takes no time. It is dropped where the caches of a
    conversation need its memory. Retrieved passages are read with each question; those of earlier questions are dropped
    from the caches.
    """

    def __init__(self, board: Board, speech: Speech, seed: int):
        self.board, self.tools, self.seed = board, speech.tools, seed
        self.standing, self.retrieved = speech.prompt.standing_tokens, speech.prompt.retrieved_tokens
        self.bytes = prefix_bytes(board.setup) if speech.prompt.kept else {}
        self.held = False
        board.make_room = self.make_room

    def calls(self, request: int) -> bool:
        """Whether a question calls a tool: chance by its number, the same in every run."""
        return self.tools is not None and uniforms(self.seed, TOOLS, request, 0).spare < self.tools.share

    def copied(self) -> bool:
        """Whether a conversation that begins finds the prefix kept."""
        return self.held

    def keep(self) -> None:
        """A conversation has read the prefix: keep a copy, where every chip has the memory for it."""
        if self.held or not any(self.bytes.values()):
            return
        if all(nbytes <= self.board.memories[chip].free_bytes for chip, nbytes in self.bytes.items()):
            for chip, nbytes in self.bytes.items():
                self.board.memories[chip].take(KEPT, nbytes)
            self.held = True

    def drop(self) -> None:
        """Forget the copy; the next conversation reads the prefix again."""
        if self.held:
            for chip, nbytes in self.bytes.items():
                self.board.memories[chip].give_back(KEPT, nbytes)
            self.held = False

    def make_room(self) -> None:
        """A conversation's caches are about to be allocated: drop the copy where they would not fit beside it."""
        needed = self.board.conversation_bytes
        if any(nbytes > self.board.memories[chip].free_bytes for chip, nbytes in needed.items()):
            self.drop()
