"""A second agent, written from docs/protocol.md alone: nothing of hilsim is imported. With faults to be found in it.

Its model is a chain: the logits of a row depend on every token before it, so a cache that holds anything else shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import threading
import time
from typing import Any

VOCABULARY, CONTEXT, MOST_BODY = 64, 256, 65536


class Fatal(Exception):
    pass


class TinyAgent:
    """`fault` names one thing that it does wrong; "" none."""

    def __init__(self, fault: str = "", token: bytes | None = None):
        self.fault, self.token = fault, token
        self.tokens: list[int] = []
        self.states: list[int] = []
        self.seat = threading.Semaphore(2 if fault == "second_client" else 1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self.admit, args=(client,), daemon=True).start()

    def admit(self, client: socket.socket) -> None:
        if not self.seat.acquire(timeout=0.3):
            self.send(client, {"kind": "refused", "code": "busy", "message": "another is here"})
            client.close()
            return
        try:
            with contextlib.suppress(OSError, EOFError):
                self.talk(client)
        finally:
            client.close()
            if self.fault == "stays":
                time.sleep(0.5)
            self.seat.release()

    def talk(self, client: socket.socket) -> None:
        nonce = "0" * 32 if self.fault == "one_nonce" else os.urandom(16).hex()
        welcome = {"kind": "welcome", "protocol": [1], "nonce": nonce, "token": self.token is not None, "agent": "tiny"}
        self.send(client, welcome)
        greeted = False
        while True:
            try:
                header, body = self.receive(client)
                kind = header.get("kind")
                if not greeted:
                    proof = hmac.new(self.token or b"", nonce.encode(), hashlib.sha256).hexdigest()
                    if kind != "hello" or (self.token and self.fault != "any_token" and header.get("proof") != proof):
                        raise Fatal("denied")
                    if header.get("protocol") != 1:
                        raise Fatal("version")
                    greeted, answer, data = True, self.ready(), b""
                else:
                    answer, data = self.answer(str(kind), header, body)
            except Fatal as fatal:
                code = str(fatal)
                if self.fault == "dies" and code == "garbage":
                    self.listener.shutdown(socket.SHUT_RDWR)  # which also wakes who waits in accept
                self.send(client, {"kind": "error", "id": None, "code": code, "message": "", "fatal": True})
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
                return
            id = 5 if self.fault == "other_id" else header["id"]
            self.send(client, answer | {"id": id}, data)
            if answer["kind"] == "bye":
                return

    def ready(self) -> dict[str, Any]:
        clock = {"source": "monotonic", "resolution_ns": 1}
        return {"kind": "ready", "protocol": 1, "device": {"name": "tiny"}, "clock": clock, "models": ["chain"],
                "heartbeat_s": 1, "most_body_bytes": MOST_BODY}  # fmt: skip

    def answer(self, kind: str, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        if kind in ("load", "step", "reset") and header.get("model") != "chain":
            return error("unknown_model"), b""
        if kind == "ping":
            return {
                "kind": "pong",
                "clock_ns": time.monotonic_ns() // (1000 if self.fault == "microseconds" else 1),
            }, b""
        if kind == "load":
            return {"kind": "loaded", "model": "chain", "vocabulary": VOCABULARY, "context": CONTEXT, "widths": None,
                    "gives": ["logits", "tokens"], "tokenizer": None, "digest": None, "load_ns": 1}, b""  # fmt: skip
        if kind == "reset":
            if self.fault != "deaf_reset":
                self.tokens, self.states = [], []
            return {"kind": "done", "clock_ns": time.monotonic_ns()}, b""
        if kind == "step":
            return self.step(header, body)
        return ({"kind": "bye"} if kind == "bye" else error("unknown_kind")), b""

    def step(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        cached, wanted, want = header["cached"], header["wanted"], header["want"]
        tokens = list(struct.unpack(f"<{len(body) // 4}i", body))
        right = header.get("tensors") and type(cached) is int and type(wanted) is int and len(tokens) <= CONTEXT
        right = right and 0 <= cached < len(tokens) and 1 <= wanted <= len(tokens) - cached
        right = right and (self.fault == "any_word" or all(0 <= token < VOCABULARY for token in tokens))
        if not right or want not in ("logits", "tokens", "nothing"):
            return error("bad_request"), b""
        shared = 0
        while shared < min(cached, len(self.tokens)) and self.tokens[shared] == tokens[shared]:
            shared += 1
        if self.fault != "stale_cache":
            del self.states[shared:]
        start_ns = time.perf_counter_ns()
        for at, token in enumerate(tokens[shared:], shared):
            if at == cached:
                start_ns = time.perf_counter_ns()
            self.states.append(((self.states[-1] if self.states else 7) * 1_000_003 + token + 1) % 2**31)
        self.tokens = tokens
        rows = [self.row(state) for state in self.states[-wanted:]]
        duration_ns = (time.perf_counter_ns() - start_ns) * (10_000 if self.fault == "long_duration" else 1)
        done = {"kind": "done", "duration_ns": duration_ns, "prepare_ns": 0, "clock_ns": time.monotonic_ns(),
                "prepared_rows": 0 if self.fault == "nothing_prepared" else cached - shared,
                "energy_mj": None, "temperature_c": None}  # fmt: skip
        if want == "logits":
            done["tensors"] = [{"name": "logits", "dtype": "f4", "shape": [wanted, VOCABULARY]}]
            return done, b"".join(struct.pack(f"<{VOCABULARY}f", *row) for row in rows)
        if want == "nothing":
            return done, b""
        done["tensors"] = [{"name": "ids", "dtype": "i4", "shape": [wanted]}]
        place = -2 if self.fault == "second_best" else -1
        return done, struct.pack(f"<{wanted}i", *(row.index(sorted(row)[place]) for row in rows))

    def row(self, state: int) -> list[float]:
        salt = int.from_bytes(os.urandom(2), "big") if self.fault == "moody" else 0
        return [float((state ^ salt ^ (token * 2_654_435_761)) * 40_503 % 65_521) for token in range(VOCABULARY)]

    def send(self, client: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
        text = json.dumps(header).encode()
        client.sendall(struct.pack(">4sHHIQ", b"HILS", 1, 0, len(text), len(body)) + text + body)

    def receive(self, client: socket.socket) -> tuple[dict[str, Any], bytes]:
        magic, version, zero, header_bytes, body_bytes = struct.unpack(">4sHHIQ", exactly(client, 20))
        if magic != b"HILS" or zero:
            raise Fatal("garbage")
        if version != 1:
            raise Fatal("version")
        if header_bytes > 65536 or body_bytes > MOST_BODY:
            raise Fatal("too_large")
        try:
            header = json.loads(exactly(client, header_bytes))
        except ValueError:
            raise Fatal("garbage") from None
        return header, exactly(client, body_bytes)


def exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def error(code: str) -> dict[str, Any]:
    return {"kind": "error", "code": code, "message": "", "fatal": False}
