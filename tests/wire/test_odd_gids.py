"""Gids with characters that mean something elsewhere are texts like any other, at every endpoint."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from reefknot.testing.participant import FAILURE, Participant
from reefknot.testing.server import LocalServer

ODD = [
    "o'clock",
    'say "hi"',
    "100%",
    "%25%00",
    "under_score",
    "back\\slash",
    "x' or '1'='1",
    "x' UNION SELECT 1 --",
    "a&gid=b&op=cancel",
    "a#b?c/d",
    "../../etc",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "emoji 🦀🪢",
    "łódź 東京",
    "e\u0301 and é",
    "\u202eright to left",
    " ",
    "null",
    "g" * 128,
    "é" * 64,
    # Pairs that a careless comparison takes for one.
    "Order-1",
    "order-1",
    "order-1 ",
    "order-10",
    "order-1-refund",
    "órder-1",
]


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def server(request, tmp_path_factory):
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path_factory.mktemp('odd')}/store.db"
    with LocalServer(url) as server:
        yield server


@pytest.fixture
def participant():
    with Participant() as participant:
        participant.always("/refuses", FAILURE)
        yield participant


def both(server, method, fields, how):
    """A verb over HTTP or JSON-RPC; whether it succeeded."""
    if how == "http":
        return server.post(method, fields).status == 200
    return server.jsonrpc(method, fields).json()["error"] is None


@pytest.mark.parametrize("how", ["http", "json-rpc"])
@pytest.mark.parametrize("odd", ODD)
def test_every_endpoint_takes_the_gid_as_it_is(server, participant, odd, how):
    suffix = {"http": "h", "json-rpc": "j"}[how]
    gid = odd if how == "http" else odd[: 128 - len(odd.encode()) + len(odd) - 1] + suffix
    if len(gid.encode()) > 128:
        gid = "é" * 63 + suffix
    tcc = {"gid": gid, "trans_type": "tcc"}
    branch = {
        **tcc,
        "branch_id": "01",
        "data": "{}",
        "confirm": participant.url("/yes"),
        "cancel": participant.url("/no"),
    }
    assert both(server, "prepare", tcc, how)
    assert both(server, "registerBranch", branch, how)
    assert server.post("resetNextCronTime", {"gid": gid}).status == 200
    found = server.get("query", gid=gid).json()
    assert found["transaction"]["gid"] == gid
    assert [row["gid"] for row in found["branches"]] == [gid, gid]
    assert [one["gid"] for one in server.get("all", gid=gid).json()["transactions"]] == [gid]
    assert both(server, "submit", tcc, how)
    server.settle()
    assert server.status(gid) == "succeed"
    assert [(call.path, call.gid, call.op) for call in participant.calls] == [("/yes", gid, "confirm")]
    assert server.post("forceStop", {"gid": gid}).status == 409


@pytest.mark.parametrize("odd", ["x' UNION SELECT 1 --", "emoji 🦀🪢", "a&gid=b&op=cancel"])
def test_a_rollback_and_a_workflow_with_an_odd_gid(server, participant, odd):
    saga = {
        "gid": f"saga {odd}",
        "trans_type": "saga",
        "steps": [{"action": participant.url("/refuses"), "compensate": participant.url("/undo")}],
        "payloads": ["{}"],
        "wait_result": True,
    }
    answer = server.post("submit", saga)
    assert (answer.status, answer.json()["dtm_result"]) == (409, "FAILURE")
    server.settle()
    assert [(call.gid, call.op) for call in participant.calls] == [(saga["gid"], "action"), (saga["gid"], "compensate")]
    flow = {"gid": f"flow {odd}", "trans_type": "workflow"}
    assert server.post("prepareWorkflow", flow).json()["transaction"]["gid"] == flow["gid"]
    assert server.post("submit", {**flow, "req_extra": {"status": "succeed"}}).status == 200
    assert server.status(flow["gid"]) == "succeed"
    tcc = {"gid": f"tcc {odd}", "trans_type": "tcc"}
    assert server.post("prepare", tcc).status == 200
    assert server.post("abort", {**tcc, "rollback_reason": odd}).status == 200
    server.settle()
    assert server.get("query", gid=tcc["gid"]).json()["transaction"]["rollback_reason"] == odd


def test_pairs_that_look_alike_stay_apart(server):
    gids = ["Pair", "pair", "pair ", "pair1", "pair10", "pair\u0301", "paír", "pai\u0301r"]
    for number, gid in enumerate(gids):
        body = {"gid": gid, "trans_type": "tcc", "custom_data": json.dumps({"n": number})}
        assert server.post("prepare", body).status == 200
        for branch in range(number):
            fields = {"gid": gid, "trans_type": "tcc", "branch_id": f"{branch:02d}", "data": str(number)}
            assert server.post("registerBranch", fields).status == 200
    for number, gid in enumerate(gids):
        found = server.get("query", gid=gid).json()
        assert json.loads(found["transaction"]["custom_data"]) == {"n": number}
        assert len(found["branches"]) == 2 * number
    assert server.post("forceStop", {"gid": "pair"}).status == 200
    assert [server.status(gid) for gid in gids] == ["prepared", "failed", *["prepared"] * 6]


@pytest.mark.parametrize("topic", ["o'clock", "100%", "🦀", "a/b", "x' or '1'='1", "a%20b", "50%25"])
def test_topics_with_odd_names(server, participant, topic):
    assert server.get("subscribe", topic=topic, url=participant.url("/letter")).status == 200
    assert [row["k"] for row in server.get("queryKV", cat="topics", key=topic).json()["kv"]] == [topic]
    gid = f"letter {topic}"
    body = {"gid": gid, "trans_type": "msg", "steps": [{"action": f"topic://{topic}"}], "payloads": ["{}"]}
    assert server.post("submit", {**body, "wait_result": True}).status == 200
    assert participant.called(gid) == ["/letter"]
    assert server.send("DELETE", f"/api/dtmsvr/topic/{quote(topic, safe='')}").status == 200
    assert server.get("queryKV", cat="topics", key=topic).json() == {"kv": []}
