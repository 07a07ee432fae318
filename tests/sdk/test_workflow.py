"""Workflows over HTTP: DTM's own tests of them, with a real server, a real service and a real callback."""

import json

import pytest

from reefknot import (
    AsyncWorkflow,
    Failure,
    Invalid,
    NotFound,
    Ongoing,
    OutcomeUnknown,
    RolledBack,
    Workflow,
    Workflows,
    workflow,
)
from reefknot.testing.participant import ERROR, FAILURE, ONGOING
from reefknot.testing.server import LocalServer
from sdk.workflow_bank import Program, new_gid, raising

OUT, IN = ("/out", "action"), ("/in", "action")


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@workflow("saga")
def saga(w: Workflow, bank: str, amount: int) -> str:
    w.call(f"{bank}/out", {"amount": amount}, undo=f"{bank}/out/undo")
    w.call(f"{bank}/in", {"amount": amount}, undo=f"{bank}/in/undo")
    return "result of workflow"


@workflow("saga")
async def async_saga(w: AsyncWorkflow, bank: str, amount: int) -> str:
    await w.call(f"{bank}/out", {"amount": amount}, undo=f"{bank}/out/undo")
    await w.call(f"{bank}/in", {"amount": amount}, undo=f"{bank}/in/undo")
    return "result of workflow"


@workflow("tcc")
def tcc(w: Workflow, bank: str, amount: int) -> None:
    for side in ("out", "in"):
        w.call(f"{bank}/{side}", amount, commit=f"{bank}/{side}/take", undo=f"{bank}/{side}/free")


@workflow("tcc")
async def async_tcc(w: AsyncWorkflow, bank: str, amount: int) -> None:
    for side in ("out", "in"):
        await w.call(f"{bank}/{side}", amount, commit=f"{bank}/{side}/take", undo=f"{bank}/{side}/free")


SAGAS = pytest.mark.parametrize("saga", [saga, async_saga], ids=["sync", "async"])
TCCS = pytest.mark.parametrize("tcc", [tcc, async_tcc], ids=["sync", "async"])


@SAGAS
@pytest.mark.conformance("TestWorkflowNormal")
def test_workflow_normal(server, saga):
    gid = new_gid()
    with Program(server, [saga]) as program:
        assert program.run(gid, saga, program.url(""), 30) == "result of workflow"
        assert program.state(gid) == "succeed"
        assert program.called(gid) == [OUT, IN]
        assert program.rows(gid, "action") == [("01", "action", "succeed"), ("02", "action", "succeed")]
        assert [call.body for call in program.bank.calls] == [b'{"amount":30}'] * 2


@SAGAS
@pytest.mark.conformance("TestWorkflowRet")
def test_workflow_ret(server, saga):
    gid = new_gid()
    with Program(server, [saga]) as program:
        first = program.run(gid, saga, program.url(""), amount=30)
        assert program.run(gid, saga, program.url(""), amount=30) == first == "result of workflow"
        assert program.called(gid) == [OUT, IN]


@SAGAS
@pytest.mark.conformance("TestWorkflowRollback")
def test_workflow_rollback(server, saga):
    gid = new_gid()
    with Program(server, [saga]) as program:
        program.bank.script("/in", [FAILURE])
        for _ in range(2):
            with raising(RolledBack) as errors:
                program.run(gid, saga, program.url(""), 30)
            assert (errors[0].gid, errors[0].reason) == (gid, "reason:refused.")
        assert program.state(gid) == "failed"
        assert program.called(gid) == [OUT, IN, ("/in/undo", "rollback"), ("/out/undo", "rollback")]
        assert program.rows(gid, "action") == [("01", "action", "succeed"), ("02", "action", "failed")]


@TCCS
@pytest.mark.conformance("TestWorkflowTcc")
def test_workflow_tcc(server, tcc):
    gid = new_gid()
    with Program(server, [tcc]) as program:
        assert program.run(gid, tcc, program.url(""), 30) is None
        assert program.state(gid) == "succeed"
        assert program.called(gid) == [OUT, IN, ("/in/take", "commit"), ("/out/take", "commit")]
        assert {call.body for call in program.bank.calls} == {b"30"}


@TCCS
@pytest.mark.conformance("TestWorkflowTccRollback")
def test_workflow_tcc_rollback(server, tcc):
    gid = new_gid()
    with Program(server, [tcc]) as program:
        program.bank.script("/in", [FAILURE])
        with pytest.raises(RolledBack):
            program.run(gid, tcc, program.url(""), 30)
        assert program.state(gid) == "failed"
        assert program.called(gid) == [OUT, IN, ("/in/free", "rollback"), ("/out/free", "rollback")]


@SAGAS
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(ERROR, OutcomeUnknown, marks=pytest.mark.conformance("TestWorkflowError"), id="error"),
        pytest.param(ONGOING, Ongoing, marks=pytest.mark.conformance("TestWorkflowOngoing"), id="ongoing"),
    ],
)
def test_workflow_resumed(server, saga, answer, told):
    gid = new_gid()
    with Program(server, [saga]) as program:
        program.bank.script("/in", [answer])
        with pytest.raises(told):
            program.run(gid, saga, program.url(""), 30)
        assert program.state(gid) == "prepared"
        assert program.cron() == [gid]
        assert program.state(gid) == "succeed"
        assert program.called(gid) == [OUT, IN, IN]
        assert [answer.status for answer in program.answers(1)] == [200]


