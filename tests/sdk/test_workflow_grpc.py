"""Workflows over gRPC: server, services and callback, and the stubs that a compiler makes of .proto files."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from reefknot import (
    AsyncClient,
    AsyncWorkflow,
    AsyncWorkflows,
    Client,
    Invalid,
    Ongoing,
    OutcomeUnknown,
    RolledBack,
    Workflow,
    Workflows,
    workflow,
)
from reefknot.testing.grpc_participant import ERROR, FAILURE, ONGOING, GrpcParticipant, Say
from reefknot.testing.server import LocalServer
from reefknot.workflows.grpc import async_service, service
from sdk.workflow_bank import new_gid, raising

OUT, IN, UNDO_OUT, UNDO_IN = (f"/busi.Busi/{name}" for name in ("Out", "In", "UndoOut", "UndoIn"))


class Service:
    """The program's own gRPC server, for the callback."""

    def __init__(self, url, functions):
        self._server = grpc.server(ThreadPoolExecutor(4))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.client = Client(url)
        self.flows = Workflows(self.client, functions, callback=self.address)
        self._server.add_generic_rpc_handlers((service(self.flows),))

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()
        self.client.close()

    def run(self, gid, function, *args):
        return self.flows.execution(gid).run(function, *args)


class AsyncService:
    """The same on asyncio, in a thread of its own."""

    def __init__(self, url, functions):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._open(url, functions))

    async def _open(self, url, functions):
        self._server = grpc.aio.server()
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.client = AsyncClient(url)
        self.flows = AsyncWorkflows(self.client, functions, callback=self.address)
        self._server.add_generic_rpc_handlers((async_service(self.flows),))
        await self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self):
        await self._server.stop(0)
        await self.client.close()

    def run(self, gid, function, *args):
        return self._do(self.flows.execution(gid).run(function, *args))

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest.fixture(scope="module")
def server():
    with LocalServer(grpc=True) as server:
        yield server


@pytest.fixture
def bank():
    with GrpcParticipant() as bank:
        yield bank


@workflow("simple")
def simple(w: Workflow, bank: str) -> None:
    w.call(bank + OUT, b"30")
    w.call(bank + IN, b"30")


@workflow("saga")
def saga(w: Workflow, bank: str) -> bytes:
    w.call(bank + OUT, b"30", undo=bank + UNDO_OUT)
    return w.call(bank + IN, b"30", undo=bank + UNDO_IN).body


@workflow("saga")
async def async_saga(w: AsyncWorkflow, bank: str) -> bytes:
    await w.call(bank + OUT, b"30", undo=bank + UNDO_OUT)
    return (await w.call(bank + IN, b"30", undo=bank + UNDO_IN)).body


@pytest.fixture(params=[(Service, saga), (AsyncService, async_saga)], ids=["sync", "async"])
def program(request, server):
    kind, function = request.param
    with kind(f"grpc://{server.grpc_address}", [function, simple] if kind is Service else [function]) as program:
        program.saga = function
        yield program


def cron(server):
    return server.cron(look_ahead=1000)


@pytest.mark.conformance("TestWorkflowGrpcSimple")
def test_workflow_grpc_simple(server, bank):
    gid = new_gid()
    bank.script(IN, [FAILURE])
    program = Service(f"grpc://{server.grpc_address}", [simple])
    with program, pytest.raises(RolledBack, match="reason:refused"):
        program.run(gid, simple, bank.url(""))
    assert server.status(gid) == "failed"
    assert bank.called(gid) == [OUT, IN]


@pytest.mark.conformance("TestWorkflowGrpcRollback")
def test_workflow_grpc_rollback(server, bank, program):
    gid = new_gid()
    bank.script(IN, [FAILURE])
    with raising(RolledBack) as errors:
        program.run(gid, program.saga, bank.url(""))
    assert errors[0].reason == "reason:refused"
    assert server.status(gid) == "failed"
    assert bank.called(gid) == [OUT, IN, UNDO_IN, UNDO_OUT]
    assert [(call.branch_id, call.op, call.mode, call.body) for call in bank.calls] == [
        ("01", "action", "workflow", b"30"),
        ("02", "action", "workflow", b"30"),
        ("02", "rollback", "workflow", b"30"),
        ("01", "rollback", "workflow", b"30"),
    ]


@pytest.mark.conformance("TestWorkflowGrpcError")
def test_workflow_grpc_error(server, bank, program):
    gid = new_gid()
    bank.script(IN, [ERROR, Say(body=b"\xff any bytes")])
    with pytest.raises(OutcomeUnknown):
        program.run(gid, program.saga, bank.url(""))
    assert server.status(gid) == "prepared"
    assert cron(server) == [gid]
    assert server.status(gid) == "succeed"
    assert bank.called(gid) == [OUT, IN, IN]
    assert program.run(gid, program.saga, bank.url("")) == b"\xff any bytes"


@workflow("back", undo_failed_step=True)
def back(w: Workflow, bank: str) -> None:
    w.call(bank + OUT, undo=bank + UNDO_OUT)
    w.call(bank + IN, undo=bank + UNDO_IN)


