"""Branches in gRPC servicers, sync and asyncio, called by a real server over real sockets."""

import asyncio
import contextlib
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import aiosqlite
import grpc
import grpc.aio
import pytest

from reefknot import AsyncBarrier, Barrier, Client, Failure
from reefknot.client import ambient
from reefknot.contrib.grpc import (
    AmbientInterceptor,
    AsyncAmbientInterceptor,
    AsyncBranchInterceptor,
    BranchInterceptor,
    asked,
    async_asked,
    branch,
)
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer
from sdk.contrib_apps import EFFECT, Ledger, create, message_barrier

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KINDS = ("sync", "asyncio", "asyncio-threads")


def sync_methods(ledger):
    """Plain methods: for a sync server, or for the threads of an asyncio one."""

    def add(request, context):
        ledger.note()
        barrier = branch(context)
        assert type(barrier) is Barrier
        ledger.write(barrier)
        return request

    def refuse(request, context):
        ledger.write(branch(context), refuse=True)

    def review(request, context):
        ledger.check_review()
        return add(request, context)

    def word(request, context):
        raise Failure("ONGOING")

    def broken(request, context):
        raise ValueError("no such ledger")

    def forward(request, context):
        with grpc.insecure_channel(ledger.address) as plain:
            channel = grpc.intercept_channel(plain, AmbientInterceptor())
            return channel.unary_unary("/ledger.Ledger/Seen")(b"", metadata=(("dtm-op", "own"),))

    return {"Add": add, "Refuse": refuse, "Review": review, "Word": word, "Break": broken, "Forward": forward}


def async_methods(ledger):
    async def write(context, *, refuse=False):
        barrier = branch(context)
        assert type(barrier) is AsyncBarrier
        named = barrier.branch
        async with aiosqlite.connect(ledger.path, timeout=30) as connection:
            if await barrier.passes(connection):
                await connection.execute(EFFECT, (named.gid, named.branch_id, named.op))
                if refuse:
                    raise Failure("not enough money")
            await connection.commit()

    async def add(request, context):
        ledger.note()
        await write(context)
        return request

    async def refuse(request, context):
        await write(context, refuse=True)

    async def review(request, context):
        ledger.check_review()
        return await add(request, context)

    async def word(request, context):
        raise Failure("ONGOING")

    async def broken(request, context):
        raise ValueError("no such ledger")

    async def forward(request, context):
        async with grpc.aio.insecure_channel(ledger.address, interceptors=[AsyncAmbientInterceptor()]) as channel:
            return await channel.unary_unary("/ledger.Ledger/Seen")(b"", metadata=(("dtm-op", "own"),))

    return {"Add": add, "Refuse": refuse, "Review": review, "Word": word, "Break": broken, "Forward": forward}


def seen(_, context):
    metadata = dict(context.invocation_metadata())
    return ",".join(f"{name}={metadata[name]}" for name in sorted(metadata) if not name.startswith("user")).encode()


def handlers(methods):
    wrapped = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    return grpc.method_handlers_generic_handler(
        "ledger.Ledger", {**wrapped, "Seen": grpc.unary_unary_rpc_method_handler(seen)}
    )


@contextlib.contextmanager
def sync_server(ledger):
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[BranchInterceptor()])
    server.add_generic_rpc_handlers((handlers(sync_methods(ledger)), asked(ledger.connect)))
    ledger.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield ledger
    server.stop(None).wait()


