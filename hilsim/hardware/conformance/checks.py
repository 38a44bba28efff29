"""The checks themselves: each a function whose docstring is shown as its requirement. Returns what it found, or raises
`Failed`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from hilsim.hardware.conformance.exchanges import (
    TOKEN,
    AgentConnection,
    AgentUnderTest,
    Failed,
    NotApplicable,
    StepAnswer,
    Unmet,
    conversation,
    describe,
    require,
    reset,
    same,
    whole_numbers,
)
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Frame, encoded

CONVERSATIONS = 8  # on which requirements on the model's output are tried


def welcome_comes_first(subject: AgentUnderTest) -> str:
    """An agent sends the first message, and gives every client another nonce."""
    nonces = set()
    for _ in range(2):
        with subject.admitted() as client:
            fields = client.welcome.fields
            require(1 in list(fields.get("protocol") or []), f"protocol {fields.get('protocol')!r} without 1")
            nonce = fields.get("nonce")
            require(isinstance(nonce, str) and re.fullmatch("[0-9a-f]{32}", nonce) is not None, f"nonce {nonce!r}")
            asks = fields.get("token")
            if asks is True and subject.token is None:
                raise Unmet(f"it asks for a token, and none is given. {TOKEN}")
            require(asks is (subject.token is not None), f"token {asks!r}, with {'a' if subject.token else 'no'} token")
            nonces.add(nonce)
    require(len(nonces) == 2, "the same nonce twice")
    return str(fields.get("agent"))


def ready_describes_the_device(subject: AgentUnderTest) -> str:
    """After a valid hello an agent sends its device, clock, models and limits."""
    with subject.greeted() as client:
        fields = client.ready.fields
    number = (int, float)
    kinds: dict[str, type | tuple[type, ...]] = {
        "device": dict, "clock": dict, "models": list, "heartbeat_s": number, "most_body_bytes": int,
    }  # fmt: skip
    wrong = [name for name, kind in kinds.items() if not isinstance(fields.get(name), kind)]
    require(not wrong, f"no {', '.join(wrong)} as the protocol has them")
    require(bool(fields["models"]) and fields["heartbeat_s"] > 0 and fields["most_body_bytes"] >= 4096, "limits of 0")
    require(fields["clock"].get("resolution_ns", 0) >= 1, "a clock without resolution_ns")
    return f"{fields['device'].get('name')}: {', '.join(map(str, fields['models']))}"


def long_loads_send_heartbeats(subject: AgentUnderTest) -> str:
    """While a model loads the client gets `alive` at every heartbeat."""
    with subject.loaded():
        pass
    if subject.load_s < 2 * subject.heartbeat_s:
        raise NotApplicable(f"loaded within {subject.load_s:.1f} s")
    expected = int(subject.load_s / subject.heartbeat_s) - 1
    require(subject.alive >= expected, f"{subject.alive} heartbeats in {subject.load_s:.1f} s")
    return f"{subject.alive} heartbeats in {subject.load_s:.1f} s"


def another_version_is_refused(subject: AgentUnderTest) -> str:
    """A frame or a hello of another protocol version gets an error `version`, and the connection ends."""
    with subject.admitted() as client:
        client.send(encoded(Frame("hello", {"id": 1, **client.hello()}), version=99))
        client.expect_error(client.read(), "version", fatal=True)
    with subject.admitted() as client:
        client.expect_error(client.ask("hello", **client.hello() | {"protocol": 99}), "version", fatal=True)
    return "both"


def garbage_ends_one_connection_only(subject: AgentUnderTest) -> str:
    """Bytes that are no frame get an error `garbage`, and the next client is served."""
    no_json = PREAMBLE.pack(MAGIC, 1, 0, 4, 0) + b"}{}{"
    for garbage in (b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n", no_json):
        with subject.greeted() as client:
            client.send(garbage)
            client.expect_error(client.read(), "garbage", fatal=True)
    with subject.greeted() as client:
        client.expect_life()
    return "two kinds of it"


def too_large_is_refused_by_its_length(subject: AgentUnderTest) -> str:
    """A header or body beyond the limits is refused when it is announced, not when it has come."""
    with subject.greeted() as client:
        most = int(client.ready.fields["most_body_bytes"])
    for header, body in ((2**32 - 1, 0), (64 * 1024 + 1, 0), (10, most + 1), (10, 2**64 - 1)):
        with subject.greeted() as client:
            client.send(PREAMBLE.pack(MAGIC, 1, 0, header, body))
            client.expect_error(client.read(), "too_large", fatal=True)
    return f"headers from 65,537, bodies from {most + 1:,} bytes"


def half_a_frame_harms_no_other_client(subject: AgentUnderTest) -> str:
    """After a client that closes in the middle of a frame the next client is served."""
    whole = encoded(Frame("ping", {"id": 2}))
    for length in (1, PREAMBLE.size, len(whole) - 1):
        with subject.greeted() as client:
            client.send(whole[:length])
            client.connection.close()
    with subject.greeted() as client:
        client.expect_life()
    return "three lengths"


def unknown_kinds_are_refused(subject: AgentUnderTest) -> str:
    """A kind that does not exist gets an error `unknown_kind`, and the connection goes on."""
    with subject.greeted() as client:
        client.expect_error(client.ask("fly"), "unknown_kind", fatal=False)
        client.expect_life()
    return "fly"


def unknown_models_are_refused(subject: AgentUnderTest) -> str:
    """A model that the agent was not started with gets an error `unknown_model`, and the connection goes on."""
    with subject.greeted() as client:
        client.expect_error(client.ask("load", model="../no such model"), "unknown_model", fatal=False)
        client.expect_life()
    return "load"


def unknown_keys_are_ignored(subject: AgentUnderTest) -> str:
    """Unknown fields are ignored."""
    with subject.admitted() as client:
        answer = client.ask("hello", **client.hello(), colour="green")
        require(answer.kind == "ready", f"{describe(answer)} to a hello with one key more")
        answer = client.ask("ping", deep={"list": [1, None]})
        require(answer.kind == "pong", f"{describe(answer)} to a ping with one key more")
    return "in hello and ping"


def loading_twice_changes_nothing(subject: AgentUnderTest) -> str:
    """A second load returns the same facts."""
    with subject.loaded() as client:
        again = subject.remember(client).fields
        names = ("model", "vocabulary", "context", "widths", "gives", "tokenizer", "digest")
        changed = [name for name in names if name not in again or again[name] != subject.facts.get(name)]
        require(not changed, f"other or no {', '.join(changed)}")
        gives = subject.facts["gives"]
        require("tokens" in gives and set(gives) <= {"logits", "tokens"}, f"gives {gives!r}")
    return f"vocabulary {subject.facts['vocabulary']}, context {subject.facts['context']}, gives {', '.join(gives)}"


def answers_have_the_shape_that_was_asked_for(subject: AgentUnderTest) -> str:
    """Logits, ids or nothing come back, one row for each wanted position."""
    with subject.loaded() as client:
        wants = ["logits", "tokens", "nothing"] if subject.gives_logits else ["tokens", "nothing"]
        tokens = conversation(subject, 0)
        for want in wants:
            client.step(tokens[:-4], 0, 1, want)
            client.step(tokens, len(tokens) - 4, 4, want)
            client.step(tokens, len(tokens) - 4, 2, want)
    return ", ".join(wants)


def ids_are_the_likeliest(subject: AgentUnderTest) -> str:
    """The id of each row is its largest logit's, the first where several are equal."""
    with subject.loaded() as client:
        if not subject.gives_logits:
            raise NotApplicable("gives no logits")
        for number in range(CONVERSATIONS):
            tokens = conversation(subject, number)
            rows = client.step(tokens, len(tokens) - 4, 4, "logits")
            ids = client.step(tokens, len(tokens) - 4, 4, "tokens").ids
            same(rows, ids, "logits and ids of one step")
    return f"{4 * CONVERSATIONS} rows"