def test_parameters_may_have_any_name(server):
    @workflow("named")
    def named(w: Workflow, function: str, self: str) -> str:
        return function + self

    with Program(server, [named]) as program:
        assert program.flows.run(named, function="a", self="b") == "ab"
        assert program.flows.execution(new_gid()).run(named, function="a", self="b") == "ab"
        gid = program.flows.execution(new_gid()).start(named, function="a", self="b")
        program.cron()
        assert program.state(gid) == "succeed"


def test_what_broke_a_workflow_stays_in_its_own_log(server, caplog):
    @workflow("broken")
    def broken(w: Workflow) -> None:
        raise ConnectionError("postgres://bank:secret@db refused")

    with Program(server, [broken]) as program:
        answer = program.handle({"op": "broken", "gid": new_gid()}, b"{}")
        assert (answer.status, json.loads(answer.body)) == (500, {"message": "ConnectionError"})
    assert "secret@db refused" in caplog.text


@pytest.mark.conformance("TestWorkflowResumeSkip")
def test_workflow_resume_skip(server):
    done = []

    @workflow("skip")
    def skip(w: Workflow, bank: str) -> int:
        number = w.do(lambda: done.append("step") or len(done))
        w.call(f"{bank}/out")
        return number

    gid = new_gid()
    with Program(server, [skip]) as program:
        program.bank.script("/out", [ONGOING])
        with pytest.raises(Ongoing):
            program.run(gid, skip, program.url(""))
        program.cron()
        assert program.state(gid) == "succeed"
        assert program.run(gid, skip, program.url("")) == 1
        assert done == ["step"]


@pytest.mark.conformance("TestWorkflowSimpleResume")
def test_workflow_simple_resume(server):
    runs = []

    @workflow("once ongoing")
    def once_ongoing(w: Workflow) -> None:
        runs.append(w.gid)
        if len(runs) == 1:
            raise Ongoing("in review")

    gid = new_gid()
    with Program(server, [once_ongoing]) as program:
        with pytest.raises(Ongoing, match="in review"):
            program.run(gid, once_ongoing)
        assert program.state(gid) == "prepared"
        program.cron()
        assert (program.state(gid), runs) == ("succeed", [gid, gid])


@pytest.mark.conformance("UnitWorkflow")
def test_names_are_known_and_unique(server):
    with Program(server, [saga]) as program:
        answer = program.handle({"op": "other", "gid": new_gid()}, b"{}")
        assert (answer.status, b"no workflow named 'other' here; there are: saga" in answer.body) == (500, True)
        with pytest.raises(NotFound, match="'tcc' is none of these"):
            program.run(new_gid(), tcc, program.url(""), 30)
        with pytest.raises(Invalid, match="two workflows are named 'saga'"):
            Workflows(program.client, [saga, saga], callback=program.callback)
    for name in ("", "x" * 46, "a\nb"):
        with pytest.raises(Invalid, match="cannot name a workflow"):
            workflow(name)


def test_start_leaves_it_to_the_server(server):
    gid = new_gid()
    with Program(server, [saga]) as program:
        assert program.start(gid, saga, program.url(""), 30) == gid
        assert (program.state(gid), program.called(gid)) == ("prepared", [])
        assert server.cron(look_ahead=0) == [gid]
        assert (program.state(gid), program.called(gid)) == ("succeed", [OUT, IN])
        assert program.run(gid, saga, program.url(""), 30) == "result of workflow"


@workflow("refuses")
def refuses(w: Workflow, bank: str, way: str) -> str:
    if way == "itself":
        w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        raise Failure("no more than three a day")
    try:
        w.call(f"{bank}/in", undo=f"{bank}/in/undo")
    except Failure as refusal:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        return f"another way: {refusal.reason}"
    return "the first way"


def test_failure_of_the_function_keeps_its_text(server):
    gid = new_gid()
    with Program(server, [refuses]) as program:
        with raising(RolledBack) as errors:
            program.run(gid, refuses, program.url(""), "itself")
        assert errors[0].reason == "no more than three a day"
        assert program.called(gid) == [OUT, ("/out/undo", "rollback")]
        assert server.get("query", gid=gid).json()["transaction"]["rollback_reason"] == errors[0].reason


def test_a_refused_step_can_be_replaced(server):
    gid = new_gid()
    with Program(server, [refuses]) as program:
        program.bank.script("/in", [FAILURE])
        # The second step has no clear answer, so the first one's refusal is read back from its record.
        program.bank.script("/out", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, refuses, program.url(""), "around")
        program.cron()
        assert program.state(gid) == "succeed"
        assert program.run(gid, refuses, program.url(""), "around") == "another way: reason:refused."
        assert program.called(gid) == [IN, OUT, OUT]
