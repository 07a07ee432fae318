"""Random calls of every JSON-RPC method: only documented codes, never an internal error.

A few seconds; ``FUZZ_SECONDS=180 pytest tests/wire/test_jsonrpc_fuzz.py`` is the long run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter

import pytest

from reefknot.testing.server import ServerProcess

SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CODES = {-32700, -32600, -32601, -32603, -32901}

METHODS = [
    "newGid",
    "prepare",
    "submit",
    "abort",
    "registerBranch",
    "prepareWorkflow",
    "forceStop",
    "resetNextCronTime",
]
METHODS += ["query", "wait", "all", "resetCronTime", "subscribe", "unsubscribe", "deleteTopic", "scanKV", "queryKV"]
MODES = ["saga", "msg", "tcc", "xa", "workflow"]
TEXTS = [
    *MODES,
    "",
    "a",
    "b",
    "a;b",
    "g" * 129,
    "\0",
    "é",
    "{}",
    '{"concurrent":true}',
    "http://127.0.0.1:9/a",
    "topic://t",
]
TEXTS += ["prepared", "succeed", "topics", "x", "127.0.0.1:9/a.B/C"]
NUMBERS = [0, 1, 1000, 1001, -1, 1.5, 2**53, 2**63, 2**70, -(2**70), 1e300]
FIELDS = ["steps", "payloads", "query_prepared", "protocol", "custom_data", "rollback_reason", "wait_result"]
FIELDS += ["timeout_to_fail", "retry_interval", "retry_limit", "branch_headers", "concurrent", "req_extra", "context"]
FIELDS += ["branch_id", "data", "confirm", "cancel", "url", "op", "status", "topic", "remark", "cat", "key", "position"]
FIELDS += ["limit", "timeout", "seconds", "transType", "createTimeStart", "createTimeEnd", "GID", "Steps"]


class Requests:
    """Makes random bodies: calls that reach something, and calls that do not."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def value(self, depth=0):
        kind = self.chance.randrange(9 if depth < 3 else 6)
        if kind < 3:
            return self.chance.choice(TEXTS)
        if kind < 5:
            return self.chance.choice(NUMBERS)
        if kind == 5:
            return self.chance.choice([None, True, False])
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.chance.randrange(4))]
        return {self.chance.choice([*FIELDS, *TEXTS]): self.value(depth + 1) for _ in range(self.chance.randrange(4))}

    def steps(self):
        count = self.chance.randrange(3)
        return [{"action": self.chance.choice(["", "", "", *TEXTS[-8:]]), "compensate": ""} for _ in range(count)]

    def params(self):
        if self.chance.random() < 0.1:
            return self.value()
        # Now and then one that nobody has used yet, so that something begins.
        gid = f"g{self.chance.randrange(10 if self.chance.random() < 0.6 else 10**9)}"
        fields = {"gid": gid, "trans_type": self.chance.choice(MODES), "request_timeout": 1}
        fields |= {"steps": self.steps(), "payloads": ["1", "2", "3"], "branch_id": self.chance.choice(["01", "02"])}
        fields |= {"topic": self.chance.choice(["t", "u"]), "url": f"http://127.0.0.1:9/{self.chance.randrange(100)}"}
        for name in self.chance.sample(FIELDS, self.chance.choice([0, 0, 0, 1, 4])):
            fields[name] = self.chance.choice(TEXTS) if self.chance.random() < 0.5 else self.value()
        for name in self.chance.sample(sorted(fields), self.chance.choice([0, 0, 0, 1, 2])):
            del fields[name]
        return fields

    def body(self, method):
        call = {"jsonrpc": "2.0", "id": "1", "method": method, "params": self.params()}
        if self.chance.random() < 0.1:
            call[self.chance.choice(sorted(call))] = self.value()
        body = bytearray(json.dumps(call).encode())
        if self.chance.random() < 0.2:
            for _ in range(self.chance.randrange(1, 4)):
                body[self.chance.randrange(len(body))] = self.chance.randrange(256)
        return bytes(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    quick = {"REEFKNOT_WAIT_RESULT_TIMEOUT": "1", "REEFKNOT_REQUEST_TIMEOUT": "1"}
    with ServerProcess(f"sqlite:///{folder}/store.db", environment=quick, log=folder / "log") as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()
        assert "Traceback" not in server.log_text()


def test_random_calls_of_every_method(server, record_testsuite_property):
    """All methods in turn, until the time is over."""
    made, counts = Requests(random.Random(SEED)), Counter()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for method in METHODS:
            body = made.body(method)
            answer = server.send("POST", "/api/json-rpc", body)
            reply = answer.json()
            assert answer.status in (200, 400), body
            assert reply.keys() == {"jsonrpc", "id", "result", "error"}, body
            assert b"internal error" not in answer.body, body
            error = reply["error"]
            if error is not None:
                assert error["code"] in CODES, body
                assert error["message"], body
                assert (error["code"] == -32901) == error["message"].endswith("FAILURE"), body
            counts[method, error["code"] if error else 0] += 1
    by_code = Counter(code for _, code in counts.elements())
    record_testsuite_property("json-rpc calls", f"{counts.total()} with seed {SEED}: {dict(sorted(by_code.items()))}")
    assert {code for _, code in counts} == CODES | {0}
    assert {method for method, code in counts if not code} >= {"newGid", "prepare", "submit", "query", "all", "scanKV"}


def test_the_list_is_that_of_the_server():
    from reefknot.testing.server import LocalServer

    with LocalServer() as local:
        assert set(local.node.api._jsonrpc._methods) == set(METHODS)
