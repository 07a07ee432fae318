"""Random bodies and query strings: always a documented status and JSON, never an internal error."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reefknot.testing.server import ServerProcess

POSTS = ["prepare", "submit", "abort", "forceStop", "resetNextCronTime", "prepareWorkflow"]
POSTS += ["registerBranch", "registerTccBranch", "registerXaBranch"]
GETS = ["version", "newGid", "query", "all", "resetCronTime", "subscribe", "unsubscribe", "scanKV", "queryKV"]
STATUSES = {200, 400, 408, 409, 413, 425, 500}
MODES = ["saga", "msg", "tcc", "xa", "workflow", "", "sagas"]
TEXTS = ["http://127.0.0.1:9/a", "topic://t", "{}", '{"concurrent":true}', "prepared", "succeed", "1", "\0", "a;b", "é"]
FIELDS = ["gid", "trans_type", "steps", "payloads", "query_prepared", "protocol", "custom_data", "rollback_reason"]
FIELDS += ["wait_result", "timeout_to_fail", "request_timeout", "retry_interval", "retry_limit", "retry_count"]
FIELDS += ["branch_headers", "concurrent", "req_extra", "context", "id", "GID", "Steps"]
FIELDS += ["branch_id", "data", "confirm", "cancel", "url", "op", "status", "sync"]
QUERY_NAMES = ["gid", "limit", "position", "status", "transType", "createTimeStart", "createTimeEnd"]
QUERY_NAMES += ["timeout", "topic", "url", "remark", "cat", "key", "x"]

texts = st.sampled_from(TEXTS) | st.sampled_from(MODES) | st.text(max_size=20)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=True)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
steps = st.lists(st.dictionaries(st.sampled_from(["action", "compensate", "data"]), texts, max_size=3), max_size=4)
likely = {
    "gid": st.sampled_from(["a", "b", "c"]),
    "trans_type": st.sampled_from(MODES),
    "steps": steps,
    "payloads": st.lists(texts, max_size=4),
    "branch_headers": st.dictionaries(texts, texts, max_size=3),
    "req_extra": st.dictionaries(st.sampled_from(["status", "result"]), texts, max_size=2),
    # Bounded: what waits for unreachable participants would only wait.
    "request_timeout": st.integers(-1, 1),
}
members = st.fixed_dictionaries({}, optional={name: likely.get(name, values) | values for name in FIELDS})
#: Nearly what a client would send, so that stores and drives are reached.
sound = st.fixed_dictionaries(
    {"gid": likely["gid"], "trans_type": st.sampled_from(MODES[:5])},
    optional={
        "steps": steps,
        "payloads": st.lists(texts, min_size=4, max_size=4),
        "query_prepared": st.sampled_from(["", "http://127.0.0.1:9/q"]),
        "custom_data": st.sampled_from(["", "{}", '{"concurrent":true}', '{"delay":1}', "x"]),
        "wait_result": st.booleans(),
        "request_timeout": likely["request_timeout"],
        "rollback_reason": texts,
        "req_extra": st.fixed_dictionaries({"status": st.sampled_from(["succeed", "failed", "x"])}),
    },
)
branches = st.fixed_dictionaries(
    {"gid": likely["gid"], "trans_type": st.sampled_from(MODES[1:5]), "branch_id": st.sampled_from(["01", "02"])},
    optional={
        "op": st.sampled_from(["action", "rollback"]),
        "status": st.sampled_from(["succeed", "failed", "x"]),
        "data": texts,
        "confirm": texts,
        "url": texts,
    },
)
encoded = (members | sound | values).map(lambda value: json.dumps(value).encode())
damaged = st.tuples(encoded, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]
)
bodies = encoded | damaged | st.binary(max_size=60)

bounded = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def seen():
    """How often each status was answered."""
    return Counter()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    # A drive that waits for its result does not hold up the next example.
    quick = {"REEFKNOT_WAIT_RESULT_TIMEOUT": "1", "REEFKNOT_REQUEST_TIMEOUT": "1"}
    with ServerProcess(f"sqlite:///{folder}/store.db", environment=quick, log=folder / "log") as server:
        yield server
        assert server.alive
        assert "request failed" not in server.log_text()
        assert "Traceback" not in server.log_text()


def sound_answer(answer):
    """A documented status, a JSON object, a text with every error, and nothing internal in it."""
    assert answer.status in STATUSES
    assert answer.content_type in ("application/json; charset=utf-8", "text/plain; charset=utf-8")
    reply = answer.json()
    assert isinstance(reply, dict)
    assert b"internal error" not in answer.body
    if answer.status != 200:
        assert isinstance(reply["message"], str)
        assert reply["message"]
    if answer.status in (409, 425):
        word = {409: "FAILURE", 425: "ONGOING"}[answer.status]
        assert reply["dtm_result"] == word
        assert reply["message"].endswith(word)


@bounded
@given(verb=st.sampled_from(POSTS), body=bodies)
def test_random_bodies(server, verb, body):
    sound_answer(server.post(verb, body))


@bounded
@given(verb=st.sampled_from(POSTS), transaction=sound, branch=branches)
def test_random_requests_of_the_right_form(server, seen, verb, transaction, branch):
    answer = server.post(verb, branch if verb.startswith("register") else transaction)
    seen[answer.status] += 1
    sound_answer(answer)


@bounded
@given(
    method=st.sampled_from(["newGid", "prepare", "submit", "abort", "registerBranch", "query"]) | texts,
    params=members | sound | values,
    request_id=st.just("1") | scalars,
)
def test_random_calls(server, method, params, request_id):
    answer = server.jsonrpc(method, params, request_id)
    assert answer.status in (200, 400)
    reply = answer.json()
    assert reply.keys() == {"jsonrpc", "id", "result", "error"}
    assert b"internal error" not in answer.body
    if reply["error"] is not None:
        assert reply["error"]["code"] in (-32700, -32600, -32601, -32603, -32901)
        assert isinstance(reply["error"]["message"], str)


@bounded
@given(body=bodies)
def test_random_bodies_over_jsonrpc(server, body):
    answer = server.send("POST", "/api/json-rpc", body)
    assert answer.status in (200, 400)
    assert answer.json().keys() == {"jsonrpc", "id", "result", "error"}


@bounded
@given(
    verb=st.sampled_from(GETS),
    query=st.dictionaries(
        st.sampled_from(QUERY_NAMES), texts | st.integers(-5, 2000).map(str) | st.integers().map(str), max_size=5
    ),
)
def test_random_queries(server, verb, query):
    sound_answer(server.get(verb, **query))


@bounded
@given(verb=st.sampled_from(GETS), query=st.text(alphabet="abcgid=&%+;?0129fF", max_size=40))
def test_random_query_strings(server, verb, query):
    sound_answer(server.send("GET", f"/api/dtmsvr/{verb}?{query}"))


def test_the_random_requests_reached_every_kind_of_answer(seen):
    assert {200, 400, 409, 500} <= set(seen), seen


def test_the_server_still_works(server):
    steps = [{"action": "", "compensate": ""}]
    body = {"gid": "after all", "trans_type": "saga", "steps": steps, "payloads": ["1"], "wait_result": True}
    assert server.post("submit", body).status == 200
    assert server.status("after all") == "succeed"