def a_step_repeats(subject: AgentUnderTest) -> str:
    """The same step twice gives the same tokens."""
    with subject.loaded() as client:
        for number in range(CONVERSATIONS):
            tokens = conversation(subject, number)
            first = client.step(tokens, len(tokens) - 4, 4)
            same(first, client.step(tokens, len(tokens) - 4, 4).ids, "one step twice")
    return f"{CONVERSATIONS} conversations"


def reading_in_two_passes_changes_nothing(subject: AgentUnderTest) -> str:
    """Tokens read in one pass or in two lead to the same next token."""

    def split(client: AgentConnection, tokens: list[int]) -> tuple[StepAnswer, StepAnswer]:
        reset(client)
        whole = client.step(tokens, 0)
        reset(client)
        client.step(tokens[:-5], 0)
        return whole, client.step(tokens, len(tokens) - 5)

    return compared(subject, split, "reading at once and in two passes")


def another_continuation_and_back(subject: AgentUnderTest) -> str:
    """After a rewind the removed tokens have no effect."""

    def there_and_back(client: AgentConnection, tokens: list[int]) -> tuple[StepAnswer, StepAnswer]:
        start, vocabulary = len(tokens) - 6, int(subject.facts["vocabulary"])
        other = tokens[:start] + [(token + 1) % vocabulary for token in tokens[start:]]
        reset(client)
        fresh = client.step(tokens, 0)
        client.step(other, start)
        back = client.step(tokens, start)
        require(back.fields["prepared_rows"] == 0, f"{back.fields['prepared_rows']} rows read that were there")
        return fresh, back

    return compared(subject, there_and_back, "a fresh cache and one that was rewound")


