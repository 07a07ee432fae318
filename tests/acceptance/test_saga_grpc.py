"""Sagas over gRPC, from the submit to the branches."""

import json

import pytest

from reefknot.testing.participant import ONGOING, Say

REFUSAL = Say(409, b"reason:Insufficient balance")
BARRIER = "the requests of the client; the barrier in front of the business is its own"


@pytest.mark.conformance("TestSagaGrpcNormal")
def test_saga_grpc_normal(grpc_app, grpc_bank):
    gid = grpc_app.submit(grpc_app.saga())
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn"]
    assert grpc_app.field(gid, "protocol") == "grpc"
    first = grpc_bank.calls[0]
    assert (first.op, first.branch_id, first.mode, first.body) == ("action", "01", "saga", b'{"amount": 30}')


@pytest.mark.conformance("TestSagaGrpcRollback")
def test_saga_grpc_rollback(grpc_app, grpc_bank):
    grpc_bank.script("/TransIn", [REFUSAL])
    grpc_bank.script("/TransOutRevert", [ONGOING])
    gid = grpc_app.submit(grpc_app.saga())
    assert grpc_app.state(gid)[0] == "aborting"
    grpc_app.cron(gid)
    assert grpc_app.state(gid) == ("failed", "SSSF")
    assert "Insufficient balance" in grpc_app.reason(gid)


@pytest.mark.parametrize(
    "orders",
    [
        pytest.param({}, marks=pytest.mark.conformance("TestSagaGrpcCurrent"), id="none"),
        pytest.param({"1": [0]}, marks=pytest.mark.conformance("TestSagaGrpcCurrentOrder"), id="second after first"),
    ],
)
def test_saga_grpc_concurrent(grpc_app, grpc_bank, orders):
    for path in ("/TransOut", "/TransIn"):
        grpc_bank.always(path, Say(seconds=0.2))
    custom = json.dumps({"concurrent": True, "orders": orders})
    gid = grpc_app.submit(grpc_app.saga(custom_data=custom))
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    first, second = grpc_bank.calls
    assert (second.started < first.ended) == (not orders)


@pytest.mark.conformance("TestSagaGrpcCommittedOngoing")
def test_saga_grpc_committed_ongoing(grpc_app, grpc_bank):
    grpc_bank.script("/TransOut", [ONGOING])
    gid = grpc_app.submit(grpc_app.saga())
    assert grpc_app.state(gid) == ("submitted", "PPPP")
    grpc_app.cron(gid)
    assert grpc_app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestSagaGrpcNormalWait")
def test_saga_grpc_normal_wait(grpc_app, server):
    gid = grpc_app.submit(grpc_app.saga(wait_result=True))
    assert (server.status(gid), server.branches(gid)) == ("succeed", ["prepared", "succeed"] * 2)


@pytest.mark.conformance("TestSagaGrpcEmptyUrl")
def test_saga_grpc_empty_url(grpc_app, grpc_bank):
    steps = [{"action": grpc_bank.url("/TransOut"), "compensate": ""}, {"action": "", "compensate": ""}]
    gid = grpc_app.submit(grpc_app.saga(steps=steps, payloads=["", ""]))
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert grpc_app.called(gid) == ["/TransOut"]


@pytest.mark.conformance("TestSagaGrpcWithGlobalTransRequestTimeout")
def test_saga_grpc_request_timeout(grpc_app, grpc_bank):
    gid = grpc_app.submit(grpc_app.saga(request_timeout=6, payloads=["", ""], wait_result=True))
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert [3 < call.deadline_seconds < 6.5 for call in grpc_bank.calls] == [True, True]
    assert "test_header" not in grpc_bank.calls[0].metadata
    assert grpc_bank.calls[0].body == b""


@pytest.mark.conformance("TestSagaGrpcOptionsRollbackWait")
def test_saga_grpc_rollback_wait(grpc_app, grpc_bank):
    grpc_bank.script("/TransIn", [REFUSAL])
    body = grpc_app.saga(wait_result=True)
    answer = grpc_app.post("submit", body)
    assert (answer.status, answer.json()["code"]) == (409, "ABORTED")
    assert "Insufficient balance" in answer.json()["message"]
    assert grpc_app.state(body["gid"]) == ("failed", "SSSF")
    assert "Insufficient balance" in grpc_app.reason(body["gid"])


@pytest.mark.conformance("TestSagaGrpcHeaders")
def test_saga_grpc_headers(grpc_app, grpc_bank):
    gid = grpc_app.submit(grpc_app.saga(branch_headers={"Test_Header": "test"}, wait_result=True))
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert [call.metadata["test_header"] for call in grpc_bank.calls] == ["test", "test"]


@pytest.mark.conformance("TestSagaGrpcCronHeaders")
def test_saga_grpc_cron_headers(grpc_app, grpc_bank):
    grpc_bank.script("/TransIn", [ONGOING])
    gid = grpc_app.submit(grpc_app.saga(branch_headers={"test_header": "test"}))
    assert grpc_app.state(gid)[0] == "submitted"
    grpc_app.cron(gid)
    assert grpc_app.state(gid) == ("succeed", "PSPS")
    assert [call.metadata["test_header"] for call in grpc_bank.calls] == ["test"] * 3


@pytest.mark.conformance("TestSagaGrpcBarrierNormal", part=BARRIER)
def test_saga_grpc_barrier_normal(grpc_app):
    gid = grpc_app.submit(grpc_app.saga("TransOutBarrier", "TransInBarrier", wait_result=True))
    assert grpc_app.state(gid) == ("succeed", "PSPS")


@pytest.mark.conformance("TestSagaGrpcBarrierRollback", part=BARRIER)
def test_saga_grpc_barrier_rollback(grpc_app, grpc_bank):
    grpc_bank.script("/TransInBarrier", [REFUSAL])
    gid = grpc_app.submit(grpc_app.saga("TransOutBarrier", "TransInBarrier"))
    assert grpc_app.state(gid) == ("failed", "SSSF")
    assert grpc_app.called(gid)[2:] == ["/TransInBarrierRevert", "/TransOutBarrierRevert"]
