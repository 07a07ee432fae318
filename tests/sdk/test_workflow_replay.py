"""A run is the same as those before it: what it is told, which steps it comes to, with which arguments."""

import asyncio
import dataclasses
import functools
import json
from base64 import b64encode
from collections.abc import Awaitable

import msgspec
import pytest

from reefknot import (
    AsyncClient,
    AsyncWorkflow,
    AsyncWorkflows,
    Client,
    Failure,
    GidConflict,
    Invalid,
    OutcomeUnknown,
    RolledBack,
    Workflow,
    WorkflowChanged,
    Workflows,
    workflow,
)
from reefknot.testing.participant import ERROR, FAILURE, Say
from reefknot.testing.server import LocalServer
from sdk.client_faces import PROTOCOLS, server_url
from sdk.workflow_bank import Program, new_gid, raising


@pytest.fixture(scope="module")
def server():
    with LocalServer(grpc=True) as server:
        yield server


class NotEnough(Failure):
    """The business's own refusal."""


# --- refusals -------------------------------------------------------------------------------------


def test_a_refusal_is_of_the_same_class_in_every_run(server):
    """A subclass of Failure that only the first run knew would take that run another way than the next one."""
    told, dies = [], [True]

    def refuse() -> None:
        raise NotEnough("not\nenough")

    @workflow("pay")
    def pay(w: Workflow) -> str:
        try:
            w.do(refuse)
        except NotEnough:
            w.do(lambda: pytest.fail("the way of the first run alone"))
        except Failure as refusal:
            told.append((type(refusal), str(refusal), refusal.gid, refusal.branch_id))
            causes.append(refusal.__cause__)
        if dies:
            raise ConnectionError(dies.pop())
        return "paid"

    gid, causes = new_gid(), []
    with Program(server, [pay]) as program:
        with pytest.raises(ConnectionError):
            program.run(gid, pay)
        assert program.run(gid, pay) == "paid"
    assert told[0] == told[1]
    assert told[0][0] is Failure
    assert (type(causes[0]), causes[1]) == (NotEnough, None)


@pytest.mark.parametrize("kind", ["call", "xa"])
def test_a_refusal_of_another_kind_of_step_is_of_the_same_class_too(server, kind):
    told, dies = [], [True]

    def connect():
        raise NotEnough("no connection for you")

    @workflow("pay")
    def pay(w: Workflow, bank: str) -> None:
        try:
            if kind == "call":
                w.call(f"{bank}/out")
            else:
                w.xa(connect, lambda _: None)
        except Failure as refusal:
            told.append((type(refusal), str(refusal), refusal.url))
        if dies:
            raise ConnectionError(dies.pop())

    gid = new_gid()
    with Program(server, [pay]) as program:
        program.bank.always("/out", FAILURE)
        with pytest.raises(ConnectionError):
            program.run(gid, pay, program.url(""))
        program.run(gid, pay, program.url(""))
    assert told[0] == told[1]
    assert told[0][0] is Failure


# --- steps that a later run leaves out ------------------------------------------------------------


def two_steps(dies, ends):
    """The first version does /out and /in and dies; the second one knows nothing of /in and ends at once."""

    @workflow("pay")
    def pay(w: Workflow, bank: str) -> str:
        w.call(f"{bank}/out", undo=f"{bank}/out/undo", commit=f"{bank}/out/take")
        if dies:
            w.call(f"{bank}/in", undo=f"{bank}/in/undo", commit=f"{bank}/in/take")
            raise ConnectionError
        return ends()

    @workflow("pay")
    async def async_pay(w: AsyncWorkflow, bank: str) -> str:
        await w.call(f"{bank}/out", undo=f"{bank}/out/undo", commit=f"{bank}/out/take")
        if dies:
            await w.call(f"{bank}/in", undo=f"{bank}/in/undo", commit=f"{bank}/in/take")
            raise ConnectionError
        return ends()

    return {"sync": pay, "async": async_pay}


def refuses():
    raise Failure("the second version says no")


@pytest.mark.parametrize("ends", [refuses, lambda: "paid"], ids=["refuses", "returns"])
@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("answer", [None, ERROR], ids=["with a result", "at work"])
def test_a_step_that_is_left_out_decides_nothing(server, face, ends, answer):
    dies, gid = [True], new_gid()
    pay = two_steps(dies, ends)[face]
    with Program(server, [pay]) as program:
        if answer is not None:
            program.bank.script("/in", [answer])
        with pytest.raises((ConnectionError, OutcomeUnknown)):
            program.run(gid, pay, program.url(""))
        dies.clear()
        for _ in range(2):
            with raising(WorkflowChanged) as errors:
                program.run(gid, pay, program.url(""))
        assert (errors[0].gid, errors[0].branch_id) == (gid, "02")
        assert f"step 02 'call {program.url('/in')}' is recorded, and this run ended without it" in errors[0].what
        assert [path for path, _ in program.called(gid)] == ["/out", "/in"]
        assert (program.state(gid), program.rows(gid, "decision")) == ("prepared", [])
        # The code that started it can still end it.
        dies.append(True)
        program.bank.script("/in", [FAILURE])
        with pytest.raises((ConnectionError, RolledBack)):
            program.run(gid, pay, program.url(""))


