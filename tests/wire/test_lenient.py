"""What clients in the field rely on: names without case, nulls, unknown fields, old forms."""

from __future__ import annotations

import base64
import json

import pytest

from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer

DONE = b'{"dtm_result":"SUCCESS"}'


@pytest.fixture(scope="module")
def participant():
    with Participant() as participant:
        yield participant


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


def stored(server, gid):
    """What query shows: the transaction, and its branches."""
    found = server.get("query", gid=gid).json()
    return found["transaction"], found["branches"]


def test_names_match_without_case(server, participant):
    body = {
        "GID": "case",
        "Trans_Type": "saga",
        "STEPS": [{"action": participant.url("/a"), "compensate": ""}],
        "Payloads": ['{"n":1}'],
        "Wait_Result": True,
        "Retry_Interval": 7,
    }
    answer = server.post("submit", body)
    assert (answer.status, answer.body) == (200, DONE)
    transaction, branches = stored(server, "case")
    assert (transaction["status"], transaction["next_cron_interval"]) == ("succeed", 7)
    assert base64.b64decode(branches[1]["bin_data"]) == b'{"n":1}'


def test_the_exact_name_wins_over_another_spelling(server):
    assert server.post("prepare", b'{"GID":"loud","gid":"quiet","trans_type":"tcc"}').status == 200
    assert server.post("prepare", b'{"gid":"quiet2","GID":"loud","trans_type":"tcc"}').status == 200
    assert [server.status(gid) for gid in ("quiet", "quiet2", "loud")] == ["prepared", "prepared", ""]


def test_null_is_the_zero_value_in_every_field(server):
    names = "steps payloads query_prepared protocol custom_data wait_result timeout_to_fail request_timeout"
    names += " retry_interval branch_headers concurrent retry_limit retry_count rollback_reason req_extra context"
    body = {"gid": "nulls", "trans_type": "tcc", **dict.fromkeys(names.split())}
    assert server.post("prepare", body).body == DONE
    transaction, _ = stored(server, "nulls")
    assert (transaction["protocol"], transaction["options"]) == ("http", '{"concurrent":false}')


def test_null_inside_lists_and_objects(server, participant):
    body = {
        "gid": "inner",
        "trans_type": "saga",
        "steps": [None, {"action": participant.url("/inner"), "compensate": None}],
        "payloads": [None, None],
        "branch_headers": {"X-Empty": None},
        "wait_result": True,
    }
    assert server.post("submit", body).body == DONE
    call = participant.calls[-1]
    assert (call.path, call.branch_id, call.body, call.headers["X-Empty"]) == ("/inner", "02", b"", "")


def test_unknown_fields_are_ignored_and_cannot_set_the_record(server):
    body = {
        "gid": "extra",
        "trans_type": "tcc",
        "passthrough_headers": [],
        "subType": "tcc",
        "retry_count": 3,
        "id": 77777,
        "status": "succeed",
        "owner": "me",
        "result": "mine",
        "create_time": "2001-01-01T00:00:00Z",
        "nested": {"a": [1, {"b": None}]},
    }
    assert server.post("prepare", body).body == DONE
    transaction, _ = stored(server, "extra")
    assert transaction["status"] == "prepared"
    assert transaction["id"] != 77777
    assert "owner" not in transaction
    assert "result" not in transaction
    assert not transaction["create_time"].startswith("2001")


def test_payload_in_the_step_as_the_oldest_clients_send_it(server, participant):
    steps = [{"action": participant.url(f"/old{n}"), "compensate": "", "data": json.dumps({"n": n})} for n in (1, 2)]
    body = {"gid": "data", "trans_type": "saga", "steps": steps, "wait_result": True}
    assert server.post("submit", body).body == DONE
    assert [(call.path, call.body) for call in participant.calls if call.gid == "data"] == [
        ("/old1", b'{"n": 1}'),
        ("/old2", b'{"n": 2}'),
    ]


@pytest.mark.parametrize("verb", ["registerBranch", "registerTccBranch", "registerXaBranch"])
def test_one_verb_with_three_names_and_extra_texts(server, verb):
    gid = f"names-{verb}"
    assert server.post("prepare", {"gid": gid, "trans_type": "tcc"}).status == 200
    body = {
        "GID": gid,
        "trans_type": "tcc",
        "Branch_Id": "10",
        "data": "{}",
        "confirm": "http://h/c",
        "cancel": None,
        "try": "http://h/t",
        "status": "prepared",
        "subType": "tcc",
    }
    assert server.post(verb, body).body == DONE
    _, branches = stored(server, gid)
    shown = [(row["branch_id"], row["op"], row.get("url", "")) for row in branches]
    assert shown == [("10", "cancel", ""), ("10", "confirm", "http://h/c")]


def test_any_content_type_and_pretty_printed_json(server):
    body = json.dumps({"gid": "pretty", "trans_type": "tcc"}, indent=2).encode()
    answer = server.send("POST", "/api/dtmsvr/prepare", body, **{"Content-Type": "text/plain"})
    assert (answer.status, answer.body) == (200, DONE)


def test_queries_find_by_filter_and_page(server):
    for number in range(3):
        assert server.post("prepare", {"gid": f"page{number}", "trans_type": "xa"}).status == 200
    first = server.get("all", transType="xa", status="prepared", limit=2).json()
    assert [one["gid"] for one in first["transactions"]] == ["page2", "page1"]
    second = server.get("all", transType="xa", limit=2, position=first["next_position"]).json()
    assert ([one["gid"] for one in second["transactions"]], second["next_position"]) == (["page0"], "")
    assert server.get("all", transType="xa", createTimeEnd=1).json()["transactions"] == []
    assert len(server.get("all", transType="xa", createTimeStart=1).json()["transactions"]) == 3
    assert server.get("all", gid="page1").json()["transactions"][0]["gid"] == "page1"
    assert server.get("all", gid="nobody").json() == {"next_position": "", "transactions": None}
    assert server.get("query", gid="nobody").json() == {"branches": [], "transaction": None}


def test_repetitions_have_the_same_answer(server):
    body = {
        "gid": "again",
        "trans_type": "saga",
        "steps": [{"action": "", "compensate": ""}],
        "payloads": ["1"],
        "wait_result": True,
    }
    assert [server.post("submit", body).body for _ in range(3)] == [DONE] * 3
    tcc = {"gid": "again-tcc", "trans_type": "tcc"}
    assert [server.post("prepare", tcc).body for _ in range(2)] == [DONE] * 2
    branch = {**tcc, "branch_id": "01", "data": "1", "confirm": "", "cancel": ""}
    assert [server.post("registerBranch", branch).body for _ in range(2)] == [DONE] * 2
    assert len(server.branches("again-tcc")) == 2


def test_ping_answers_every_method(server):
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = server.send(method, "/api/ping")
        assert (answer.status, answer.body) == (200, b'{"msg":"pong"}')
    assert server.send("HEAD", "/api/ping").status == 200


def test_a_slash_too_many_is_redirected(server):
    assert server.send("GET", "/api/dtmsvr/newGid/").status == 301
    assert server.send("POST", "/api/dtmsvr/submit/", b"{}").status == 307
