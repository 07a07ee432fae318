"""Our own service over gRPC: looking at transactions, waiting for them, helping them along."""

from __future__ import annotations

import json
import threading
import time

import pytest

from api.statuses import refused
from reefknot.testing.participant import ERROR, OK, Say


@pytest.fixture
def submitted(server, bank):
    """Submits a saga of one step over HTTP; its gid."""

    def submit(path, **fields):
        steps = [{"action": bank.url(path), "compensate": bank.url(path + "Revert")}]
        body = {"gid": server.new_gid(), "trans_type": "saga", "steps": steps, "payloads": ["1"], **fields}
        assert server.post("submit", body).status == 200
        return body["gid"]

    return submit


def test_get_shows_what_query_shows(server, client, bank, submitted):
    gid = submitted("/a", retry_interval=7, branch_headers={"x": "y"}, custom_data='{"a":1}', wait_result=True)
    found = client.transactions("Get", {"gid": gid})
    query = server.get("query", gid=gid).json()
    shown, rows = query["transaction"], query["branches"]
    assert (found.gid, found.mode, found.status) == (gid, shown["trans_type"], shown["status"])
    assert (found.protocol, found.custom_data) == (shown["protocol"], shown["custom_data"])
    assert (found.options.retry_seconds, dict(found.options.headers), found.options.wait) == (7, {"x": "y"}, True)
    assert (found.interval_seconds, found.parked, found.owner) == (shown["next_cron_interval"], "", "")
    assert [(op.branch_id, op.op, op.url, op.status) for op in found.ops] == [
        (row["branch_id"], row["op"], row["url"], row["status"]) for row in rows
    ]
    assert [op.payload for op in found.ops] == [b"1", b"1"]
    assert found.finished_ms >= found.created_ms > 1_700_000_000_000


def test_an_unfinished_one_says_why(client, bank, submitted):
    bank.always("/a", ERROR)
    gid = submitted("/a")
    found = client.transactions("Wait", {"gid": gid, "seconds": 1})
    assert (found.status, found.finished_ms, found.attempts) == ("submitted", 0, 1)
    assert found.due_ms > found.updated_ms
    [action] = [op for op in found.ops if op.op == "action"]
    assert (action.tries, action.status) == (1, "prepared")
    assert "500" in action.error


def test_what_is_not_there_is_not_found(client):
    for method in ("Get", "Wait", "ForceStop", "RetryNow"):
        assert refused(client.transactions, method, {"gid": "none"})[0] == "NOT_FOUND"
    assert refused(list, client.watch("none"))[0] == "NOT_FOUND"
    assert refused(client.transactions, "GetKey", {"key": "none"})[0] == "NOT_FOUND"


def test_wrong_arguments_are_named(client):
    for method, fields, words in [
        ("List", {"limit": 1001}, "limit: is 1001"),
        ("List", {"limit": -1}, "limit: is -1"),
        ("List", {"created_from_ms": -1}, "created_from_ms: is -1"),
        ("List", {"position": "x"}, "position"),
        ("Wait", {"gid": "g", "seconds": -1}, "seconds: is -1"),
        ("RetryLater", {"later_than_seconds": -5}, "later_than_seconds: is -5"),
        ("ListKeys", {"limit": 5000}, "limit: is 5000"),
        ("ForceStop", {"gid": ""}, "gid: is empty"),
    ]:
        code, text = refused(client.transactions, method, fields)
        assert (code, words in text) == ("INVALID_ARGUMENT", True), (method, text)


def test_list_goes_page_by_page_and_filters(client, bank, submitted):
    bank.always("/slow", ERROR)
    gids = [submitted("/a", wait_result=True) for _ in range(5)] + [submitted("/slow")]
    seen, position = [], ""
    while True:
        page = client.transactions("List", {"limit": 4, "position": position})
        seen += [one.gid for one in page.transactions]
        position = page.position
        if not position:
            break
    assert seen == gids[::-1]
    unfinished = client.transactions("List", {"status": "submitted", "mode": "saga"}).transactions
    assert [one.gid for one in unfinished] == gids[-1:]
    newest = client.transactions("Get", {"gid": gids[-1]}).created_ms
    assert not client.transactions("List", {"created_from_ms": newest + 1}).transactions
    assert len(client.transactions("List", {"created_to_ms": newest}).transactions) == 6


def test_wait_returns_when_it_is_finished(client, bank, submitted):
    bank.always("/a", Say(seconds=0.5))
    gid = submitted("/a")
    began = time.monotonic()
    found = client.transactions("Wait", {"gid": gid, "seconds": 20})
    assert found.status == "succeed"
    assert time.monotonic() - began < 10
    assert client.transactions("Wait", {"gid": gid}).status == "succeed"