def test_a_step_of_another_language_that_is_left_out_decides_nothing(server):
    """It has recorded no names."""

    @workflow("pay")
    def pay(w: Workflow) -> None:
        w.do(lambda: None)

    gid = new_gid()
    with Program(server, [pay]) as program:
        program.start(gid, pay)
        for branch_id in ("01", "02"):
            row = {"gid": gid, "trans_type": "workflow", "branch_id": branch_id, "op": "action", "status": "succeed"}
            assert server.post("registerBranch", row | {"data": "null"}).status == 200
        with pytest.raises(WorkflowChanged, match="step 02 is recorded, and this run ended without it"):
            program.run(gid, pay)
        assert program.state(gid) == "prepared"


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_step_after_one_without_an_answer_is_undone_by_the_next_run_too(server, face):
    """The function caught that the first step had no answer; the program dies between the two undos."""

    @workflow("goes on")
    def goes_on(w: Workflow, bank: str) -> None:
        try:
            w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        except OutcomeUnknown:
            w.call(f"{bank}/in", undo=f"{bank}/in/undo")
        raise Failure("no patience")

    @workflow("goes on")
    async def async_goes_on(w: AsyncWorkflow, bank: str) -> None:
        try:
            await w.call(f"{bank}/out", undo=f"{bank}/out/undo")
        except OutcomeUnknown:
            await w.call(f"{bank}/in", undo=f"{bank}/in/undo")
        raise Failure("no patience")

    flow = {"sync": goes_on, "async": async_goes_on}[face]
    gid = new_gid()
    with Program(server, [flow]) as program:
        program.bank.script("/out", [ERROR])
        program.bank.script("/in/undo", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, flow, program.url(""))
        program.cron()
        assert program.state(gid) == "failed"
        paths = [path for path, _ in program.called(gid)]
        assert paths == ["/out", "/in", "/in/undo", "/in/undo", "/out/undo"]


def test_a_group_whose_undo_was_interrupted_is_undone_by_the_next_run(server):
    """A task group cancels step 01 without a result when step 02 is refused."""

    @workflow("group")
    async def group(w: AsyncWorkflow, bank: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in ("slow", "refused"):
                tasks.create_task(w.call(f"{bank}/{name}", undo=f"{bank}/{name}/undo"))

    gid = new_gid()
    with Program(server, [group]) as program:
        program.bank.always("/slow", Say(seconds=1))
        program.bank.always("/refused", Say(409, b"no", seconds=0.1))
        program.bank.script("/slow/undo", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, group, program.url(""))
        program.cron()
        assert program.state(gid) == "failed"
        undone = [path for path, op in program.called(gid) if op == "rollback"]
        assert sorted(undone) == ["/refused/undo", "/slow/undo", "/slow/undo"]


# --- arguments ------------------------------------------------------------------------------------


@workflow("transfer")
def transfer(w: Workflow, bank: str, amount: int, tags: frozenset[str] = frozenset(), currency: str = "EUR") -> int:
    w.call(f"{bank}/out", amount)
    w.call(f"{bank}/in", amount)
    return amount


@workflow("transfer")
async def async_transfer(
    w: AsyncWorkflow, bank: str, amount: int, tags: frozenset[str] = frozenset(), currency: str = "EUR"
) -> int:
    await w.call(f"{bank}/out", amount)
    await w.call(f"{bank}/in", amount)
    return amount


@workflow("transfer-2")
def newer(w: Workflow, bank: str, amount: int) -> int:
    return amount


@workflow("transfer-2")
async def async_newer(w: AsyncWorkflow, bank: str, amount: int) -> int:
    return amount


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("transfer", "newer"), [(transfer, newer), (async_transfer, async_newer)], ids=["sync", "async"]
)
def test_a_gid_stands_for_one_workflow_with_one_set_of_arguments(server, protocol, transfer, newer):
    gid = new_gid()
    with Program(server, [transfer, newer], server_url(server, protocol)) as program:
        bank = program.url("")
        program.bank.script("/in", [ERROR])
        with pytest.raises(OutcomeUnknown):
            program.run(gid, transfer, bank, 30)
        for state in ("prepared", "succeed"):
            for run in (program.run, program.start):
                with raising(GidConflict) as errors:
                    run(gid, transfer, bank, 40)
                assert (errors[0].gid, errors[0].what) == (
                    gid,
                    "the gid is in use by a workflow 'transfer' with other arguments",
                )
                with pytest.raises(GidConflict, match="by a workflow named 'transfer', not 'transfer-2'"):
                    run(gid, newer, bank, 30)
            assert program.state(gid) == state
            program.cron()
        assert program.run(gid, transfer, bank, 30) == 30
        assert {call.body for call in program.bank.calls if call.path in ("/out", "/in")} == {b"30"}
        assert [path for path, _ in program.called(gid)] == ["/out", "/in", "/in"]


