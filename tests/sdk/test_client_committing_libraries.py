"""A message and a local transaction on every library and database that the barrier takes."""

import asyncio
import contextlib
import secrets

import pytest

from reefknot import AsyncClient, Client
from reefknot.barrier.core import TransactionLost
from reefknot.barrier.statements import Database
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer
from sdk.barrier_business import Business, prepare
from sdk.barrier_connections import LIBRARIES


@pytest.fixture(scope="module")
def postgres_database(postgres):
    import psycopg

    name = f"committing_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url_of(name)
    prepare(Database.POSTGRES, url)
    return url


@pytest.fixture(scope="module")
def mysql_database(mariadb):
    url = mariadb.create_database(f"committing_{secrets.token_hex(4)}")
    prepare(Database.MYSQL, url, "own_barrier")
    return url


@pytest.fixture(scope="module")
def sqlite_database(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("committing") / "business.db")
    prepare(Database.SQLITE, url)
    return url


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


class Refusal(Exception):
    """What the block raises."""


@pytest.fixture(params=list(LIBRARIES))
def business(request):
    library = LIBRARIES[request.param]
    database = library("").database
    url = request.getfixturevalue(f"{'postgres' if database is Database.POSTGRES else database}_database")
    with contextlib.closing(Business(library(url), "own_barrier" if database is Database.MYSQL else "")) as business:
        yield business


def send(server, business, gid, receiver, *, fails):
    """The program under test, with one connection for a message that may fail and one that does not."""
    library, identity = business.library, (gid, "00", "msg")
    with Client(server.url) as client, library.idle() as connection:
        msg = client.msg(gid, wait=True).send(receiver)
        with msg.committing(connection, ask="http://127.0.0.1:1/asked", table=business.table) as tx:
            library.work(tx, identity)
            if fails:
                raise Refusal


async def send_async(server, business, gid, receiver, *, fails):
    library, identity = business.library, (gid, "00", "msg")
    async with AsyncClient(server.url) as client, library.idle() as connection:
        msg = client.msg(gid, wait=True).send(receiver)
        async with msg.committing(connection, ask="http://127.0.0.1:1/asked", table=business.table) as tx:
            await library.work(tx, identity)
            if fails:
                raise Refusal


def test_error_that_the_block_swallows_leaves_no_half(server, business):
    """On PostgreSQL it has aborted the transaction, whose COMMIT rolls back and reports no error."""
    library, gid = business.library, f"swallowed-{secrets.token_hex(4)}"
    aborts = library.database is Database.POSTGRES
    raising = pytest.raises(TransactionLost) if aborts else contextlib.nullcontext()

    def run():
        with Client(server.url) as client, library.idle() as connection:
            msg = client.msg(gid, wait=True).send(bank.url("/in"))
            with raising, msg.committing(connection, ask="http://127.0.0.1:1/asked", table=business.table) as tx:
                library.work(tx, (gid, "00", "msg"))
                with contextlib.suppress(Exception):
                    library.work(tx, (None, None, None))

    async def run_async():
        async with AsyncClient(server.url) as client, library.idle() as connection:
            msg = client.msg(gid, wait=True).send(bank.url("/in"))
            with raising:
                async with msg.committing(connection, ask="http://127.0.0.1:1/asked", table=business.table) as tx:
                    await library.work(tx, (gid, "00", "msg"))
                    with contextlib.suppress(Exception):
                        await library.work(tx, (None, None, None))

    with Participant() as bank:
        asyncio.run(run_async()) if library.asynchronous else run()
        assert len(bank.calls) == (0 if aborts else 1)
    assert server.status(gid) == ("failed" if aborts else "succeed")
    assert len(business.effects(gid)) == (0 if aborts else 1)


def test_both_or_neither(server, business):
    prefix = secrets.token_hex(4)

    def run(gid, *, fails):
        arguments = (server, business, gid, bank.url("/in"))
        if business.library.asynchronous:
            asyncio.run(send_async(*arguments, fails=fails))
        else:
            send(*arguments, fails=fails)

    with Participant() as bank:
        run(f"{prefix}done", fails=False)
        with pytest.raises(Refusal):
            run(f"{prefix}failed", fails=True)
        assert [call.gid for call in bank.calls] == [f"{prefix}done"]
    assert (server.status(f"{prefix}done"), server.status(f"{prefix}failed")) == ("succeed", "failed")
    assert business.effects(prefix) == [("done", "00", "msg")]
    reasons = {gid: reason for gid, *_, reason in business.rows(prefix)}
    assert reasons == {"done": "msg", "failed": "rollback"}


@pytest.mark.parametrize(
    "business", [name for name, library in LIBRARIES.items() if library("").asynchronous], indirect=True
)
def test_task_that_is_cancelled_as_it_leaves_the_block_leaves_no_half(server, business):
    """The work waits in a transaction for nobody; what is committed next on the connection does not take it along."""
    library, gid = business.library, f"cancelled-{secrets.token_hex(4)}"

    async def pay(client, connection):
        msg = client.msg(gid).send(bank.url("/in"))
        async with msg.committing(connection, ask=bank.url("/asked"), table=business.table) as tx:
            await library.work(tx, (gid, "00", "msg"))
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)

    async def scene():
        async with AsyncClient(server.url) as client, library.idle() as connection:
            with pytest.raises(asyncio.CancelledError) as caught:
                await asyncio.ensure_future(pay(client, connection))
            # A library may have closed the connection.
            with contextlib.suppress(Exception):
                await library.end(connection, "commit")
        return caught.value.__notes__

    with Participant() as bank:
        [note] = asyncio.run(scene())
        assert len(bank.calls) == 0
    assert "the server asks back" in note
    assert server.status(gid) == "prepared"
    assert (business.effects(gid), business.rows(gid)) == ([], [])


@pytest.mark.parametrize("business", ["django-sqlite", "django-postgres"], indirect=True)
def test_hook_that_fails_after_the_commit_is_heard_and_the_message_sent(server, business, caplog):
    from django.db import transaction

    library, gid = business.library, f"hook-{secrets.token_hex(4)}"

    def hook():
        raise ZeroDivisionError("in the hook")

    with Participant() as bank, Client(server.url) as client, library.idle() as connection:
        msg = client.msg(gid, wait=True).send(bank.url("/in"))
        with msg.committing(connection, ask=bank.url("/asked"), table=business.table) as tx:
            library.work(tx, (gid, "00", "msg"))
            transaction.on_commit(hook, using=library.alias)
        assert len(bank.calls) == 1
    [record] = [record for record in caplog.records if record.name == "reefknot.client"]
    assert (record.levelname, record.exc_info[0]) == ("ERROR", ZeroDivisionError)
    assert server.status(gid) == "succeed"
    assert len(business.effects(gid)) == 1
