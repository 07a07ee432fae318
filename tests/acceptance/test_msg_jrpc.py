"""JSON-RPC: as the API that clients call and as the protocol of branches."""

import json

import pytest

from reefknot.testing.participant import Say
from reefknot.testing.server import Client, free_port


def rpc(server, method, params, *, error=None):
    """Call a method; its result, or the error object if an error code is expected."""
    answer = server.jsonrpc(method, params, "no-use")
    assert answer.status == 200
    reply = answer.json()
    assert (set(reply), reply["jsonrpc"], reply["id"]) == ({"error", "id", "jsonrpc", "result"}, "2.0", "no-use")
    if error is None:
        assert reply["error"] is None, reply
        return reply["result"]
    assert reply["error"]["code"] == error, reply
    return reply["error"]


def rpc_msg(app):
    """A msg of one plain target and one method."""
    return app.msg("/TransOut", app.bank.url("/JsonRpc?method=TransIn"), protocol="json-rpc")


def said(**fields):
    return Say(body=json.dumps({"jsonrpc": "2.0", "id": "1", "result": None, **fields}).encode())


@pytest.mark.conformance("TestMsgJrpcNormal")
def test_msg_jrpc_normal(app, bank, server):
    body = rpc_msg(app)
    assert rpc(server, "submit", body) is None
    assert app.state(body["gid"]) == ("succeed", "SS")
    plain, call = bank.calls
    assert (plain.path, plain.branch_id, plain.op) == ("/TransOut", "01", "action")
    sent = json.loads(call.body)
    assert (sent["jsonrpc"], sent["method"]) == ("2.0", "TransIn")
    identity = {"gid": body["gid"], "trans_type": "msg", "branch_id": "02", "op": "action"}
    assert sent["params"] == {"amount": 30, **identity}


@pytest.mark.conformance("TestMsgJrpcResults")
def test_msg_jrpc_results(app, bank, server):
    codes = {"OTHER": -23977, "FAILURE": -32901, "ONGOING": -32902}
    bank.script("/JsonRpc", [said(error={"code": codes, "message": name}) for name in ("OTHER", "ONGOING", "FAILURE")])
    body = rpc_msg(app)
    gid = body["gid"]
    rpc(server, "submit", body)
    assert app.state(gid) == ("submitted", "SP")
    for _ in range(2):
        app.cron(gid)
        assert app.state(gid) == ("submitted", "SP")
    app.cron(gid)
    assert app.state(gid) == ("succeed", "SS")


@pytest.mark.conformance("TestMsgJrpcDoAndSubmit", part="prepare and submit; the local transaction is the client's")
def test_msg_jrpc_do_and_submit(app, server):
    body = app.msg("/TransIn")
    assert rpc(server, "prepare", body) is None
    assert app.state(body["gid"]) == ("prepared", "P")
    assert rpc(server, "submit", body) is None
    assert app.state(body["gid"]) == ("succeed", "S")


@pytest.mark.conformance("TestMsgJrpcDoAndSubmitBusiFailed", part="prepare and abort; the rest is the client's")
def test_msg_jrpc_do_and_submit_busi_failed(app, server):
    body = app.msg("/TransIn")
    rpc(server, "prepare", body)
    assert rpc(server, "abort", body) is None
    assert app.state(body["gid"]) == ("failed", "P")
    assert app.called(body["gid"]) == []


@pytest.mark.conformance(
    "TestMsgJrpcRepeated", differs="the same content has the same answer again; other content is refused"
)
def test_msg_jrpc_repeated(app, server):
    body = app.msg("/TransIn")
    rpc(server, "submit", body)
    assert app.state(body["gid"]) == ("succeed", "S")
    rpc(server, "submit", body)
    error = rpc(server, "submit", app.msg("/TransOut", gid=body["gid"]), error=-32901)
    assert error["message"].endswith("FAILURE")
    assert app.called(body["gid"]) == ["/TransIn"]


@pytest.mark.conformance("TestMsgJprcAbnormal")
def test_msg_jrpc_abnormal(server):
    answer = server.send("POST", "/api/json-rpc", b"hello")
    assert (answer.status, answer.content_type) == (400, "text/plain; charset=utf-8")
    assert (answer.json()["error"]["code"], answer.json()["id"]) == (-32700, "")
    with pytest.raises(ConnectionRefusedError):
        Client("127.0.0.1", free_port()).jsonrpc("newGid", {})
    old = {"jsonrpc": "1.0", "id": "no-use", "method": "newGid", "params": {}}
    answer = server.send("POST", "/api/json-rpc", json.dumps(old).encode())
    assert (answer.status, answer.json()["error"]["code"]) == (200, -32600)
    rpc(server, "not-exists", {}, error=-32601)
    registration = {"gid": "g", "trans_type": "no-such-type", "branch_id": "01"}
    error = rpc(server, "registerBranch", registration, error=-32603)
    assert "unknow trans type: no-such-type" in error["message"]


@pytest.mark.conformance("TestMsgJprcAbnormal2")
def test_msg_jrpc_abnormal2(server):
    first, second = (rpc(server, "newGid", "")["gid"] for _ in range(2))
    assert first
    assert first != second


@pytest.mark.conformance("TestTccJrpcNormal")
def test_tcc_jrpc_normal(app, server):
    gid = server.new_gid()
    rpc(server, "prepare", {"gid": gid, "trans_type": "tcc"})
    for number, name in enumerate(("TransOut", "TransIn"), start=1):
        fields = {"gid": gid, "trans_type": "tcc", "branch_id": f"0{number}", "data": "{}"}
        fields |= {"confirm": app.bank.url(f"/{name}Confirm"), "cancel": app.bank.url(f"/{name}Revert")}
        rpc(server, "registerBranch", fields)
    rpc(server, "submit", {"gid": gid, "trans_type": "tcc"})
    assert app.state(gid) == ("succeed", "PSPS")


def test_states_that_refuse_have_the_failure_code(app, server):
    gid = app.submit(app.saga())
    app.state(gid)
    for method, params in (
        ("prepare", app.saga(gid=gid)),
        ("abort", {"gid": gid, "trans_type": "saga"}),
        ("registerBranch", {"gid": gid, "trans_type": "tcc", "branch_id": "01"}),
    ):
        assert rpc(server, method, params, error=-32901)["message"].endswith("FAILURE")
    assert "no TransGlobal" in rpc(server, "abort", {"gid": "unknown", "trans_type": "tcc"}, error=-32603)["message"]


def test_an_unfinished_wait_has_the_internal_error_code(app, bank, server):
    bank.script("/TransOut", [Say(425)])
    body = app.saga(wait_result=True)
    assert rpc(server, "submit", body, error=-32603)["message"].endswith("ONGOING")
    app.cron(body["gid"])
    assert app.state(body["gid"]) == ("succeed", "PSPS")


@pytest.mark.parametrize("request_id", [1, 1.5, ["a"]])
def test_only_texts_are_ids(server, request_id):
    answer = server.jsonrpc("newGid", {}, request_id)
    assert (answer.status, answer.json()["error"]["code"]) == (400, -32700)


@pytest.mark.parametrize("member", ["", '"id":null,', '"id":"",'])
def test_a_missing_id_is_a_bad_request(server, member):
    answer = server.send("POST", "/api/json-rpc", f'{{{member}"jsonrpc":"2.0","method":"newGid"}}'.encode())
    assert (answer.status, answer.json()["error"]["code"], answer.json()["id"]) == (200, -32600, "")