@contextlib.contextmanager
def async_server(ledger, methods, source):
    """On an event loop in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve():
        server = grpc.aio.server(ThreadPoolExecutor(8), interceptors=[AsyncBranchInterceptor()])
        server.add_generic_rpc_handlers((handlers(methods), async_asked(source)))
        ledger.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield ledger
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def server():
    with LocalServer(grpc=True) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with Client(f"grpc://{server.grpc_address}") as client:
        yield client


@pytest.fixture(params=KINDS, scope="module")
def ledger(request, tmp_path_factory, server):
    path = tmp_path_factory.mktemp("grpc") / "ledger.db"
    create(path)
    ledger = Ledger(path, server.url, "")
    if request.param == "sync":
        started = sync_server(ledger)
    elif request.param == "asyncio":
        started = async_server(ledger, async_methods(ledger), lambda: aiosqlite.connect(path, timeout=30))
    else:
        started = async_server(ledger, sync_methods(ledger), ledger.connect)
    with started:
        ledger.at = lambda name: f"{ledger.address}/ledger.Ledger/{name}"
        yield ledger


@pytest.fixture
def identity():
    return {"dtm-gid": secrets.token_hex(8), "dtm-trans_type": "saga", "dtm-branch_id": "01", "dtm-op": "action"}


def call(ledger, method, metadata):
    """One call as the server makes it: the code, and the text or the message."""
    with grpc.insecure_channel(ledger.address) as channel:
        try:
            return "OK", channel.unary_unary(method if "/" in method else f"/ledger.Ledger/{method}")(
                b"", metadata=tuple(metadata.items())
            )
        except grpc.RpcError as error:
            return error.code().name, error.details()


def test_a_saga_runs_each_branch_once(ledger, client, identity):
    with client.saga(wait=True) as saga:
        saga.step(ledger.at("Add"), ledger.at("Add"), b"")
        saga.step(ledger.at("Add"), ledger.at("Add"), b"")
    assert ledger.effects(saga.gid) == ["01 action", "02 action"]
    for _ in range(2):
        assert call(ledger, "Add", identity) == ("OK", b"")
    assert ledger.effects(identity["dtm-gid"]) == ["01 action"]


def test_a_failure_is_aborted_and_rolls_everything_back(ledger, client, server, identity):
    saga = client.saga()
    saga.step(ledger.at("Add"), ledger.at("Add"), b"")
    saga.step(ledger.at("Refuse"), ledger.at("Add"), b"")
    saga.submit()
    assert server.wait_for(saga.gid, "failed") == "failed"
    assert "not enough money" in client.get(saga.gid).reason
    assert ledger.effects(saga.gid) == ["01 action", "01 compensate"]
    assert call(ledger, "Refuse", identity) == ("ABORTED", "not enough money")


def test_a_failure_cannot_be_taken_for_the_other_word(ledger, identity):
    assert call(ledger, "Word", identity) == ("ABORTED", "refused: ONGOING")


def test_ongoing_is_failed_precondition_and_is_asked_again(ledger, client, server, identity):
    assert call(ledger, "Review", identity) == ("FAILED_PRECONDITION", "waiting for review")
    saga = client.saga()
    saga.step(ledger.at("Review"), ledger.at("Add"), b"")
    saga.submit()
    server.settle()
    assert (server.status(saga.gid), ledger.effects(saga.gid)) == ("submitted", [])
    ledger.reviewed = True
    server.cron()
    assert server.wait_for(saga.gid, "succeed") == "succeed"
    assert ledger.effects(saga.gid) == ["01 action"]


@pytest.mark.parametrize("missing", ["dtm-branch_id", "dtm-gid", "dtm-op", "dtm-trans_type"])
def test_a_call_that_names_no_branch_is_an_invalid_argument(ledger, missing, identity):
    gid = identity["dtm-gid"]
    del identity[missing]
    for method in ("Add", "/reefknot.CheckBack/Asked"):
        code, text = call(ledger, method, identity)
        assert (code, f"{missing.removeprefix('dtm-')}: is missing in the metadata" in text) == (
            "INVALID_ARGUMENT",
            True,
        )
    assert ledger.effects(gid) == []


def test_another_exception_stays_unknown(ledger, identity):
    code, text = call(ledger, "Break", identity)
    assert (code, "no such ledger" in text) == ("UNKNOWN", True)


def test_a_check_back_decides_by_the_barriers_table(ledger, client, server):
    with Participant() as receiver:
        outcomes = {}
        for commits in (True, False):
            msg = client.msg().send(receiver.url(f"/{commits}"), {})
            msg.prepare(f"{ledger.address}/reefknot.CheckBack/Asked")
            if commits:
                with contextlib.closing(ledger.connect()) as connection, connection:
                    assert message_barrier(msg.gid).passes(connection)
            outcomes[msg.gid] = "succeed" if commits else "failed"
        server.cron(60)
        for gid, expected in outcomes.items():
            assert server.wait_for(gid, expected) == expected
        assert [one.path for one in receiver.calls] == ["/True"]


def test_the_ambient_transaction_is_there_and_goes_on(ledger, identity):
    gid = identity["dtm-gid"]
    assert call(ledger, "Add", identity | {"traceparent": TRACE})[0] == "OK"
    assert [one for one in ledger.seen if one[0] == gid] == [[gid, "saga", "01", "action", TRACE]]
    code, metadata = call(ledger, "Forward", identity | {"traceparent": TRACE})
    # What the caller said itself stays.
    own = f"dtm-branch_id=01,dtm-gid={gid},dtm-op=own,dtm-trans_type=saga,traceparent={TRACE}"
    assert (code, metadata.decode()) == ("OK", own)
    assert ambient.current().gid == ""
