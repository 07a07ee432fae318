"""TCC and XA over gRPC: the client registers and calls, the server ends it."""

import grpc
import pytest

from acceptance.test_tcc import tried
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.participant import FAILURE, ONGOING
from reefknot.testing.server import free_port

CLIENT = "what the server gets of it; the rest happens in the client"


@pytest.mark.conformance("TestTccGrpcNormal")
def test_tcc_grpc_normal(grpc_app, grpc_bank):
    gid = grpc_app.begin("tcc")
    assert tried(grpc_app, gid, "TransOut", "TransIn")
    assert grpc_app.end("tcc", gid).status == 200
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert sorted(grpc_app.called(gid)[2:]) == ["/TransInConfirm", "/TransOutConfirm"]
    confirm = next(call for call in grpc_bank.calls if call.path.endswith("/TransOutConfirm"))
    assert (confirm.op, confirm.branch_id, confirm.mode, confirm.body) == ("confirm", "01", "tcc", b'{"amount": 30}')


@pytest.mark.conformance("TestTccGrpcRollback")
def test_tcc_grpc_rollback(grpc_app, grpc_bank):
    grpc_bank.script("/TransIn", [FAILURE])
    grpc_bank.script("/TransOutRevert", [ONGOING])
    gid = grpc_app.begin("tcc")
    assert not tried(grpc_app, gid, "TransOut", "TransIn")
    # Go's text of the status that the try ended with.
    text = "rpc error: code = Aborted desc = reason:"
    assert grpc_app.abort("tcc", gid, text).status == 200
    assert grpc_app.state(gid) == ("aborting", "PPSP")
    grpc_app.cron(gid)
    assert grpc_app.state(gid) == ("failed", "SPSP")
    assert grpc_app.reason(gid) == text


@pytest.mark.conformance("TestTccGrpcHeaders")
def test_tcc_grpc_headers(grpc_app, grpc_bank):
    gid = grpc_app.begin("tcc", branch_headers={"test_header": "test"})
    assert grpc_app.register_tcc(gid, "TransOut", "01", phase_two=False).status == 200
    assert grpc_app.call("/TransOut", gid, "tcc", "01", "try", test_header="test").status == 200
    assert grpc_app.tcc_branch(gid, "TransIn", "02").status == 200
    assert grpc_app.end("tcc", gid).status == 200
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn", "/TransInConfirm"]
    assert grpc_bank.calls[-1].metadata["test_header"] == "test"


@pytest.mark.conformance("TestTccGrpcCoverNotConnected", "TestTccGrpcCoverCallBranch", part=CLIENT)
def test_tcc_grpc_not_connected(grpc_app):
    with GrpcClient(f"127.0.0.1:{free_port()}") as nobody, pytest.raises(grpc.RpcError) as error:
        nobody.dtm("Prepare", {"Gid": "g", "TransType": "tcc"}, seconds=5)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    # A branch whose try cannot be called: the client gives up after the registration, the timeout rolls back.
    gid = grpc_app.begin("tcc")
    assert grpc_app.register_tcc(gid, "TransOut", "01").status == 200
    grpc_app.cron(gid, plus=300)
    assert grpc_app.state(gid) == ("failed", "SP")
    assert grpc_app.called(gid) == ["/TransOutRevert"]


@pytest.mark.conformance("TestTccGrpcCoverPanic", part="the abort that the client sends; raising again is its own")
def test_tcc_grpc_cover_panic(grpc_app):
    gid = grpc_app.begin("tcc")
    assert grpc_app.abort("tcc", gid, "panic: user panic").status == 200
    assert grpc_app.state(gid) == ("failed", "")
    assert grpc_app.reason(gid) == "panic: user panic"


@pytest.mark.conformance("TestTccGrpcNested")
def test_tcc_grpc_nested(grpc_app):
    gid = grpc_app.begin("tcc")
    for name, branch_id in (("TransOut", "01"), ("TransInNested", "02"), ("TransIn", "0201")):
        assert grpc_app.tcc_branch(gid, name, branch_id).status == 200
    assert grpc_app.end("tcc", gid).status == 200
    assert grpc_app.state(gid) == ("succeed", "PSPSPS")
    assert sorted(grpc_app.called(gid)[3:]) == ["/TransInConfirm", "/TransInNestedConfirm", "/TransOutConfirm"]


@pytest.mark.conformance(
    "TestTccGrpcType", "TestXaGrpcType", part="a branch without its metadata; the rest is the client's"
)
def test_grpc_type(grpc_app):
    for mode in ("tcc", "xa"):
        for missing in ("gid", "trans_type", "branch_id"):
            gid = grpc_app.begin(mode)
            fields = {"gid": gid, "trans_type": mode, "branch_id": "01", "confirm": "", "cancel": "", "url": ""}
            answer = grpc_app.post("registerBranch", {**fields, missing: ""})
            assert answer.status in (409, 500), missing
            assert grpc_app.state(gid) == ("prepared", "")


def xa_branches(app, gid, *names):
    """Branches 01, 02, ... whose participants prepared their databases."""
    for number, name in enumerate(names, start=1):
        assert app.call(f"/{name}Xa", gid, "xa", f"{number:02d}", "action").status == 200
        assert app.register_xa(gid, name, f"{number:02d}").status == 200


@pytest.mark.conformance("TestXaGrpcNormal")
def test_xa_grpc_normal(grpc_app, grpc_bank):
    gid = grpc_app.begin("xa")
    xa_branches(grpc_app, gid, "TransOut", "TransIn")
    assert grpc_app.end("xa", gid).status == 200
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    phase_two = [call for call in grpc_bank.calls if call.op == "commit"]
    assert sorted(call.branch_id for call in phase_two) == ["01", "02"]
    assert {(call.body, call.mode) for call in phase_two} == {(b"", "xa")}


@pytest.mark.conformance("TestXaGrpcRollback")
def test_xa_grpc_rollback(grpc_app, grpc_bank):
    gid = grpc_app.begin("xa")
    xa_branches(grpc_app, gid, "TransOut")
    grpc_bank.script("/TransInXa", [FAILURE])
    assert grpc_app.call("/TransInXa", gid, "xa", "02", "action").status == 409
    assert grpc_app.abort("xa", gid).status == 200
    assert grpc_app.state(gid) == ("failed", "SP")
    assert [(call.op, call.branch_id) for call in grpc_bank.calls[2:]] == [("rollback", "01")]


@pytest.mark.conformance("TestXaGrpcLocalError")
def test_xa_grpc_local_error(grpc_app, server):
    gid = grpc_app.begin("xa")
    assert grpc_app.abort("xa", gid).status == 200
    assert grpc_app.state(gid) == ("failed", "")
    assert server.cron() == []
