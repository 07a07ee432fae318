"""DTM's service over gRPC: what its clients send, what they get, and the codes of what is refused."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from api.statuses import refused
from reefknot.testing.participant import FAILURE, ONGOING, Say


def saga(bank, *names, **fields):
    """A saga of these paths; fields of the message replace its own."""
    steps = [{"action": bank.url(f"/{name}"), "compensate": bank.url(f"/{name}Revert")} for name in names]
    message = {"Gid": "s1", "TransType": "saga", "Steps": json.dumps(steps), "BinPayloads": [b'{"n":1}'] * len(steps)}
    return {**message, **fields}


WAITS = {"WaitResult": True}


def test_a_new_gid_is_one_the_server_takes(client):
    first, second = client.dtm("NewGid").Gid, client.dtm("NewGid").Gid
    assert len(first) == 22
    assert first != second


def test_a_saga_with_options_and_raw_payloads(server, client, bank):
    options = {"WaitResult": True, "RequestTimeout": 9, "TimeoutToFail": 77, "RetryInterval": 13, "RetryLimit": 2}
    options["BranchHeaders"] = {"test_header": "yes"}
    payloads = [b"\x00\xff\xfe raw", b""]
    client.dtm("Submit", saga(bank, "out", "in", TransOptions=options, BinPayloads=payloads))
    assert server.status("s1") == "succeed"
    assert [(call.path, call.method, call.body) for call in bank.calls] == [
        ("/out", "POST", payloads[0]),
        ("/in", "GET", b""),
    ]
    assert bank.calls[0].headers["test_header"] == "yes"
    shown = server.get("query", gid="s1").json()["transaction"]
    assert shown["protocol"] == "grpc"
    assert (shown["timeout_to_fail"], shown["retry_interval"], shown["retry_limit"]) == (77, 13, 2)
    assert (shown["request_timeout"], shown["wait_result"]) == (9, True)


@pytest.mark.parametrize("steps", ["", "null", "[]"])
def test_no_steps_are_written_in_three_ways(server, client, bank, steps):
    client.dtm("Submit", saga(bank, Steps=steps, TransOptions=WAITS))
    assert server.status("s1") == "succeed"


def test_a_concurrent_saga_is_asked_for_in_its_custom_data(server, client, bank):
    bank.always("/out", Say(seconds=0.3))
    custom = '{"concurrent":true,"orders":{}}'
    client.dtm("Submit", saga(bank, "out", "in", CustomedData=custom, TransOptions=WAITS))
    first, second = sorted(bank.calls, key=lambda call: call.started)
    assert second.started < first.ended


def test_a_refusal_is_aborted_and_an_unfinished_one_a_failed_precondition(client, bank):
    bank.script("/in", [Say(409, "Wäre zu wenig".encode())])
    code, text = refused(client.dtm, "Submit", saga(bank, "out", "in", TransOptions=WAITS))
    assert code == "ABORTED"
    assert text.endswith("/in return failed: Wäre zu wenig FAILURE")
    bank.always("/slow", ONGOING)
    code, text = refused(client.dtm, "Submit", saga(bank, "slow", Gid="s2", TransOptions=WAITS))
    assert code == "FAILED_PRECONDITION"
    assert text.endswith("ONGOING")


@pytest.mark.parametrize("reason", ["x" * 1500, "ä" * 1500, "\N{GRINNING FACE}" * 1500], ids=["ascii", "two", "four"])
def test_the_status_of_a_long_reason_arrives(client, bank, reason):
    bank.script("/in", [Say(409, reason.encode())])
    code, text = refused(client.dtm, "Submit", saga(bank, "in", TransOptions=WAITS))
    assert code == "ABORTED"
    assert reason[:200] in text
    assert text.endswith(" FAILURE")
    # Clients take 8 KiB of trailers for sure, where every byte that is not ASCII takes three.
    assert len(quote(text)) <= 4096


def test_a_msg_is_prepared_and_submitted_or_aborted(server, client, bank):
    steps = json.dumps([{"action": bank.url("/in")}])
    msg = {"TransType": "msg", "Steps": steps, "BinPayloads": [b"1"], "QueryPrepared": bank.url("/asked")}
    client.dtm("Prepare", {"Gid": "m1", **msg})
    assert server.status("m1") == "prepared"
    client.dtm("Submit", {"Gid": "m1", "TransOptions": WAITS, **msg})
    assert server.status("m1") == "succeed"
    client.dtm("Prepare", {"Gid": "m2", **msg})
    client.dtm("Abort", {"Gid": "m2", "RollbackReason": "no", **msg})
    assert server.status("m2") == "failed"


def test_a_tcc_with_its_branches(server, client, bank):
    client.dtm("Prepare", {"Gid": "t1", "TransType": "tcc"})
    data = {"confirm": bank.url("/confirm"), "cancel": bank.url("/cancel")}
    branch = {"Gid": "t1", "TransType": "tcc", "BranchID": "01", "Data": data, "BusiPayload": b"\x00\xff"}
    client.dtm("RegisterBranch", branch)
    client.dtm("RegisterBranch", branch)
    assert refused(client.dtm, "RegisterBranch", {**branch, "BusiPayload": b"x"})[0] == "ABORTED"
    client.dtm("Abort", {"Gid": "t1", "TransType": "tcc", "RollbackReason": "why not"})
    server.wait_for("t1", "failed")
    assert [(call.path, call.body) for call in bank.calls] == [("/cancel", b"\x00\xff")]
    assert server.get("query", gid="t1").json()["transaction"]["rollback_reason"] == "why not"


def test_a_workflow_remembers_steps_and_result(client):
    """Q11: DTM leaves the result out."""
    result = base64.b64encode(b"\x00result").decode()
    flow = {"Gid": "w1", "TransType": "workflow", "CustomedData": '{"name":"w","data":null}'}
    first = client.dtm("PrepareWorkflow", flow)
    assert (first.Transaction.Gid, first.Transaction.Status, list(first.Progresses)) == ("w1", "prepared", [])
    step = {"Gid": "w1", "TransType": "workflow", "BranchID": "01", "BusiPayload": b"\x00\xff"}
    client.dtm("RegisterBranch", {**step, "Data": {"op": "action", "status": "succeed"}})
    again = client.dtm("PrepareWorkflow", flow).Progresses
    assert [(p.BranchID, p.Op, p.Status, p.BinData) for p in again] == [("01", "action", "succeed", b"\x00\xff")]
    client.dtm("Submit", {**flow, "ReqExtra": {"status": "succeed", "result": result}})
    last = client.dtm("PrepareWorkflow", flow).Transaction
    assert (last.Status, last.Result, last.RollbackReason) == ("succeed", result, "")
    client.dtm("PrepareWorkflow", {**flow, "Gid": "w2"})
    client.dtm("Submit", {**flow, "Gid": "w2", "ReqExtra": {"status": "failed", "rollback_reason": "because"}})
    last = client.dtm("PrepareWorkflow", {**flow, "Gid": "w2"}).Transaction
    assert (last.Status, last.RollbackReason) == ("failed", "because")


def test_topics(server, client, bank):
    one = {"Topic": "news", "URL": bank.url("/news"), "Remark": "r"}
    client.dtm("Subscribe", one)
    assert refused(client.dtm, "Subscribe", one) == ("UNKNOWN", "this url exists")
    msg = {"Gid": "m1", "TransType": "msg", "Steps": '[{"action":"topic://news"}]', "BinPayloads": [b"1"]}
    client.dtm("Submit", {**msg, "TransOptions": WAITS})
    assert bank.called() == ["/news"]
    client.dtm("Unsubscribe", one)
    assert refused(client.dtm, "Unsubscribe", one) == ("UNKNOWN", "this topic is empty")
    client.dtm("DeleteTopic", {"Topic": "news"})
    assert refused(client.dtm, "DeleteTopic", one)[0] == "UNKNOWN"
    assert server.get("queryKV", cat="topics", key="news").json()["kv"] == []


#: What is refused: the method, fields of the request, the code, and words of the text.
REFUSED = [
    ("Submit", {"Gid": "x"}, "INTERNAL", "trans_type"),
    ("Submit", {"Gid": "x", "TransType": "sage"}, "INTERNAL", "'sage' is no transaction mode"),
    ("Submit", {"Gid": "x", "TransType": "saga", "Steps": "{}"}, "INTERNAL", "Steps: is not a JSON list"),
    ("Submit", {"Gid": "x", "TransType": "saga", "Steps": '[{"action":1}]'}, "INTERNAL", "Steps: is not a JSON list"),
    ("Submit", {"Gid": "x", "TransType": "saga", "Steps": '[{"action":""}]'}, "INTERNAL", "1 steps but 0 payloads"),
    ("Submit", {"Gid": "", "TransType": "saga"}, "INTERNAL", "gid: is empty"),
    ("Submit", {"Gid": "x", "TransType": "workflow", "ReqExtra": {"status": "failed"}}, "INTERNAL", "NotFound"),
    (
        "Submit",
        {"Gid": "x", "TransType": "msg", "Steps": '[{"action":"topic://none"}]', "BinPayloads": [b""]},
        "INTERNAL",
        "topic not found",
    ),
    ("Submit", {"Gid": "a;b", "TransType": "saga"}, "INVALID_ARGUMENT", "gid: contains ';'"),
    ("Submit", {"Gid": "x" * 129, "TransType": "saga"}, "INVALID_ARGUMENT", "gid: is 129 bytes long"),
    ("Prepare", {"Gid": "x", "TransType": "saga", "TransOptions": {"RetryLimit": -1}}, "INVALID_ARGUMENT", "is -1"),
    (
        "Prepare",
        {"Gid": "x", "TransType": "saga", "TransOptions": {"BranchHeaders": {"dtm-gid": "y"}}},
        "INVALID_ARGUMENT",
        "is reserved",
    ),
    ("Prepare", {"Gid": "x", "TransType": "saga", "QueryPrepared": "h" * 5000}, "RESOURCE_EXHAUSTED", "query_prepared"),
    ("Abort", {"Gid": "none", "TransType": "tcc"}, "INTERNAL", "no TransGlobal with gid: none found"),
    ("Abort", {"Gid": "open"}, "ABORTED", "cannot abort. FAILURE"),
    ("RegisterBranch", {"Gid": "none", "TransType": "tcc", "BranchID": "01"}, "ABORTED", "no trans with gid: none"),
    ("RegisterBranch", {"Gid": "open", "TransType": "saga"}, "UNKNOWN", "unknow trans type: saga"),
    ("RegisterBranch", {"Gid": "open", "TransType": "tcc"}, "INVALID_ARGUMENT", "branch_id: is empty"),
    ("PrepareWorkflow", {"Gid": "x", "TransType": "none"}, "INTERNAL", "no transaction mode"),
    ("Subscribe", {"URL": "http://h/p"}, "UNKNOWN", "empty topic"),
    ("Subscribe", {"Topic": "t"}, "UNKNOWN", "empty url"),
    ("Subscribe", {"Topic": "t\n", "URL": "http://h/p"}, "INVALID_ARGUMENT", "control character"),
    ("Unsubscribe", {"Topic": "none", "URL": "http://h/p"}, "UNKNOWN", "no such a topic"),
    ("DeleteTopic", {"Topic": ""}, "UNKNOWN", "empty topic"),
]


@pytest.fixture(scope="module")
def open_tcc(tmp_path_factory):
    from reefknot.testing.grpc_client import GrpcClient
    from reefknot.testing.server import LocalServer

    with LocalServer(grpc=True) as server, GrpcClient(server.grpc_address) as client:
        client.dtm("Prepare", {"Gid": "open", "TransType": "tcc"})
        yield server, client


@pytest.mark.parametrize(("method", "fields", "code", "words"), REFUSED)
def test_what_is_refused_says_why_and_stores_nothing(open_tcc, method, fields, code, words):
    server, client = open_tcc
    found, text = refused(client.dtm, method, fields)
    assert (found, words in text) == (code, True), text
    assert [one["gid"] for one in server.get("all").json()["transactions"]] == ["open"]


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7fabc"], ids=["tag", "utf8", "cut"])
def test_bytes_that_are_no_message(open_tcc, body):
    code, text = refused(open_tcc[1].raw, "dtmgimp.Dtm", "Submit", body)
    assert (code, "the request is no dtmgimp.DtmRequest" in text) == ("INVALID_ARGUMENT", True)


def test_unknown_fields_and_those_of_old_clients_are_ignored(server, client, bank):
    from reefknot.wire.proto.dtmgimp_pb2 import DtmRequest

    old = DtmRequest(**saga(bank, "out", TransOptions=WAITS)).SerializeToString()
    # Field 4 of the options, a list of texts that the Node client sends; field 99 of the request.
    options = b"\x1a\x05" + b"\x22\x03abc"
    client.raw("dtmgimp.Dtm", "Submit", old + options + b"\x98\x06\x01")
    assert server.status("s1") == "succeed"


def test_an_unknown_method_is_unimplemented(client):
    assert refused(client.raw, "dtmgimp.Dtm", "Query", b"")[0] == "UNIMPLEMENTED"


def test_nothing_internal_is_told(server, client):
    server.failpoints.__init__({"prepare.before_insert": "raise"})
    code, text = refused(client.dtm, "Prepare", {"Gid": "x", "TransType": "tcc"})
    assert (code, text) == ("INTERNAL", "internal error; see the server's log")


def test_a_repeated_submit_after_the_end_is_refused_only_with_other_content(client, bank):
    client.dtm("Submit", saga(bank, "out", TransOptions=WAITS))
    client.dtm("Submit", saga(bank, "out", TransOptions=WAITS))
    assert refused(client.dtm, "Submit", saga(bank, "in"))[0] == "ABORTED"
    bank.script("/no", [FAILURE])
    assert refused(client.dtm, "Submit", saga(bank, "no", Gid="s2", TransOptions=WAITS))[0] == "ABORTED"
    assert refused(client.dtm, "Submit", saga(bank, "no", Gid="s2"))[0] == "ABORTED"
    assert bank.called() == ["/out", "/no", "/noRevert"]
