"""The SDK against the released server of DTM, which knows nothing of our additions.

Building that server takes minutes of CPU, so it is asked for: ``GO_DTM=build``, which ``make interop``
sets, builds it once, and ``GO_DTM=/path/to/dtm`` uses one that is there.
"""

# ruff: noqa: PT012 - the block itself is under test: how it is left decides

import contextlib
import os
import sqlite3
import subprocess
import time
import urllib.request
from types import SimpleNamespace

import pytest

from interop.peers import HERE, build, toolchain
from reefknot import (
    Barrier,
    Client,
    Failure,
    GidConflict,
    Invalid,
    NotFound,
    Ongoing,
    Refused,
    RolledBack,
    Workflow,
    Workflows,
    workflow,
)
from reefknot.barrier.statements import Database, table_sql
from reefknot.model import Status
from reefknot.testing.participant import FAILURE, OK, ONGOING, Participant
from reefknot.testing.server import PATIENCE_SECONDS, free_port
from sdk.client_faces import FACES, PROTOCOLS, open_client

pytestmark = pytest.mark.interop

#: DTM looks for due transactions every 3 s, and gives a wait up after its own request timeout of 3 s and 2 more.
DTM_SECONDS = 30


@pytest.fixture(scope="session")
def go_dtm(tmp_path_factory):
    wanted = os.environ.get("GO_DTM", "")
    if not wanted:
        pytest.skip("NOT RUN: GO_DTM=build builds DTM's server and runs the SDK against it")
    program = wanted
    if wanted == "build":
        toolchain("go", "https://go.dev/dl, or apt-get install golang")
        program = str(tmp_path_factory.mktemp("go-dtm") / "dtm")
        build(["go", "build", "-mod=readonly", "-o", program, "github.com/dtm-labs/dtm"], HERE / "dtm")
    folder, http, grpc = tmp_path_factory.mktemp("dtm-data"), free_port(), free_port()
    settings = (
        f"Store:\n  Driver: boltdb\nConfigUpdateInterval: 1\nHttpPort: {http}\nGrpcPort: {grpc}\nLogLevel: error\n"
    )
    (folder / "conf.yml").write_text(settings)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", "conf.yml"], cwd=folder, stdout=log, stderr=log)
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not answers(http):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"DTM did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield {
            "http": f"http://127.0.0.1:{http}",
            "json-rpc": f"http://127.0.0.1:{http}/api/json-rpc",
            "grpc": f"grpc://127.0.0.1:{grpc}",
        }
    finally:
        process.kill()
        process.wait()


