"""Random bytes and random messages on every gRPC method: only documented codes, never an internal error.

A few seconds each; ``FUZZ_SECONDS=180 pytest tests/wire/test_grpc_fuzz.py`` is the long run, also of JSON-RPC.
The seeds are fixed, or ``FUZZ_SEED``.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reefknot.testing.grpc_client import GrpcClient, messages, methods
from reefknot.testing.server import ServerProcess

SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
#: What a method may answer. DEADLINE_EXCEEDED is the client's own: a submit that waits, a watch that goes on.
CODES = {"OK", "UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED"}
CODES |= {"INTERNAL", "DEADLINE_EXCEEDED"}
PATIENCE_SECONDS = 5

MODES = ["saga", "msg", "tcc", "xa", "workflow", "", "sagas"]
GIDS = ["a", "b", "c", "a;b", "", "g" * 129, "é", "\x00"]
TEXTS = [
    *MODES,
    *GIDS,
    "{}",
    "null",
    '{"concurrent":true}',
    '{"delay":1}',
    "x",
    "prepared",
    "succeed",
    "failed",
    "topics",
]
TEXTS += ["http://127.0.0.1:9/a", "topic://t", "127.0.0.1:9/a.B/C", "discovery:///a/b.C/D", "\N{GRINNING FACE}" * 50]
STEPS = [
    "",
    "null",
    "[]",
    '[{"action":"","compensate":""}]',
    '[{"action":"http://127.0.0.1:9/a"}]',
    "[1]",
    "[[[[",
    "{}",
]
STEPS += ['[{"action":"topic://t"}]', '[{"action":"127.0.0.1:9/a.B/C"}]', '[{"a":null},null]', "[" * 5000]
NUMBERS = [0, 1, 2, 1000, 1001, -1, 2**31 - 1, -(2**31)]
LARGE = [*NUMBERS, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]


class Messages:
    """Makes random messages of any type: values that reach something, and values that do not."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def fields(self, descriptor):
        chosen = [field for field in descriptor.fields if self.chance.random() < 0.75]
        return {field.name: self.value(field) for field in chosen}

    def value(self, field):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            keys = ["status", "result", "op", "confirm", "cancel", "url", "x", "dtm-gid", "Host", "", "a b"]
            return {self.chance.choice(keys): self.text("x") for _ in range(self.chance.randrange(3))}
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == FieldDescriptor.LABEL_REPEATED
        if repeated:
            return [self.one(field) for _ in range(self.chance.randrange(4))]
        return self.one(field)

    def one(self, field):
        if field.message_type is not None:
            return field.message_type._concrete_class(**self.fields(field.message_type))
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.text(field.name)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.chance.randbytes(self.chance.choice([0, 1, 40, 5000]))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.chance.random() < 0.5
        if field.name == "RequestTimeout":
            return self.chance.choice([0, 1, -1])  # what waits for unreachable participants would only wait
        return self.chance.choice(LARGE if field.type == FieldDescriptor.TYPE_INT64 else NUMBERS)

    def text(self, name):
        likely = {"gid": GIDS[:3], "Gid": GIDS[:3], "TransType": MODES[:5], "Steps": STEPS, "mode": MODES}.get(
            name, TEXTS
        )
        return self.chance.choice(likely if self.chance.random() < 0.9 else TEXTS)

    def body(self, service, method):
        """The bytes of a message, sometimes damaged, sometimes of another method, sometimes of none."""
        draw = self.chance.random()
        if draw < 0.1:
            return self.chance.randbytes(self.chance.randrange(80))
        if draw < 0.2:
            service, method = self.chance.choice(methods())
        asked, _ = messages(service, method)
        body = bytearray(asked(**self.fields(asked.DESCRIPTOR)).SerializeToString())
        if draw < 0.45 and body:
            for _ in range(self.chance.randrange(1, 6)):
                body[self.chance.randrange(len(body))] = self.chance.randrange(256)
            if self.chance.random() < 0.3:
                del body[self.chance.randrange(len(body)) :]
        return bytes(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    quick = {"REEFKNOT_WAIT_RESULT_TIMEOUT": "1", "REEFKNOT_REQUEST_TIMEOUT": "1"}
    with ServerProcess(f"sqlite:///{folder}/store.db", environment=quick, log=folder / "log", grpc=True) as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()
        assert "Traceback" not in server.log_text()


@pytest.fixture(scope="module")
def client(server):
    with GrpcClient(server.grpc_address) as client:
        yield client


def ended(client, service, method, body):
    """Send the bytes; the code that the call ended with."""
    try:
        if method == "Watch":
            stream = client.channel.unary_stream(f"/{service}/{method}")(body, timeout=0.05)
            for _ in stream:
                pass
        else:
            _, reply = messages(service, method)
            reply.FromString(client.raw(service, method, body, seconds=PATIENCE_SECONDS))
    except grpc.RpcError as error:
        code, text = error.code().name, error.details()
        assert code in CODES, (service, method, body, code, text)
        assert "internal error" not in text, (service, method, body)
        assert text, (service, method, body, code)
        if code == "ABORTED":
            assert text.endswith("FAILURE"), text
        if code == "FAILED_PRECONDITION":
            assert text.endswith("ONGOING"), text
        return code
    return "OK"


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(method=st.sampled_from(methods()), body=st.binary(max_size=200))
def test_random_bytes(client, method, body):
    ended(client, *method, body)


def test_random_messages_on_every_method(client, server, record_testsuite_property):
    """All methods in turn, until the time is over."""
    chance = random.Random(SEED)
    made, counts = Messages(chance), Counter()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for service, method in methods():
            counts[method, ended(client, service, method, made.body(service, method))] += 1
    by_code = Counter(code for _, code in counts.elements())
    record_testsuite_property("grpc calls", f"{counts.total()} with seed {SEED}: {dict(sorted(by_code.items()))}")
    codes = {code for _, code in counts}
    assert {"OK", "INVALID_ARGUMENT", "INTERNAL", "ABORTED", "NOT_FOUND"} <= codes
    assert {name for name, _ in counts} == {name for _, name in methods()}
    assert server.alive


def test_the_server_still_works(client, server):
    steps = '[{"action":"","compensate":""}]'
    saga = {"Gid": "after all", "TransType": "saga", "Steps": steps, "BinPayloads": [b"1"]}
    client.dtm("Submit", {**saga, "TransOptions": {"WaitResult": True}})
    assert server.status("after all") == "succeed"