@pytest.mark.parametrize(
    "written",
    [
        '{"bank":"BANK","amount":30,"tags":["a","b","c"],"currency":"EUR"}',
        '{"bank":"BANK","amount":30,"tags":["c","a","b"],"currency":"EUR"}',
        '{ "tags": ["b", "a", "c"], "amount": 30, "bank": "BANK" }',
    ],
    ids=["the same bytes", "a set in another order", "another language"],
)
def test_the_same_arguments_in_another_form_are_no_conflict(server, written):
    gid = new_gid()
    with Program(server, [transfer]) as program:
        data = written.replace("BANK", program.url("")).encode()
        custom = json.dumps({"data": b64encode(data).decode(), "name": "transfer"})
        body = {"gid": gid, "trans_type": "workflow", "query_prepared": program.callback, "custom_data": custom}
        assert server.post("prepareWorkflow", body).status == 200
        assert program.run(gid, transfer, program.url(""), 30, frozenset({"a", "b", "c"})) == 30
        with pytest.raises(GidConflict):
            program.run(gid, transfer, program.url(""), 30, frozenset({"a", "b"}))


def test_arguments_that_cannot_be_compared_by_their_class_are_compared_as_they_are_recorded(server):
    class Order(msgspec.Struct, eq=False):
        number: int

    def take(w: Workflow, order: object) -> int:
        return order.number

    take.__annotations__["order"] = Order
    flow, gid = workflow("take")(take), new_gid()
    with Program(server, [flow]) as program:
        custom = json.dumps({"name": "take", "data": b64encode(b'{"order": {"number": 7}}').decode()})
        body = {"gid": gid, "trans_type": "workflow", "query_prepared": program.callback, "custom_data": custom}
        assert server.post("prepareWorkflow", body).status == 200
        assert program.run(gid, flow, Order(7)) == 7
        with pytest.raises(GidConflict):
            program.run(gid, flow, Order(8))


# --- results that cannot be recorded, and functions of the wrong kind -----------------------------


@dataclasses.dataclass(eq=False)
class Odd:
    """It cannot even be compared."""

    number: int = 1

    def __eq__(self, other):
        raise RuntimeError("odd")

    __hash__ = None


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ((200, "receipt"), "is a tuple, which a replay would give back as list"),
        (Odd(), "cannot be recorded (RuntimeError: odd)"),
        ({"n": float("nan")}, "is a dict, which a replay would give back as dict"),
    ],
    ids=["tuple", "object", "nan"],
)
def test_work_whose_result_cannot_be_recorded_is_done_once(server, face, made, problem):
    charged = []

    def charge():
        charged.append(30)
        return made

    async def async_charge():
        return charge()

    @workflow("pay")
    def pay(w: Workflow) -> None:
        w.do(charge, undo=charged.pop)

    @workflow("pay")
    async def async_pay(w: AsyncWorkflow) -> None:
        await w.do(async_charge)

    flow, gid = {"sync": pay, "async": async_pay}[face], new_gid()
    with Program(server, [flow]) as program:
        told = []
        for _ in range(3):
            with raising(Invalid) as errors:
                program.run(gid, flow)
            told.append((errors[0].field, errors[0].problem, errors[0].fix, str(errors[0])))
        program.cron()
        (answer,) = program.answers(1)
        assert (answer.status, problem in answer.body.decode()) == (500, True)
        assert (told[0][0], problem in told[0][1], told[1:]) == ("the result of step 01", True, told[:1] * 2)
        assert "the step's work is done and is not done again" in told[0][3]
        assert charged == [30]
        assert program.rows(gid) == [("01", "step", "succeed"), ("01", "unrecordable", "succeed")]
        assert program.state(gid) == "prepared"


def test_work_whose_result_cannot_be_recorded_can_be_undone(server):
    """The function catches that in every run alike; the program dies between the undo and its record."""
    log, dies = [], [True]

    def undo() -> None:
        log.append("undone")
        if dies:
            raise ConnectionError(dies.pop())

    @workflow("pay")
    def pay(w: Workflow) -> None:
        try:
            w.do(lambda: log.append("done") or {1, 2}, undo=undo)
        except Invalid as error:
            raise Failure("no receipt") from error

    gid = new_gid()
    with Program(server, [pay]) as program:
        with pytest.raises(ConnectionError):
            program.run(gid, pay)
        with pytest.raises(RolledBack, match="no receipt"):
            program.run(gid, pay)
        assert log == ["done", "undone", "undone"]
        assert program.state(gid) == "failed"


