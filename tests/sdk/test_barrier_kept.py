"""A COMMIT that is none: what the barrier let run is committed together with its row, or it is heard."""

import asyncio
import contextlib
import sqlite3
import threading

import pytest

from reefknot.barrier import Barrier, Reason, TransactionLost
from reefknot.barrier.drivers import async_driver_of, driver_of
from reefknot.barrier.kept import async_check_row, check_row
from reefknot.barrier.statements import Database
from reefknot.errors import Failure
from sdk.barrier_connections import LIBRARIES
from sdk.barrier_scenes import Stages, done, on

#: Libraries below which something else leads the transaction, so that a COMMIT of the work's goes unseen.
UNSEEN = {"django-sqlite", "django-postgres", "django-mysqlclient"}


@pytest.fixture(scope="module")
def stages(request, tmp_path_factory):
    return Stages(request, tmp_path_factory.mktemp("kept"))


async def called_again(stage, connection, gid):
    """The same connection is as good as new."""

    async def work(connection):
        await stage.effect(connection, gid)

    barrier = stage.barrier(gid)
    await stage.call(barrier, connection, work)
    assert barrier.reason is Reason.RUN


@pytest.mark.parametrize("name", on(Database.POSTGRES))
def test_a_swallowed_error_of_postgres_is_no_success(stages, name):
    """The server answers COMMIT with ROLLBACK, and no library says a word."""
    stage = stages(name)

    async def work(connection):
        await stage.effect(connection)
        with contextlib.suppress(Exception):
            await stage.broken(connection)
        return "paid"

    async def scene():
        async with stage.idle() as connection:
            with pytest.raises(TransactionLost, match="savepoint"):
                await stage.call(stage.barrier(), connection, work)
            assert (stage.rows(), stage.effects()) == ([], [])
            await called_again(stage, connection, "g1")

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == ([("g1", "action", "01", "action")], ["g1"])


@pytest.mark.parametrize("name", on(Database.SQLITE, Database.MYSQL))
def test_a_swallowed_error_of_one_statement_is_none_elsewhere(stages, name):
    stage = stages(name)

    async def work(connection):
        await stage.effect(connection)
        with contextlib.suppress(Exception):
            await stage.broken(connection)
        return "paid"

    async def scene():
        async with stage.idle() as connection:
            assert await stage.call(stage.barrier(), connection, work) == "paid"

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == ([("g1", "action", "01", "action")], ["g1"])


@pytest.mark.parametrize("name", on(Database.POSTGRES))
def test_a_savepoint_around_what_may_fail_is_no_error(stages, name):
    stage = stages(name)

    async def work(connection):
        await stage.effect(connection)
        await stage.statement(connection, "SAVEPOINT audit")
        with contextlib.suppress(Exception):
            await stage.broken(connection)
        await stage.statement(connection, "ROLLBACK TO SAVEPOINT audit")
        return "paid"

    async def scene():
        async with stage.idle() as connection:
            assert await stage.call(stage.barrier(), connection, work) == "paid"

    stage.run(scene)
    assert (len(stage.rows()), stage.effects()) == (1, ["g1"])


@pytest.mark.parametrize("name", list(LIBRARIES))
@pytest.mark.parametrize("goes_on", [False, True], ids=["at the end", "and goes on"])
def test_a_rollback_of_the_works_own_is_no_success(stages, name, goes_on):
    stage = stages(name)

    async def work(connection):
        await stage.effect(connection)
        await stage.end(connection, "rollback")
        if goes_on:
            await stage.effect(connection, "g1", "after")

    async def scene():
        async with stage.idle() as connection:
            with pytest.raises(TransactionLost, match=r"during the work.*\n.*\n.*leave COMMIT, ROLLBACK"):
                await stage.call(stage.barrier(), connection, work)
            if goes_on and stage.effects():
                # What a connection that commits by itself did afterwards is heard, and cannot be taken back.
                assert name in AUTOCOMMIT
            await called_again(stage, connection, "g2")

    stage.run(scene)
    assert stage.rows() == [("g2", "action", "01", "action")]


