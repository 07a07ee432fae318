"""Workflows: the client's code runs the steps, the server remembers them and calls back."""

import pytest

from acceptance.application import Interrupted, Refused, WorkflowClient
from reefknot.testing.participant import ERROR, FAILURE, ONGOING

SDK = "the requests of the client's loop"


def transfer(run):
    """Two steps that can be undone."""
    run.step("/TransOut", rollback="/TransOutRevert")
    run.step("/TransIn", rollback="/TransInRevert")
    return "result of workflow"


def two_tries(run):
    """Two tries with what confirms and cancels them."""
    run.step("/TransOut", op="try", commit="/TransOutConfirm", rollback="/TransOutRevert")
    run.step("/TransIn", op="try", commit="/TransInConfirm", rollback="/TransInRevert")
    return ""


def two_databases(run):
    """Two xa branches: business recorded before the database is prepared, committed in phase two."""
    run.step("/TransOutXa", op="business", commit="/TransOutXa", rollback="/TransOutXa")
    run.step("/TransInXa", op="business", commit="/TransInXa", rollback="/TransInXa")
    return ""


@pytest.fixture
def start(app, server):
    """Runs a workflow the first time; its client, gid, and what it came to."""

    def run(function):
        client, gid = WorkflowClient(app, "transfer", function), server.new_gid()
        try:
            return client, gid, client.execute(gid)
        except (Refused, Interrupted) as error:
            return client, gid, error

    return run


@pytest.mark.conformance(
    "TestWorkflowBranchConflict", differs="the same content again is no conflict, other content is"
)
def test_workflow_branch_conflict(app, server):
    client, gid = WorkflowClient(app, "transfer", transfer), server.new_gid()
    assert server.post("prepareWorkflow", client.body(gid)).status == 200
    step = {"gid": gid, "trans_type": "workflow", "branch_id": "00", "op": "action", "status": "succeed", "data": "1"}
    assert server.post("registerBranch", step).status == 200
    assert server.post("registerBranch", step).status == 200
    conflict = server.post("registerBranch", {**step, "data": "2"})
    assert (conflict.status, conflict.json()["dtm_result"]) == (409, "FAILURE")
    assert app.state(gid) == ("prepared", "S")


@pytest.mark.conformance("TestWorkflowNormal", part=SDK)
def test_workflow_normal(app, start):
    _, gid, result = start(transfer)
    assert result == "result of workflow"
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestWorkflowRet", part=SDK)
def test_workflow_ret(app, start):
    client, gid, result = start(transfer)
    assert client.execute(gid) == result == "result of workflow"
    assert app.field(gid, "result") == result
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("TestWorkflowRollback", part=SDK)
def test_workflow_rollback(app, bank, start):
    bank.script("/TransIn", [FAILURE])
    client, gid, result = start(transfer)
    assert isinstance(result, Refused)
    assert app.state(gid) == ("failed", "SFS")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransOutRevert"]
    with pytest.raises(Refused, match="FAILURE"):
        client.execute(gid)
    assert "FAILURE" in app.reason(gid)


@pytest.mark.conformance("TestWorkflowTcc", part=SDK)
def test_workflow_tcc(app, start):
    _, gid, _ = start(two_tries)
    assert app.state(gid) == ("succeed", "SSSS")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransInConfirm", "/TransOutConfirm"]


@pytest.mark.conformance("TestWorkflowTccRollback", part=SDK)
def test_workflow_tcc_rollback(app, bank, start):
    bank.script("/TransIn", [FAILURE])
    _, gid, result = start(two_tries)
    assert isinstance(result, Refused)
    assert app.state(gid) == ("failed", "SFS")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/TransOutRevert"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(ERROR, marks=pytest.mark.conformance("TestWorkflowError", part=SDK), id="error"),
        pytest.param(ONGOING, marks=pytest.mark.conformance("TestWorkflowOngoing", part=SDK), id="ongoing"),
    ],
)
def test_workflow_resumed(app, bank, start, answer):
    bank.script("/TransIn", [answer])
    _, gid, result = start(transfer)
    assert isinstance(result, Interrupted)
    assert app.state(gid) == ("prepared", "S")
    app.cron(gid, look_ahead=1000)
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/TransOut", "/TransIn", "/workflow/resume", "/TransIn"]
    callback = bank.calls[2]
    assert (callback.method, callback.branch_id, callback.op) == ("POST", "00", "transfer")
    assert (callback.mode, callback.body) == ("workflow", b'{"amount":30}')


@pytest.mark.conformance("TestWorkflowResumeSkip", part=SDK)
def test_workflow_resume_skip(app, bank, start):
    bank.script("/TransIn", [ONGOING])
    _, gid, _ = start(transfer)
    app.cron(gid, look_ahead=1000)
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid).count("/TransOut") == 1


@pytest.mark.conformance("TestWorkflowSimpleResume", part=SDK)
def test_workflow_simple_resume(app, start):
    runs = []

    def once_ongoing(run):
        runs.append(run)
        if len(runs) == 1:
            raise Interrupted
        return ""

    _, gid, result = start(once_ongoing)
    assert isinstance(result, Interrupted)
    app.cron(gid, look_ahead=1000)
    assert (app.state(gid), len(runs)) == (("succeed", ""), 2)


@pytest.mark.conformance("TestWorkflowXaAction", part=SDK)
def test_workflow_xa_action(app, start):
    _, gid, _ = start(two_databases)
    assert app.state(gid) == ("succeed", "SSSS")
    assert app.called(gid) == ["/TransOutXa", "/TransInXa", "/TransInXa", "/TransOutXa"]


@pytest.mark.conformance("TestWorkflowXaRollback", part=SDK)
def test_workflow_xa_rollback(app, bank, start):
    bank.script("/TransInXa", [FAILURE])
    _, gid, result = start(two_databases)
    assert isinstance(result, Refused)
    assert app.state(gid) == ("failed", "SFS")
    assert app.called(gid) == ["/TransOutXa", "/TransInXa", "/TransOutXa"]


@pytest.mark.conformance("TestWorkflowXaResume", part=SDK)
def test_workflow_xa_resume(app, bank, start):
    bank.script("/TransOutXa", [ONGOING])
    bank.script("/TransInXa", [ONGOING, ONGOING])
    _, gid, result = start(two_databases)
    assert isinstance(result, Interrupted)
    for rows in ("S", "S"):
        app.cron(gid, look_ahead=1000)
        assert app.state(gid) == ("prepared", rows)
    app.cron(gid, look_ahead=1000)
    assert app.state(gid) == ("succeed", "SSSS")