def missing_tokens_are_read_and_counted(subject: AgentUnderTest) -> str:
    """`prepared_rows` are those of the first `cached` tokens that the cache lacked."""
    with subject.loaded() as client:
        tokens = conversation(subject, 1)
        half = len(tokens) // 2
        reset(client)
        for cached, expected in ((half, half), (half, 0), (len(tokens) - 1, 0), (half, 0)):
            found = client.step(tokens, cached).fields["prepared_rows"]
            require(found == expected, f"prepared_rows {found} with {cached} cached; expected {expected}")
        other = [(tokens[0] + 1) % int(subject.facts["vocabulary"]), *tokens[1:]]
        found = client.step(other, half).fields["prepared_rows"]
        require(found == half, f"prepared_rows {found} of another conversation; expected {half}")
    return f"{half}, 0 and {half} again"


def a_reconnect_needs_no_state(subject: AgentUnderTest) -> str:
    """After a reconnect a conversation continues, whatever ran in between."""
    with subject.loaded() as client:
        tokens = conversation(subject, 2)
        reset(client)
        whole = client.step(tokens, 0)
        client.step(conversation(subject, 3), 0)
    with subject.loaded() as client:
        back = client.step(tokens, len(tokens) - 1)
    same(whole, back.ids, "before and after a reconnect")
    return f"{back.fields['prepared_rows']} rows read again"


def a_reset_empties_the_cache(subject: AgentUnderTest) -> str:
    """After a reset everything has to be read again."""
    with subject.loaded() as client:
        tokens = conversation(subject, 4)
        client.step(tokens, 0)
        reset(client)
        found = client.step(tokens, len(tokens) - 1).fields["prepared_rows"]
        require(found == len(tokens) - 1, f"prepared_rows {found}; expected {len(tokens) - 1}")
    return f"{found} rows read again"


def steps_without_sense_are_refused(subject: AgentUnderTest) -> str:
    """Numbers that do not fit together get an error `bad_request`, and the connection goes on."""
    with subject.loaded() as client:
        vocabulary, context = int(subject.facts["vocabulary"]), int(subject.facts["context"])
        tokens = conversation(subject, 5)
        right: dict[str, Any] = {"model": subject.model, "phase": "verify", "cached": 4, "wanted": 1, "want": "tokens"}
        bad: list[tuple[Sequence[int], dict[str, Any]]] = [
            ([*tokens, vocabulary], {}), ([-1, *tokens], {}), ([], {"cached": 0}), ([0] * (context + 1), {}),
            (tokens, {"cached": len(tokens)}), (tokens, {"cached": -1}), (tokens, {"cached": 1.5}),
            (tokens, {"wanted": 0}), (tokens, {"wanted": len(tokens) - 3}), (tokens, {"want": "poems"}),
        ]  # fmt: skip
        for given, change in bad:
            answer = client.ask("step", {"tokens": whole_numbers(given)}, **right | change)
            client.expect_error(answer, "bad_request", fatal=False)
        client.expect_error(client.ask("step", **right), "bad_request", fatal=False)
        client.step(tokens, 4)
    return f"{len(bad) + 1} of them"


def a_second_client_is_refused(subject: AgentUnderTest) -> str:
    """While one client is connected another is refused as `busy`, and the first is not disturbed."""
    with subject.greeted() as client:
        with subject.connected() as second:
            answer = second.read()
            right = answer.kind == "refused" and answer.fields.get("code") == "busy"
            require(right, f"{describe(answer)} to a second client; expected refused, busy")
            second.expect_end()
        client.expect_life()
    return str(answer.fields.get("message"))