#: Libraries whose connections commit each statement that is in no transaction.
AUTOCOMMIT = {"psycopg-autocommit", "asyncpg", "asyncpg-pool", "pymysql-found-rows", "django-sqlite", "django-postgres"}


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name not in UNSEEN])
def test_a_commit_of_the_works_own_is_heard(stages, name):
    stage = stages(name)

    async def work(connection):
        await stage.effect(connection)
        await stage.end(connection, "commit")

    async def scene():
        async with stage.idle() as connection:
            barrier = stage.barrier()
            with pytest.raises(TransactionLost, match="ended during the work"):
                await stage.call(barrier, connection, work)
            # Its number is free again, so asking once more finds the row.
            await stage.call(barrier, connection, work)
            assert barrier.reason is Reason.REPEATED
            await called_again(stage, connection, "g2")

    stage.run(scene)
    assert stage.rows() == [("g1", "action", "01", "action"), ("g2", "action", "01", "action")]
    assert stage.effects() == ["g1", "g2"]


@pytest.mark.parametrize("name", on(Database.MYSQL))
def test_a_swallowed_deadlock_of_mysql_is_no_success(stages, name):
    """The whole transaction is gone, and what follows would be committed without the barrier's row."""
    stage = stages(name)
    stage.change(
        "DROP TABLE IF EXISTS locked",
        "CREATE TABLE locked (id int PRIMARY KEY, n int NOT NULL)",
        "INSERT INTO locked VALUES (1, 0), (2, 0)",
    )
    taken, other = threading.Event(), Heavy(stage.url)

    def rival():
        other.take(2)
        taken.set()
        other.take(1)
        other.close()

    async def work(connection):
        await stage.statement(connection, "UPDATE locked SET n = n + 1 WHERE id = 1")
        thread.start()
        assert taken.wait(60)
        with pytest.raises(Exception, match="Deadlock"):
            await stage.statement(connection, "UPDATE locked SET n = n + 1 WHERE id = 2")
        await stage.effect(connection)

    async def scene():
        async with stage.idle() as connection:
            with pytest.raises(TransactionLost, match="deadlock"):
                await stage.call(stage.barrier(), connection, work)

    thread = threading.Thread(target=rival)
    stage.run(scene)
    thread.join(60)
    assert stage.rows() == []
    # Where autocommit is on, what follows the deadlock is committed by itself: it can be heard only.
    assert stage.effects() == (["g1"] if name in AUTOCOMMIT else [])


class Heavy:
    """A transaction of MySQL that has done too much to be the victim of a deadlock."""

    def __init__(self, url) -> None:
        import pymysql

        from sdk.barrier_connections import parts

        self.connection = pymysql.connect(**parts(url))
        cursor = self.connection.cursor()
        cursor.executemany("INSERT INTO locked VALUES (%s, 0)", [(number,) for number in range(100, 1100)])

    def take(self, number) -> None:
        self.connection.cursor().execute("UPDATE locked SET n = n + 1 WHERE id = %s", (number,))

    def close(self) -> None:
        self.connection.rollback()
        self.connection.close()


@pytest.mark.parametrize("name", ["django-sqlite", "django-postgres"])
def test_what_django_marks_for_rollback_is_no_success(stages, name):
    """An inner block without a savepoint failed: the outer one rolls back as it ends, and says nothing."""
    from django.db import transaction

    stage = stages(name)

    def work(connection):
        stage.library.work(connection, ("g1", "01", "action"))
        with (
            contextlib.suppress(ZeroDivisionError),
            transaction.atomic(using=stage.library.alias, savepoint=False),
        ):
            raise ZeroDivisionError

    with stage.library.idle() as connection, pytest.raises(TransactionLost, match="did not survive"):
        stage.barrier().call(connection, work)
    assert (stage.rows(), stage.effects()) == ([], [])


