"""Logits that are not finite end a run by name, wherever a row comes from; and finite ones never make a NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hilsim.commands.main import guarded
from hilsim.describe.decoding import Accept, Payload, Sampling
from hilsim.describe.figure import Record
from hilsim.describe.tree_shape import Branches
from hilsim.errors import BrokenLogits, ScenarioError
from hilsim.hardware.agent.engine import EngineFacts, Output
from hilsim.hardware.agent.output import EngineFault, named_tensor
from hilsim.hardware.wire.exchange import not_finite
from hilsim.networks.config import NetworkConfig
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import Network, weights_of
from hilsim.sampling.choices import Choices, RowPosition, Rules
from hilsim.sampling.decisions import Decisions
from hilsim.sampling.logits import Logits, require_finite
from hilsim.sampling.proposals import Draft, TokenTree
from hilsim.show.document import as_json
from hilsim.sources.live import LiveSource, Reader
from hilsim.text.pairs import CommonVocabulary
from tests.one_row import distribution_of
from tests.scenes import shipped
from tests.toy import START, VOCABULARY, Table, Text


class Given(Record):
    """Rule and payload as a scenario writes them."""

    accept: Accept
    payload: Payload


# Every accept rule, with a payload and a temperature that go with it.
RULES = {
    "greedy": ("greedy", "token_ids", 0.0),
    "ratio": ("ratio", "full_rows", 0.7),
    "gumbel": ("gumbel", "token_ids", 0.7),
    "sample_match": ("sample_match", "token_ids", 0.7),
    "block": ("block", "full_rows", 0.7),
    "lenient": ({"rule": "lenient", "lenience": 0.5}, "full_rows", 0.7),
    "typical": ({"rule": "typical"}, "token_ids", 0.7),
}  # fmt: skip
BROKEN = (math.nan, math.inf, -math.inf)
REQUEST = 7
DRAFTED = Draft((2, 0))


def rules_of(name: str) -> Rules:
    accept, payload, temperature = RULES[name]
    known = Given.model_validate({"accept": accept, "payload": payload})
    return Rules(known.accept, known.payload, Sampling(temperature=temperature))


class Planted(Table):
    """The toy's rows; the one of a role after so many tokens has one value that is not finite."""

    def __init__(self, role: str = "", position: int = 0, value: float = 0.0):
        super().__init__()
        self.role, self.position, self.value = role, position, value

    def row(self, role: str, row: Logits, position: int) -> Logits:
        if (role, position) != (self.role, self.position):
            return row
        changed = row.copy()
        changed[3] = self.value
        return changed

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        rows = super().target_rows(conversation, tokens, count)
        return [self.row("target", row, len(tokens) - count + 1 + at) for at, row in enumerate(rows)]

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        return self.row("draft", super().draft_row(conversation, tokens, verified), len(tokens))

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Logits]:
        history = [*tokens, *tree.tokens]
        rows = [self.target[tokens[-1]], *(self.target[token] for token in tree.tokens)]
        places = [len(tokens), *(len(tokens) + len(tree.path(place)) for place in range(len(tree.tokens)))]
        assert len(history) >= len(places)
        return [self.row("target", row, place) for row, place in zip(rows, places, strict=True)]


def decisions(name: str, rows: Planted) -> Decisions:
    return Decisions(rows, rules_of(name), 3, lambda token: False)


def asked(found: Decisions) -> object:
    """Everything that a policy may ask after four tokens: a draft, a verdict of two drafted tokens, a token alone."""
    text = Text(REQUEST, [START, 0, 2, 1])
    return found.draft(text, 2), found.verify(text, DRAFTED), found.next_token(text)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("rule", RULES)
def test_one_broken_logit_is_named_with_role_request_and_position(rule: str, value: float) -> None:
    asked(decisions(rule, Planted()))  # the control: nothing planted, nothing said
    for role, position in (("target", 4), ("target", 6), ("draft", 4), ("draft", 5)):
        with pytest.raises(BrokenLogits) as error:
            asked(decisions(rule, Planted(role, position, value)))
        assert error.value.args[:4] == (role, REQUEST, position, 3)
        assert str(error.value).startswith(
            f"{role}: request {REQUEST}, position {position}: found {value} as the logit"
        )