def answers(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/ping", timeout=1) as reply:
        return reply.status == 200
    return False


@pytest.fixture(params=[f"{face}-{protocol}" for face in FACES for protocol in PROTOCOLS])
def on_dtm(request, go_dtm):
    """A client of each face over each protocol; and one that can look, as DTM cannot be asked over gRPC."""
    face, _, protocol = request.param.partition("-")
    with open_client(face, go_dtm[protocol]) as client, open_client(face, go_dtm["http"]) as looking:
        yield SimpleNamespace(client=client, looking=looking, protocol=protocol)


@pytest.fixture
def bank():
    with Participant() as bank:
        yield bank


def test_saga_succeeds_and_is_rolled_back(on_dtm, bank):
    with on_dtm.client.saga(wait=True) as saga:
        saga.step(bank.url("/out"), bank.url("/out/undo"), {"amount": 30})
        saga.step(bank.url("/in"), bank.url("/in/undo"), {"amount": 30})
    assert saga.outcome.status is Status.SUCCEED
    assert on_dtm.looking.get(saga.gid).status is Status.SUCCEED
    bank.always("/in", FAILURE)
    with pytest.raises(RolledBack, match="refused"), on_dtm.client.saga(wait=True) as saga:
        saga.step(bank.url("/out"), bank.url("/out/undo"))
        saga.step(bank.url("/in"), bank.url("/in/undo"))
    assert on_dtm.looking.wait(saga.gid, timeout=DTM_SECONDS).status is Status.FAILED


def test_unfinished_saga_is_ongoing_although_dtm_says_failure(on_dtm, bank):
    bank.always("/out", ONGOING)
    with pytest.raises(Ongoing) as caught, on_dtm.client.saga(wait=True) as saga:
        saga.step(bank.url("/out"), bank.url("/out/undo"))
    assert caught.value.gid == saga.gid
    on_dtm.looking.force_stop(saga.gid)
    with pytest.raises(Refused):
        on_dtm.looking.force_stop(saga.gid)


def test_order_of_a_concurrent_saga(on_dtm, bank):
    with on_dtm.client.saga(wait=True, concurrent=True) as saga:
        first = [saga.step(bank.url(f"/{number}")) for number in (1, 2)]
        saga.step(bank.url("/3"), after=first)
    assert [call.path for call in bank.calls][2:] == ["/3"]


def test_tcc_is_confirmed_and_cancelled(on_dtm, bank):
    with on_dtm.client.tcc(wait=True) as tcc:
        tcc.try_(bank.url("/hold"), confirm=bank.url("/take"), cancel=bank.url("/free"), data={"amount": 30})
        inner = on_dtm.client.tcc_from({"gid": tcc.gid, "branch_id": "01"})
        inner.try_(bank.url("/inner"), confirm=bank.url("/inner/take"), cancel=bank.url("/inner/free"))
    assert tcc.outcome.status is Status.SUCCEED
    assert {(call.branch_id, call.op) for call in bank.calls} == {
        (branch, op) for branch in ("01", "0101") for op in ("try", "confirm")
    }
    bank.always("/hold", FAILURE)
    with pytest.raises(Failure, match="refused"), on_dtm.client.tcc() as tcc:
        tcc.try_(bank.url("/hold"), confirm=bank.url("/take"), cancel=bank.url("/free"))
    ended = on_dtm.looking.wait(tcc.gid, timeout=DTM_SECONDS)
    assert ended.status is Status.FAILED
    assert "refused" in ended.reason


def published(on_dtm, bank, topic):
    """DTM's server reads its topics now and then: until then there is none, which the client says."""
    until = time.monotonic() + DTM_SECONDS
    while True:
        msg = on_dtm.client.msg(wait=True).send(bank.url("/in"), {"n": 1}).publish(topic)
        try:
            return msg.submit()
        except NotFound:
            assert time.monotonic() < until
            time.sleep(0.2)


def test_messages_topics_and_states(on_dtm, bank):
    assert len({on_dtm.client.new_gid() for _ in range(3)} - {""}) == 3
    topic = f"topic-{on_dtm.client.msg().gid}"
    on_dtm.looking.subscribe(topic, bank.url("/sub"))
    published(on_dtm, bank, topic)
    assert {call.path for call in bank.calls} == {"/in", "/sub"}
    dropped = on_dtm.client.msg().send(bank.url("/never"))
    dropped.prepare(bank.url("/asked"))
    dropped.abort("changed our minds")
    with pytest.raises(Refused) as caught:
        dropped.submit()
    assert caught.value.status == "failed"
    assert dropped.gid in {one.gid for one in on_dtm.looking.query(limit=200).transactions}


def test_verbs_that_dtm_lacks_over_grpc_say_so(on_dtm, bank):
    if on_dtm.protocol == "grpc":
        with pytest.raises(Invalid, match="the server has no reefknot"):
            on_dtm.client.get("any")
    else:
        assert on_dtm.client.get("nobody") is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_message_and_local_transaction(go_dtm, protocol, bank, tmp_path):
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.executescript(table_sql(Database.SQLITE))
    connection.execute("CREATE TABLE account (balance integer)")
    connection.commit()

    def asked(call):
        with contextlib.closing(sqlite3.connect(path)) as own:
            try:
                Barrier(call.mode, call.gid, call.branch_id, call.op).asked(own)
            except Failure:
                return FAILURE
        return OK

    bank.on("/asked", asked)
    with open_client("sync", go_dtm[protocol]) as client:
        msg = client.msg(wait=True).send(bank.url("/in"))
        with msg.committing(connection, ask=bank.url("/asked")) as tx:
            tx.execute("INSERT INTO account VALUES (70)")
        assert msg.outcome.status is Status.SUCCEED
        with (
            pytest.raises(KeyError),
            client.msg().send(bank.url("/never")).committing(connection, ask=bank.url("/asked")),
        ):
            raise KeyError("no such customer")
    assert [call.path for call in bank.calls] == ["/in"]
    assert connection.execute("SELECT balance FROM account").fetchall() == [(70,)]
    connection.close()


@workflow("interrupted")
def interrupted(w: Workflow, amount: int) -> int:
    if w.do(lambda: amount) != amount:
        return 0
    raise ConnectionError


def test_other_arguments_of_a_workflow_where_dtm_tells_them(go_dtm, bank):
    """It tells them over HTTP; over gRPC its answer has no field for them, and over JSON-RPC it has no workflows."""
    with Client(go_dtm["http"]) as client, Client(go_dtm["grpc"]) as over_grpc:
        flows = Workflows(client, [interrupted], callback=bank.url("/workflow"))
        gid = f"{client.new_gid()}-wf"
        for _ in range(2):
            with pytest.raises(ConnectionError):
                flows.execution(gid).run(interrupted, 30)
        with pytest.raises(GidConflict, match="with other arguments"):
            flows.execution(gid).run(interrupted, 40)
        flows = Workflows(over_grpc, [interrupted], callback=bank.url("/workflow"))
        assert flows.execution(gid).run(interrupted, 40) == 0