def test_a_session_that_failed_to_flush_is_no_success(stages):
    from sqlalchemy import Column, String
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.orm import DeclarativeBase

    class Base(DeclarativeBase):
        pass

    class Effect(Base):
        __tablename__ = "effect"
        gid = Column(String, primary_key=True)
        branch_id = Column(String)
        op = Column(String)

    stage = stages("session-sqlite")

    def work(session):
        session.add(Effect(gid="g1"))
        with contextlib.suppress(IntegrityError):
            session.flush()

    with stage.library.idle() as session, pytest.raises(TransactionLost, match="did not survive"):
        stage.barrier().call(session, work)
    assert (stage.rows(), stage.effects()) == ([], [])


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_the_check_for_those_who_lead_the_transaction(stages, name):
    """As the client does around a message's local transaction, with a driver for each step."""
    stage = stages(name)
    driver, check = (async_driver_of, async_check_row) if stage.library.asynchronous else (driver_of, check_row)

    async def scene():
        async with stage.idle() as connection:
            for gid, end in (("kept", ""), ("lost", "rollback")):
                barrier = stage.barrier(gid, "msg", "msg", "00")
                await done(driver(connection).begin())
                assert await stage.passes(barrier, connection)
                if end:
                    await stage.end(connection, end)
                    with pytest.raises(TransactionLost, match="next:"):
                        await done(check(driver(connection), barrier.branch, stage.table))
                    await done(driver(connection).rollback())
                else:
                    await done(check(driver(connection), barrier.branch, stage.table))
                    await done(driver(connection).commit())

    stage.run(scene)
    assert stage.rows() == [("kept", "msg", "01", "msg")]


def test_a_row_of_another_call_is_not_taken_for_ones_own(stages):
    """Rolled back by the work, and undone by somebody else at once."""
    stage = stages("pymysql")

    def work(connection):
        connection.rollback()
        with stage.library.transaction() as other:
            assert not stage.barrier(op="compensate").passes(other)
        stage.library.work(connection, ("g1", "01", "action"))

    with stage.library.idle() as connection, pytest.raises(TransactionLost, match="rolled back"):
        stage.barrier().call(connection, work)
    assert stage.effects() == []


# --- a COMMIT that fails ----------------------------------------------------------------------------

DEFERRED = "CREATE TABLE IF NOT EXISTS child (parent int REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"


@pytest.mark.parametrize("name", on(Database.SQLITE, Database.POSTGRES))
def test_a_commit_that_fails_leaves_no_transaction_open(stages, name):
    """SQLite keeps the transaction then, for the work to be mended; here nobody will mend it."""
    stage = stages(name)
    stage.change("CREATE TABLE IF NOT EXISTS parent (id int PRIMARY KEY)", DEFERRED)
    if stage.database is Database.SQLITE and hasattr(stage.library, "engine"):
        from sqlalchemy import event

        engine = getattr(stage.library.engine, "sync_engine", stage.library.engine)
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))

    async def orphan(connection):
        await stage.effect(connection)
        await stage.statement(connection, "INSERT INTO child VALUES (1)")

    async def work(connection):
        await stage.effect(connection)

    async def scene():
        async with stage.idle() as connection:
            if stage.database is Database.SQLITE and not hasattr(stage.library, "engine"):
                await stage.statement(connection, "PRAGMA foreign_keys = ON")
            barrier = stage.barrier()
            with pytest.raises(Exception, match=r"(?i)foreign key"):
                await stage.call(barrier, connection, orphan)
            assert (stage.rows(), stage.effects()) == ([], [])
            # On the same connection, with the same barrier: the number is that of the first time.
            await stage.call(barrier, connection, work)
            assert barrier.reason is Reason.RUN

    stage.run(scene)
    assert (stage.rows(), stage.effects()) == ([("g1", "action", "01", "action")], ["g1"])