@pytest.mark.parametrize("position", [4, 5, 6])
def test_a_tree_s_rows_are_looked_at_as_well(position: int) -> None:
    text, tree = Text(REQUEST, [START, 0, 2, 1]), TokenTree((2, 3, 0), (-1, -1, 0))
    assert decisions("gumbel", Planted()).verify_tree(text, tree)
    with pytest.raises(BrokenLogits, match=f"request {REQUEST}, position {position}:"):
        decisions("gumbel", Planted("target", position, math.nan)).verify_tree(text, tree)
    with pytest.raises(BrokenLogits, match="draft: request"):
        decisions("gumbel", Planted("draft", 4, math.nan)).draft_tree(text, Branches((2, 1)))


@pytest.mark.parametrize("rule", ["greedy", "ratio", "gumbel", "sample_match"])
def test_rows_of_many_conversations_at_once_are_looked_at_one_by_one(rule: str) -> None:
    choices, table = Choices(rules_of(rule), 3), Table().target
    places = [RowPosition(request, [START] * position) for request, position in ((4, 11), (8, 12), (9, 13), (9, 14))]
    choices.emitted(table, table, places)
    choices.proposed(table, places)
    broken = table.copy()
    broken[2, 1] = -math.inf
    with pytest.raises(BrokenLogits, match="target: request 9, position 13: found -inf as the logit of token 1"):
        choices.emitted(broken, table, places)
    with pytest.raises(BrokenLogits, match="draft: request 9, position 13:"):
        choices.proposed(broken, places)
    if choices.tests_the_draft:
        with pytest.raises(BrokenLogits, match="draft: request 9, position 13:"):
            choices.emitted(table, broken, places)


def network() -> Network:
    """A network of two layers and eleven words."""
    torch.manual_seed(5)
    config = NetworkConfig(
        vocab_size=11, hidden_size=8, intermediate_size=16, layers=2, heads=2, kv_heads=1, head_dim=4, max_positions=32,
    )  # fmt: skip
    made = Network(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return made.eval()


def live(target: Network) -> LiveSource:
    """A live source of this network as target and a sound one as draft."""
    stand_ins: Any = SimpleNamespace(
        head=None,
        networks={"target": weights_of(target), "draft": weights_of(network())},
        columns=dict.fromkeys(("target", "draft"), CommonVocabulary(11)),
        drafts=True,
        tokenizer=SimpleNamespace(end_tokens=frozenset(), decode=str),
        forecasts=None,
    )
    return LiveSource(stand_ins, Sampling(), 32, 1)


@pytest.mark.filterwarnings("error")  # not a word from NumPy either
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_both_ways_of_a_network_name_the_pass_that_a_broken_weight_reaches(value: float) -> None:
    """A word whose embedding is broken: what stands before it is sound, and the row after it is not."""
    broken = network()
    with torch.no_grad():
        broken.embedding.weight[9, 0] = value
    text = Text(2, [1, 2, 3])
    assert live(broken).verify(text, Draft((4, 5))) == live(network()).verify(text, Draft((4, 5)))
    # Many rows, in PyTorch: rows before the word do not see it, but 0 times NaN is NaN, so the whole pass is lost.
    with pytest.raises(
        BrokenLogits, match=r"target: request 2, position 3: found nan as the logit of token 0 \(and 10"
    ):
        live(broken).verify(text, Draft((4, 9, 5)))
    source = live(broken)
    source.next_token(text)
    with pytest.raises(BrokenLogits, match="target: request 2, position 4:"):
        source.next_token(Text(2, [1, 2, 3, 9]))  # one row, in NumPy


@pytest.mark.filterwarnings("error")
def test_a_logit_beyond_float32_is_infinite_and_named() -> None:
    """Of a network in float64: 1e39 is a number there, and none where rows are handed out."""
    wide = network().double()
    with torch.no_grad():
        wide.head.weight.fill_(1e39)
    reader = Reader(lambda tokens, keep, count: Decoder(weights_of(wide), 32).feed(tokens, count), 11)
    (row,) = reader.rows([1, 2], 1)
    with pytest.raises(BrokenLogits):
        require_finite(row, "target", 0, 2)


def test_rows_that_are_large_but_finite_are_no_fault() -> None:
    require_finite(np.full(100, 3e38, np.float32), "target", 0, 0)
    require_finite(np.full(100, -3e38, np.float32), "target", 0, 0)
    require_finite(np.zeros(0, np.float32), "target", 0, 0)


def test_a_broken_model_is_a_message_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise BrokenLogits("draft", 3, 41, 17, math.nan, 12, 2048)

    assert guarded(command) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "draft: request 3, position 41: found nan as the logit of token 17 (and 11 more of 2048)"
    )
    assert "Traceback" not in told.err


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(st.lists(FINITE, min_size=4, max_size=4), min_size=2, max_size=2),
    rule=st.sampled_from(list(RULES)),
    temperature=st.sampled_from([1e-5, 0.7, 10.0]),
    penalty=st.sampled_from([None, 0.01, 1.3, 100.0]),
    number=st.sampled_from(["fp16", "fp32", "counts8"]),
)
@example([[3.4e38, -3.4e38, 0, 1e-45], [-3.4e38, 3.4e38, 3.4e38, 0]], "lenient", 1e-5, 0.01, "fp16")
def test_finite_logits_make_finite_distributions_and_finite_reports(
    rows: list[list[float]], rule: str, temperature: float, penalty: float | None, number: str
) -> None:
    """Whatever is done to them: penalties, temperatures, and the numbers of the wire."""
    accept, payload, warm = RULES[rule]
    payload = {"scheme": payload, "format": number} if payload == "full_rows" else payload
    known = Given.model_validate({"accept": accept, "payload": payload})
    sampling = Sampling(temperature=temperature if warm else 0.0, repetition_penalty=penalty)
    table = Planted()
    table.target[:], table.draft[:] = np.array(rows[0], np.float32), np.array(rows[1], np.float32)
    assert distribution_of(table.target[0], sampling, [1, 2]).sum() == pytest.approx(1.0)
    found = Decisions(table, Rules(known.accept, known.payload, sampling), 3, lambda token: False)
    text = Text(1, [START, 0, 2])
    draft = found.draft(text, 3)
    verdict = found.verify(text, draft)
    assert all(map(math.isfinite, (*draft.confidences, *draft.entropies, *verdict.distances)))
    assert not any(map(math.isnan, verdict.margins))
    assert 0 <= verdict.token < VOCABULARY