def test_wait_sees_what_another_node_did(server, client, bank):
    """Nothing on this node tells of it: the store is asked every second."""
    server.post("prepare", {"gid": "t", "trans_type": "tcc"})
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(client.transactions("Wait", {"gid": "t", "seconds": 20})))
    waiting.start()
    time.sleep(0.3)
    from reefknot.model import UNFINISHED, Status
    from reefknot.store.base import Decision

    server.run(server.store.decide(Decision("t", UNFINISHED, Status.FAILED, "elsewhere")))
    waiting.join(15)
    assert [(one.status, one.reason) for one in answers] == [("failed", "elsewhere")]


def test_wait_is_over_when_its_time_is(server, client):
    server.post("prepare", {"gid": "t", "trans_type": "tcc"})
    began = time.monotonic()
    assert client.transactions("Wait", {"gid": "t", "seconds": 1}).status == "prepared"
    assert 0.9 < time.monotonic() - began < 10


def test_watch_tells_each_change_once_until_the_end(server, client, bank):
    server.post("prepare", {"gid": "t", "trans_type": "tcc"})
    seen = []
    first = threading.Event()

    def look():
        for state in client.watch("t"):
            seen.append((state.status, [op.status for op in state.ops]))
            first.set()

    watching = threading.Thread(target=look)
    watching.start()
    assert first.wait(10)
    time.sleep(2.5)
    branch = {"gid": "t", "trans_type": "tcc", "branch_id": "01", "data": "1"}
    branch |= {"confirm": bank.url("/confirm"), "cancel": bank.url("/cancel")}
    assert server.post("registerBranch", branch).status == 200
    until = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert server.post("submit", {"gid": "t", "trans_type": "tcc"}).status == 200
    watching.join(15)
    assert not watching.is_alive()
    assert seen[:2] == [("prepared", []), ("prepared", ["prepared", "prepared"])]
    assert seen[-1] == ("succeed", ["prepared", "succeed"])
    assert len(seen) == len({json.dumps(one) for one in seen})


def test_a_watch_that_its_client_ends_leaves_nothing_behind(server, client):
    server.post("prepare", {"gid": "t", "trans_type": "tcc"})
    stream = client.watch("t")
    assert next(stream).status == "prepared"
    stream.cancel()
    until = time.monotonic() + 10
    while server.node.watching._onlookers and time.monotonic() < until:
        time.sleep(0.05)
    assert not server.node.watching._onlookers


def test_force_stop(server, client):
    server.post("prepare", {"gid": "t", "trans_type": "tcc"})
    client.transactions("ForceStop", {"gid": "t"})
    assert server.status("t") == "failed"
    code, text = refused(client.transactions, "ForceStop", {"gid": "t"})
    assert (code, text.endswith("FAILURE")) == ("ABORTED", True)


def test_retry_now_and_retry_later(client, bank, submitted):
    bank.script("/a", [ERROR])
    bank.script("/b", [ERROR])
    bank.always("/a", OK)
    first, second = submitted("/a", retry_interval=3600), submitted("/b", retry_interval=3600)
    for gid in (first, second):
        until = time.monotonic() + 10
        while client.transactions("Get", {"gid": gid}).attempts < 1 and time.monotonic() < until:
            time.sleep(0.05)
    client.transactions("RetryNow", {"gid": first})
    assert client.transactions("Wait", {"gid": first, "seconds": 20}).status == "succeed"
    reply = client.transactions("RetryLater", {"later_than_seconds": 1800, "limit": 10})
    assert (reply.count, reply.remaining) == (1, False)
    assert client.transactions("Wait", {"gid": second, "seconds": 20}).status == "succeed"
    assert client.transactions("RetryLater").count == 0


def test_keys(server, client, bank):
    for name in ("a", "b", "c"):
        client.dtm("Subscribe", {"Topic": name, "URL": bank.url("/x")})
    page = client.transactions("ListKeys", {"limit": 2})
    assert [entry.key for entry in page.entries] == ["a", "b"]
    assert [e.key for e in client.transactions("ListKeys", {"limit": 2, "position": page.position}).entries] == ["c"]
    entry = client.transactions("GetKey", {"category": "topics", "key": "b"})
    shown = server.get("queryKV", cat="topics", key="b").json()["kv"][0]
    assert (entry.category, entry.key, entry.value, entry.version) == ("topics", "b", shown["v"], shown["version"])