@pytest.mark.conformance("TestWorkflowGrpcRollbackResume")
def test_workflow_grpc_rollback_resume(server, bank):
    gid = new_gid()
    bank.script(OUT, [ONGOING])
    bank.script(IN, [ONGOING, FAILURE])
    bank.script(UNDO_IN, [ONGOING, ERROR])
    bank.script(UNDO_OUT, [ONGOING])
    with Service(f"grpc://{server.grpc_address}", [back]) as program:
        with pytest.raises(Ongoing):
            program.run(gid, back, bank.url(""))
        for _ in range(5):
            assert server.status(gid) == "prepared"
            cron(server)
    assert server.status(gid) == "failed"
    assert bank.called(gid) == [OUT, OUT, IN, IN, UNDO_IN, UNDO_IN, UNDO_IN, UNDO_OUT, UNDO_OUT]


class BusiStub:
    """What the compiler makes of a service with one method."""

    def __init__(self, channel):
        self.Out = channel.unary_unary(
            OUT,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
            _registered_method=True,
        )


@workflow("stubs")
def stubs(w: Workflow, bank: str) -> str:
    first = BusiStub(w.channel(bank)).Out(StringValue(value="hello"), timeout=3)
    again = w.branch().on_rollback(bank + UNDO_OUT)
    return first.value + BusiStub(again.channel(bank)).Out(StringValue(value="again")).value


@workflow("stubs")
async def async_stubs(w: AsyncWorkflow, bank: str) -> str:
    return (await BusiStub(w.channel(bank)).Out(StringValue(value="hello"))).value


@pytest.mark.conformance(
    "TestWorkflowInterceptorOutsideSaga",
    differs="a stub is told whether its calls are steps, by the channel it is made with; on a plain one they are not",
)
def test_a_stub_outside_of_a_workflow_just_calls(server, bank):
    bank.on(OUT, lambda call: Say(body=call.body))
    gid = new_gid()
    with Service(f"grpc://{server.grpc_address}", [stubs]) as program:
        assert program.run(gid, stubs, bank.url("")) == "helloagain"
    with grpc.insecure_channel(bank.url("")) as channel:
        assert BusiStub(channel).Out(StringValue(value="plain")).value == "plain"
    assert [(call.gid, call.branch_id) for call in bank.calls] == [(gid, "01"), (gid, "02"), ("", "")]


def test_stubs_of_asyncio_and_streams(server, bank):
    bank.on(OUT, lambda call: Say(body=call.body))
    with AsyncService(f"grpc://{server.grpc_address}", [async_stubs]) as program:
        assert program.run(new_gid(), async_stubs, bank.url("")) == "hello"

    @workflow("stream")
    def stream(w: Workflow, bank: str) -> None:
        w.channel(bank).unary_stream("/busi.Busi/Many")(b"")

    program = Service(f"grpc://{server.grpc_address}", [stream])
    with program, pytest.raises(Invalid, match=r"/busi\.Busi/Many is a stream"):
        program.run(new_gid(), stream, bank.url(""))


def test_a_grpc_callback_and_grpc_services_of_a_workflow_that_is_started_over_http(server, bank):
    gid = new_gid()
    bank.script(IN, [ONGOING])
    with Service(server.url, [saga]) as program:
        with pytest.raises(Ongoing):
            program.run(gid, saga, bank.url(""))
        cron(server)
    assert server.status(gid) == "succeed"
    assert bank.called(gid) == [OUT, IN, IN]


def test_what_the_callback_answers(server, bank):
    with Service(f"grpc://{server.grpc_address}", [saga]) as program, grpc.insecure_channel(program.address) as channel:
        execute = channel.unary_unary("/workflow.Workflow/Execute")
        answers = []
        for name, script in (("saga", [ONGOING]), ("saga", [FAILURE]), ("other", [])):
            bank.script(OUT, script)
            metadata = (("dtm-gid", new_gid()), ("dtm-op", name))
            # Field 1: the arguments.
            data = b'{"bank":"%s"}' % bank.url("").encode()
            with raising(grpc.RpcError) as errors:
                execute(bytes([10, len(data)]) + data, metadata=metadata, timeout=10)
            answers.append((errors[0].code().name, errors[0].details()))
        assert answers[:2] == [("FAILED_PRECONDITION", "not yet"), ("ABORTED", "reason:refused")]
        assert answers[2][0] == "UNKNOWN"
        assert "no workflow named 'other' here" in answers[2][1]


def test_what_broke_a_workflow_stays_in_its_own_log(server):
    @workflow("broken")
    def broken(w: Workflow) -> None:
        raise ConnectionError("postgres://bank:secret@db refused")

    with Service(f"grpc://{server.grpc_address}", [broken]) as program, grpc.insecure_channel(program.address) as one:
        execute = one.unary_unary("/workflow.Workflow/Execute")
        with raising(grpc.RpcError) as errors:
            execute(bytes([10, 2]) + b"{}", metadata=(("dtm-gid", new_gid()), ("dtm-op", "broken")), timeout=10)
        assert (errors[0].code().name, errors[0].details()) == ("UNKNOWN", "ConnectionError")