def a_wrong_token_is_denied(subject: AgentUnderTest) -> str:
    """Without the token there is an error `denied`, and the connection ends."""
    if subject.token is None:
        raise NotApplicable("asks for no token")
    for change in ({"proof": None}, {"proof": 5}, {"proof": "0" * 64}):
        with subject.admitted() as client:
            client.expect_error(client.ask("hello", **client.hello() | change), "denied", fatal=True)
    with subject.admitted() as client:
        client.expect_error(client.ask("hello", **client.hello(subject.token + b"x")), "denied", fatal=True)
    with subject.admitted() as client:
        client.expect_error(client.ask("ping"), "denied", fatal=True)
    return "five ways"


def the_clock_runs_evenly(subject: AgentUnderTest) -> str:
    """Pings return a clock that never goes back and counts nanoseconds."""
    with subject.greeted() as client:
        start_ns, clocks = time.perf_counter_ns(), []
        for _ in range(10):
            clocks.append(int(client.ask("ping").fields["clock_ns"]))
            time.sleep(0.01)
        clocks.append(int(client.ask("ping").fields["clock_ns"]))
        passed_ns = time.perf_counter_ns() - start_ns
    require(clocks == sorted(clocks), "a clock that went back")
    ran_ns = clocks[-1] - clocks[0]
    require(0.5 * passed_ns < ran_ns < 1.5 * passed_ns, f"a clock that ran {ran_ns} ns in {passed_ns} ns")
    return f"{ran_ns / passed_ns:.3f} s a second"


def no_step_takes_longer_than_the_wait_for_it(subject: AgentUnderTest) -> str:
    """The duration of a step is positive, and no longer than from request to answer."""
    shares = []
    with subject.loaded() as client:
        for number in range(CONVERSATIONS):
            tokens = conversation(subject, number)
            for step in (client.step(tokens[:-4], 0), client.step(tokens, len(tokens) - 4, 4)):
                took_ns = step.fields["duration_ns"] + step.fields["prepare_ns"]
                require(step.fields["duration_ns"] > 0, "a duration of 0 ns")
                require(took_ns <= step.wall_ns, f"{took_ns} ns reported within a wait of {step.wall_ns} ns")
                shares.append(step.fields["duration_ns"] / step.wall_ns)
    return f"{100 * sorted(shares)[len(shares) // 2]:.0f} % of the wait, at the median"


def goodbye_frees_the_agent(subject: AgentUnderTest) -> str:
    """After a goodbye the next client is welcomed at once."""
    for _ in range(3):
        with subject.greeted() as client:
            answer = client.ask("bye")
            require(answer.kind == "bye", f"{describe(answer)} to a goodbye")
            client.expect_end()
        with subject.connected() as client:
            answer = client.read()
            require(answer.kind == "welcome", f"{describe(answer)} to the next client")
    return "three times"


def compared(
    subject: AgentUnderTest, pair: Callable[[AgentConnection, list[int]], tuple[StepAnswer, StepAnswer]], what: str
) -> str:
    """Two ways to one row over several conversations. Where no logits show a tie, one difference may have been one."""
    differences: list[Failed] = []
    with subject.loaded() as client:
        for number in range(CONVERSATIONS):
            first, second = pair(client, conversation(subject, number))
            try:
                same(first, second.ids, what)
            except Failed as failed:
                differences.append(failed)
    if len(differences) > (0 if subject.gives_logits else 1):
        raise differences[0]
    return f"{CONVERSATIONS} conversations, {len(differences)} differences"


CHECKS: tuple[Callable[[AgentUnderTest], str], ...] = (
    welcome_comes_first,
    ready_describes_the_device,
    long_loads_send_heartbeats,  # the first to load
    loading_twice_changes_nothing,
    answers_have_the_shape_that_was_asked_for,
    ids_are_the_likeliest,
    a_step_repeats,
    reading_in_two_passes_changes_nothing,
    another_continuation_and_back,
    missing_tokens_are_read_and_counted,
    a_reset_empties_the_cache,
    a_reconnect_needs_no_state,
    no_step_takes_longer_than_the_wait_for_it,
    steps_without_sense_are_refused,
    unknown_kinds_are_refused,
    unknown_models_are_refused,
    unknown_keys_are_ignored,
    the_clock_runs_evenly,
    a_second_client_is_refused,
    goodbye_frees_the_agent,
    a_wrong_token_is_denied,
    another_version_is_refused,
    too_large_is_refused_by_its_length,
    garbage_ends_one_connection_only,
    half_a_frame_harms_no_other_client,
)