def test_a_check_back_whose_commit_fails_leaves_no_transaction_open(stages):
    """With a rollback journal, a COMMIT waits for readers and fails in the end."""
    stage = stages("sqlite3", 2)
    stage.change("PRAGMA journal_mode = DELETE")
    with (
        contextlib.closing(sqlite3.connect(stage.url, timeout=0)) as connection,
        contextlib.closing(sqlite3.connect(stage.url, isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM barrier").fetchall()
        message = Barrier("msg", "g1", "00", "msg")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            message.asked(connection)
        assert not connection.in_transaction
        reader.execute("ROLLBACK")
        with pytest.raises(Failure, match="did not commit"):
            message.asked(connection)
    assert stage.rows() == [("g1", "msg", "01", "rollback")]


# --- interrupted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_an_interrupted_call_leaves_no_transaction_open(stages, moment):
    """The thread of aiosqlite goes on with what is not awaited any more."""
    import aiosqlite

    stage = stages("aiosqlite", 2)
    stage.change("PRAGMA journal_mode = DELETE")
    worked = asyncio.Event()

    async def work(connection):
        await stage.effect(connection)
        worked.set()

    async def run():
        with contextlib.closing(sqlite3.connect(stage.url, isolation_level=None)) as other:
            # A writer keeps BEGIN IMMEDIATE waiting, a reader the COMMIT.
            other.execute("BEGIN IMMEDIATE" if moment == "begin" else "BEGIN")
            other.execute("SELECT count(*) FROM effect").fetchall()
            async with aiosqlite.connect(stage.url, timeout=60) as connection:
                barrier = stage.barrier()
                calling = asyncio.create_task(barrier.call(connection, work))
                await until_it_waits(connection, moment, worked)
                calling.cancel()
                asyncio.get_running_loop().call_later(0.2, other.execute, "ROLLBACK")
                with pytest.raises(asyncio.CancelledError):
                    await calling
                assert not connection.in_transaction
                # Whether it was committed is not known; asked once more, it is done once.
                await barrier.call(connection, stage.effect)

    asyncio.run(run())
    assert (stage.rows(), stage.effects()) == ([("g1", "action", "01", "action")], ["g1"])


async def until_it_waits(connection, moment, worked):
    """Until the thread of the connection is busy with this."""
    async with asyncio.timeout(60):
        if moment == "commit":
            await worked.wait()
        # SQLite counts the transaction as over as long as it tries to commit it.
        while moment == "commit" and connection.in_transaction:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def autocommitting(stage):
    """A connection on which a statement outside of any transaction is committed at once."""
    async with stage.idle() as connection:
        if hasattr(connection, "set_autocommit"):
            await connection.set_autocommit(True)
        yield connection


@pytest.mark.parametrize("name", ["asyncpg", "asyncpg-pool", "psycopg-async"])
@pytest.mark.parametrize("method", ["call", "asked"])
def test_a_call_that_is_interrupted_as_it_begins_leaves_no_transaction_open(stages, name, method):
    """What is done next on the connection would be in a transaction that nobody knows of, and nobody commits."""
    stage = stages(name)

    async def scene():
        for turn in range(6):
            async with autocommitting(stage) as connection:
                barrier = stage.barrier(f"late-{turn}", "msg", "msg", "00")
                arguments = (stage.effect,) if method == "call" else ()
                calling = asyncio.ensure_future(getattr(barrier, method)(connection, *arguments))
                for _ in range(turn):
                    await asyncio.sleep(0)
                calling.cancel()
                with contextlib.suppress(asyncio.CancelledError, Failure):
                    await calling
                await stage.effect(connection, f"next-{turn}")
                assert f"next-{turn}" in stage.effects()

    stage.run(scene)


class Interrupted(sqlite3.Connection):
    """Ctrl-C as it rolls back, once."""

    pressed = False

    def execute(self, statement, *parameters):
        if statement == "ROLLBACK" and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        return super().execute(statement, *parameters)


def test_a_rollback_that_is_interrupted_is_done_all_the_same(stages):
    stage = stages("sqlite3")

    def work(connection):
        stage.library.work(connection, ("g1", "01", "action"))
        raise ZeroDivisionError

    with contextlib.closing(sqlite3.connect(stage.url, factory=Interrupted)) as connection:
        with pytest.raises(KeyboardInterrupt):
            stage.barrier().call(connection, work)
        assert connection.pressed
        assert not connection.in_transaction
    assert (stage.rows(), stage.effects()) == ([], [])