@pytest.mark.parametrize(
    "change",
    ["sampling={temperature: 0.7, repetition_penalty: 5e-324}", "sampling={temperature: 1e-320}",
     "accept={rule: lenient, lenience: 1e-300}"],
)  # fmt: skip
def test_settings_that_no_arithmetic_survives_are_refused(change: str) -> None:
    warm = ("accept=ratio", "payload=full_rows", "sampling={temperature: 0.7}")
    shipped("orin_8295_greedy", *warm)
    with pytest.raises(ScenarioError, match=r"temperature|repetition_penalty|lenience"):
        shipped("orin_8295_greedy", *warm, change)


def test_a_number_that_does_not_exist_is_null_with_a_reason() -> None:
    text = as_json({"notes": ["first"], "a": {"b": [1.0, math.nan]}, "c": math.inf, "d": 2.5})
    assert '"d": 2.5' in text
    assert "NaN" not in text
    assert "Infinity" not in text
    assert '"a.b[1] is null: it was computed as nan' in text
    assert '"c is null: it was computed as inf' in text
    assert as_json({"d": 2.5}) == '{\n  "d": 2.5\n}\n'


def test_boards_rows_are_named_by_the_position_after_them() -> None:
    rows = np.zeros((3, 5), np.float32)
    assert not_finite(rows, 20) == ""
    rows[1, 4] = math.inf
    assert not_finite(rows, 20) == "logits that are not finite: inf of token 4 at position 19"


@pytest.mark.parametrize("want", ["logits", "tokens", "nothing"])
def test_an_engine_that_computes_nan_breaks_whatever_is_wanted_of_it(want: str) -> None:
    facts, logits = EngineFacts(vocabulary=4, context=8), np.zeros((2, 4), np.float32)
    named_tensor(Output(logits=logits), 2, want, facts)
    logits[1, 2] = math.nan
    with pytest.raises(EngineFault, match="not finite"):
        named_tensor(Output(logits=logits), 2, want, facts)
