"""What nobody awaited did nothing, and is not taken for done: a coroutine function, or a missing ``await``."""

import asyncio
import contextlib
import secrets
import sqlite3

import aiosqlite
import pytest

from reefknot import AsyncClient, Client, Workflow, workflow
from reefknot.barrier import AsyncBarrier, Barrier, Reason
from reefknot.barrier.statements import Database, table_sql
from reefknot.errors import Failure, Invalid
from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.participant import OK, Participant, Say
from reefknot.testing.server import LocalServer
from reefknot.xa import AsyncXaBranch, XaBranch
from sdk import xa_bank
from sdk.barrier_connections import LIBRARIES
from sdk.barrier_scenes import Stages, done
from sdk.workflow_bank import Program, new_gid

NOTHING = "nothing of it is done"


@pytest.fixture(scope="module")
def stages(request, tmp_path_factory):
    return Stages(request, tmp_path_factory.mktemp("unawaited"))


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_a_work_that_nobody_awaits_is_rolled_back(stages, name):
    stage = stages(name)

    async def work(connection):
        # With a sync library this is never begun; with an async one the coroutine of the effect is not.
        return stage.effect(connection)

    async def scene():
        async with stage.idle() as connection:
            barrier = stage.barrier()
            with pytest.raises(Invalid, match=NOTHING):
                await done(barrier.call(connection, work))
            assert (stage.rows(), stage.effects()) == ([], [])
            await stage.call(barrier, connection, stage.effect)
            assert barrier.reason is Reason.RUN

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == ([("g1", "action", "01", "action")], ["g1"])


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(table_sql(Database.SQLITE))
    return path


def test_a_message_whose_work_nobody_awaits_is_dropped(server, shop):
    def asked(call):
        with contextlib.closing(sqlite3.connect(shop)) as connection:
            try:
                Barrier(call.mode, call.gid, call.branch_id, call.op).asked(connection)
            except Failure as no:
                return Say(409, no.reason.encode())
        return OK

    async def nothing(_):
        pass

    async def plainly(barrier):
        with contextlib.closing(sqlite3.connect(shop)) as connection:
            barrier.call(connection, lambda _: None)

    async def forgetful(barrier):
        async with aiosqlite.connect(shop) as connection:
            return barrier.call(connection, nothing)

    async def scene(gid):
        async with AsyncClient(server.url) as client:
            with pytest.raises(Invalid, match=NOTHING):
                await client.msg(gid).send(bank.url("/in")).do_and_submit(bank.url("/asked"), forgetful)

    gids = [secrets.token_hex(6) for _ in range(2)]
    with Participant() as bank, Client(server.url) as client:
        bank.on("/asked", asked)
        with pytest.raises(Invalid, match=NOTHING):
            client.msg(gids[0]).send(bank.url("/in")).do_and_submit(bank.url("/asked"), plainly)
        asyncio.run(scene(gids[1]))
        assert [server.status(gid) for gid in gids] == ["failed", "failed"]
        assert [call.path for call in bank.calls] == ["/asked", "/asked"]


@pytest.fixture(scope="module")
def preparing():
    with PostgresServer(fsync=False, settings={"max_prepared_transactions": "10"}) as server:
        yield server


@pytest.mark.parametrize("library", xa_bank.LIBRARIES, ids=lambda library: library.__name__)
def test_a_work_of_xa_that_nobody_awaits_is_rolled_back(library, request, server):
    mysql = library.database is Database.MYSQL
    url = request.getfixturevalue("mariadb").create_database(f"xa_{secrets.token_hex(4)}") if mysql else None
    gid = f"xa-{secrets.token_hex(6)}"
    query = {"gid": gid, "trans_type": "xa", "branch_id": "01", "op": "action", "phase2_url": "http://127.0.0.1:9/"}

    async def work(connection):
        return banks.library.move(connection, -30, "out")

    def plainly():
        with Client(server.url) as client:
            XaBranch.from_query(query, client).call(lambda: banks.library.connect(banks.url), work)

    async def scene():
        async with AsyncClient(server.url) as client:
            await AsyncXaBranch.from_query(query, client).call(lambda: banks.library.connect(banks.url), work)

    with xa_bank.XaBanks(library, url or request.getfixturevalue("preparing").url, server.url) as banks:
        with pytest.raises(Invalid, match=NOTHING):
            asyncio.run(scene()) if hasattr(library, "asynchronous") else plainly()
        assert (banks.prepared(), list(banks.rows(gid))) == ([], [])
        assert banks.balances() == {"out": xa_bank.START, "in": xa_bank.START}


@workflow("undone")
def undone(w: Workflow) -> None:
    async def put_back():
        pass

    # A function that is async def itself is refused before the step; what a lambda returns is known only now.
    w.branch().on_rollback(lambda _: put_back()).do(lambda _: 1)
    raise Failure("no")


def test_an_undo_that_nobody_awaits_is_not_taken_for_done(server):
    gid = new_gid()
    with Program(server, [undone]) as program:
        with pytest.raises(Invalid, match=NOTHING):
            program.run(gid, undone)
        assert program.rows(gid, "rollback") == []
        assert program.state(gid) not in ("succeed", "failed")


# --- passes -------------------------------------------------------------------------------------------


def test_a_question_that_nobody_awaited_is_no_answer(stages):
    stage = stages("aiosqlite")

    async def scene():
        async with stage.transaction() as connection:
            with pytest.raises(TypeError, match=r"if await barrier\.passes"):
                bool(stage.barrier().passes(connection))

    stage.run(scene)
    assert stage.rows() == []


@pytest.mark.parametrize("how", ["await", "task", "time limit", "gather"])
def test_a_question_is_awaited_like_any_coroutine(stages, how):
    stage = stages("aiosqlite")

    async def scene():
        for expected in (True, False):
            async with stage.transaction() as connection:
                question = stage.barrier().passes(connection)
                if how == "await":
                    answer = await question
                elif how == "task":
                    answer = await asyncio.create_task(question)
                elif how == "time limit":
                    answer = await asyncio.wait_for(question, 60)
                else:
                    [answer] = await asyncio.gather(question)
                assert answer is expected

    stage.run(scene)
    assert stage.rows() == [("g1", "action", "01", "action")]


def test_a_question_can_be_cancelled(stages):
    stage = stages("aiosqlite", 2)

    async def scene():
        async with stage.idle() as connection:
            asking = asyncio.create_task(stage.barrier().passes(connection))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await connection.rollback()

    stage.run(scene)
    assert stage.rows() == []


def test_a_question_that_is_dropped_is_warned_about():
    with pytest.warns(RuntimeWarning, match="never awaited"):
        AsyncBarrier("saga", "g1", "01", "action").passes(None)
