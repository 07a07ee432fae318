"""Workflows over gRPC: the steps are recorded, the server calls back, the result is kept."""

import base64

import pytest

from acceptance.application import Interrupted, Refused, WorkflowClient
from acceptance.test_workflow import transfer
from reefknot.testing.participant import ERROR, FAILURE, ONGOING
from reefknot.wire.proto.workflow_pb2 import WorkflowData

SDK = "the requests of the client's loop"


@pytest.fixture
def start(grpc_app, server):
    """Runs a workflow the first time; its client, gid, and what it came to."""

    def run(function):
        client, gid = WorkflowClient(grpc_app, "transfer", function), server.new_gid()
        try:
            return client, gid, client.execute(gid)
        except (Refused, Interrupted) as error:
            return client, gid, error

    return run


def two_calls(run):
    """Two steps without anything to undo them."""
    run.step("/TransOut")
    run.step("/TransIn")
    return ""


@pytest.mark.deviation("Q11")
def test_q11_a_finished_workflow_gives_its_result_over_grpc(grpc_app, start):
    result = base64.b64encode(b"\x00 result").decode()

    def with_result(run):
        two_calls(run)
        return result

    client, gid, first = start(with_result)
    assert client.execute(gid) == first == result
    assert grpc_app.state(gid) == ("succeed", "SS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestWorkflowGrpcSimple", part=SDK)
def test_workflow_grpc_simple(grpc_app, grpc_bank, start):
    grpc_bank.script("/TransIn", [FAILURE])
    _, gid, error = start(two_calls)
    assert isinstance(error, Refused)
    assert grpc_app.state(gid) == ("failed", "SF")


@pytest.mark.conformance("TestWorkflowGrpcRollback", part=SDK)
def test_workflow_grpc_rollback(grpc_app, grpc_bank, start):
    grpc_bank.script("/TransIn", [FAILURE])
    client, gid, error = start(transfer)
    assert isinstance(error, Refused)
    assert grpc_app.state(gid) == ("failed", "SFS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn", "/TransOutRevert"]
    with pytest.raises(Refused):
        client.execute(gid)


@pytest.mark.conformance("TestWorkflowGrpcError", part=SDK)
def test_workflow_grpc_error(grpc_app, grpc_bank, start):
    grpc_bank.script("/TransIn", [ERROR])
    _, gid, error = start(transfer)
    assert isinstance(error, Interrupted)
    assert grpc_app.state(gid) == ("prepared", "S")
    grpc_app.cron(gid, look_ahead=1000)
    assert grpc_app.state(gid) == ("succeed", "SS")
    assert grpc_app.called(gid) == ["/TransOut", "/TransIn", "/workflow.Workflow/Execute", "/TransIn"]
    callback = grpc_bank.calls[2]
    assert (callback.branch_id, callback.op, callback.mode) == ("00", "transfer", "workflow")
    assert WorkflowData.FromString(callback.body).Data == b'{"amount":30}'


@pytest.mark.conformance("TestWorkflowGrpcRollbackResume", part=SDK)
def test_workflow_grpc_rollback_resume(grpc_app, grpc_bank, start):
    grpc_bank.script("/TransOut", [ONGOING])
    grpc_bank.script("/TransIn", [ONGOING, ONGOING, FAILURE])
    grpc_bank.script("/TransOutRevert", [ONGOING, ONGOING])
    _, gid, error = start(transfer)
    assert isinstance(error, Interrupted)
    for _ in range(4):
        assert grpc_app.state(gid)[0] == "prepared"
        grpc_app.cron(gid, look_ahead=1000)
    assert grpc_app.state(gid)[0] == "prepared"
    grpc_app.cron(gid, look_ahead=1000)
    assert grpc_app.state(gid) == ("failed", "SFS")
    assert grpc_app.called(gid).count("/TransOutRevert") == 3