def test_an_error_of_the_work_itself_is_no_record(server):
    runs = []

    def charge() -> int:
        runs.append("charge")
        if len(runs) == 1:
            raise Invalid("card", "is not known", "try again")
        return len(runs)

    @workflow("pay")
    def pay(w: Workflow) -> int:
        return w.do(charge)

    gid = new_gid()
    with Program(server, [pay]) as program:
        with pytest.raises(Invalid, match="card"):
            program.run(gid, pay)
        assert program.run(gid, pay) == 2


done = []


def plain():
    done.append("plain")


async def awaited():
    done.append("awaited")


class Plain:
    def work(self, *_):
        done.append("method")


@pytest.mark.parametrize("part", ["do", "undo", "commit", "xa", "branch", "on_rollback"])
@pytest.mark.parametrize("work", [plain, Plain().work, functools.partial(Plain().work, 1)])
def test_a_plain_function_is_refused_by_an_async_workflow_before_it_is_called(server, part, work):
    @workflow("wrong")
    async def wrong(w: AsyncWorkflow) -> None:
        match part:
            case "xa":
                await w.xa(awaited, work)
            case "branch":
                await w.branch().do(work)
            case "on_rollback":
                w.branch().on_rollback(work)
            case "do":
                await w.do(work)
            case _:
                await w.do(awaited, **{part: work})

    done.clear()
    gid = new_gid()
    with Program(server, [wrong]) as program:
        with pytest.raises(Invalid, match="is a plain function, which an async workflow cannot await"):
            program.run(gid, wrong)
        assert program.rows(gid) == []
    assert done == []


@pytest.mark.parametrize("work", [awaited, functools.partial(awaited)])
@pytest.mark.parametrize("part", ["do", "undo", "commit"])
def test_an_async_function_is_refused_by_a_plain_workflow_before_it_is_called(server, part, work):
    @workflow("wrong")
    def wrong(w: Workflow) -> None:
        w.do(**({"work": plain} | {"work" if part == "do" else part: work}))

    done.clear()
    gid = new_gid()
    with Program(server, [wrong]) as program:
        with pytest.raises(Invalid, match="awaited is an async def, which a plain workflow cannot await"):
            program.run(gid, wrong)
        assert program.rows(gid) == []
    assert done == []


def test_what_may_be_of_either_kind_is_looked_at_when_it_was_called_once(server):
    @workflow("lambdas")
    async def lambdas(w: AsyncWorkflow) -> None:
        await w.do(lambda: awaited())  # noqa: PLW0108 - what is tested
        await w.do(lambda: done.append("lambda"))

    @workflow("coroutine")
    def coroutine(w: Workflow) -> None:
        w.do(lambda: awaited())  # noqa: PLW0108 - as above

    done.clear()
    gid = new_gid()
    with Program(server, [lambdas]) as program:
        for _ in range(3):
            with pytest.raises(Invalid, match="step 02: was to be awaited, and is a NoneType; write the function as"):
                program.run(gid, lambdas)
    assert done == ["awaited", "lambda"]
    with Program(server, [coroutine]) as program, pytest.raises(Invalid, match="is a coroutine"):
        program.run(new_gid(), coroutine)


def wrapped(function):
    @functools.wraps(function)
    def called(*args):
        return function(*args)

    return called


def says_so() -> Awaitable[None]:
    return awaited()


class CanBeAwaited:
    async def __call__(self):
        await awaited()


@pytest.mark.parametrize("work", [wrapped(awaited), says_so, CanBeAwaited(), functools.partial(says_so)])
def test_other_functions_that_can_be_awaited(server, work):
    @workflow("odd")
    async def odd(w: AsyncWorkflow) -> None:
        await w.do(work)

    done.clear()
    with Program(server, [odd]) as program:
        program.run(new_gid(), odd)
    assert done == ["awaited"]


@pytest.mark.parametrize(
    ("client", "flows", "function", "problem"),
    [
        (Client, Workflows, async_transfer, "'transfer' is an async def, which Workflows cannot run; give it to Async"),
        (AsyncClient, AsyncWorkflows, transfer, "'transfer' is a plain function, which AsyncWorkflows cannot run"),
        (Client, Workflows, plain, "plain is no workflow; decorate it with @workflow"),
    ],
)
def test_workflows_of_the_wrong_kind_are_refused_when_the_program_begins(server, client, flows, function, problem):
    with pytest.raises(Invalid, match=problem):
        flows(client(server.url), [function], callback="http://me/workflow")
