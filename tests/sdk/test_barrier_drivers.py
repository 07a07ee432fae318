"""What each library's driver refuses, and what it must not be misled by."""

import asyncio
import contextlib
import secrets
import sqlite3
import sys

import psycopg
import pymysql
import pytest
from pymysql.constants import CLIENT

from reefknot.barrier import (
    AsyncBarrier,
    Barrier,
    BarrierCollision,
    LocalTransactionOpen,
    NoLocalTransaction,
    Reason,
)
from reefknot.barrier.drivers import async_driver_of, driver_of
from reefknot.barrier.statements import Database, table_sql
from reefknot.errors import BarrierMissing, Invalid
from sdk.barrier_business import administrator, prepare, run_script
from sdk.barrier_connections import LIBRARIES, parts
from sdk.barrier_scenes import Stage, done

QUERY = {"trans_type": "saga", "gid": "g1", "branch_id": "01", "op": "action"}
MESSAGE = {"trans_type": "msg", "gid": "g1", "branch_id": "00", "op": "msg"}
TABLES = {Database.SQLITE: "barrier", Database.POSTGRES: "dtm_barrier.barrier", Database.MYSQL: "own"}


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("drivers") / "business.db")
    prepare(Database.SQLITE, url)
    return url


@pytest.fixture(scope="module")
def postgres_url(postgres):
    name = f"drivers_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    prepare(Database.POSTGRES, postgres.url_of(name))
    return postgres.url_of(name)


@pytest.fixture(scope="module")
def mysql_url(mariadb):
    url = mariadb.create_database(f"drivers_{secrets.token_hex(4)}")
    prepare(Database.MYSQL, url, "own")
    return url


def own_library(request, name):
    """A library on its database, with an empty table."""
    database = LIBRARIES[name]("").database
    url = request.getfixturevalue(f"{'mysql' if database is Database.MYSQL else database}_url")
    run_script(database, url, f"DELETE FROM {TABLES[database]}")
    return LIBRARIES[name](url), database, url


def rows(database, url, table=""):
    with administrator(database, url) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT gid, op, reason FROM {table or TABLES[database]} ORDER BY id")
        return [tuple(row) for row in cursor.fetchall()]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sqlite3", {"isolation_level": None}),
        ("psycopg", {"autocommit": True}),
        ("pymysql", {"autocommit": True}),
        ("mysql-connector", {"autocommit": True}),
    ],
)
def test_autocommit_is_refused(request, name, options):
    _, database, url = own_library(request, name)
    connect = {"sqlite3": sqlite3.connect, "psycopg": psycopg.connect, "pymysql": pymysql.connect}.get(name)
    if name == "mysql-connector":
        import mysql.connector

        connect = mysql.connector.connect
    place = {} if database is not Database.MYSQL else parts(url)
    with contextlib.closing(connect(*([] if place else [url]), **place, **options)) as connection:
        with pytest.raises(NoLocalTransaction, match="commits every statement at once"):
            Barrier.from_query(QUERY).passes(connection)
        assert rows(database, url) == []
        connection.cursor().execute("BEGIN")
        assert Barrier.from_query(QUERY, table=TABLES[database]).passes(connection)
        connection.rollback() if name != "sqlite3" else connection.execute("ROLLBACK")
    assert rows(database, url) == []


def test_autocommit_of_aiosqlite_is_refused(request):
    import aiosqlite

    _, database, url = own_library(request, "aiosqlite")

    async def run():
        async with aiosqlite.connect(url, isolation_level=None) as connection:
            with pytest.raises(NoLocalTransaction, match="execute BEGIN first"):
                await AsyncBarrier.from_query(QUERY).passes(connection)

    asyncio.run(run())
    assert rows(database, url) == []


@pytest.mark.parametrize("name", ["asyncpg", "psycopg-async", "aiomysql", "asyncmy"])
def test_autocommit_is_refused_by_async_drivers(request, name):
    library, database, url = own_library(request, name)

    async def run():
        async with library.idle() as connection:
            if name == "psycopg-async":
                await connection.set_autocommit(True)
            elif database is Database.MYSQL:
                await connection.autocommit(True)
            with pytest.raises(NoLocalTransaction, match=name.partition("-")[0]):
                await AsyncBarrier.from_query(QUERY).passes(connection)

    asyncio.run(run())
    assert rows(database, url) == []


async def in_pipeline(connection, asking):
    """Ask, or work, in pipeline mode."""
    async with contextlib.AsyncExitStack() as entered:
        if isinstance(connection, psycopg.AsyncConnection):
            await entered.enter_async_context(connection.pipeline())
        else:
            entered.enter_context(connection.pipeline())
        return await done(asking())


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("name", ["psycopg", "psycopg-async"])
@pytest.mark.parametrize("method", ["passes", "call", "asked"])
def test_pipeline_mode_is_refused(request, name, method, autocommit):
    """There the count of an INSERT is -1, which was taken for a row in the way: the work was lost."""
    library, database, url = own_library(request, name)
    stage = Stage(LIBRARIES[name], url)
    stage.change("DELETE FROM effect")

    async def scene():
        async with stage.idle() as connection:
            await done(connection.set_autocommit(autocommit))
            if method == "passes":
                await stage.statement(connection, "BEGIN")
            barrier = library.barrier(MESSAGE)
            arguments = (stage.effect,) if method == "call" else ()
            with pytest.raises(Invalid, match="pipeline mode"):
                await in_pipeline(connection, lambda: getattr(barrier, method)(connection, *arguments))
            assert barrier.reason is None
            # A transaction of the caller's is left as it was.
            inside = psycopg.pq.TransactionStatus.INTRANS if method == "passes" else psycopg.pq.TransactionStatus.IDLE
            assert connection.info.transaction_status == inside
            await stage.end(connection, "rollback")
            # The work may use one.
            await stage.call(barrier, connection, lambda one: in_pipeline(one, lambda: stage.effect(one)))

    stage.run(scene)
    assert rows(database, url) == [("g1", "msg", "msg")]
    assert stage.effects() == ["g1"]


@pytest.mark.parametrize("name", ["sqlalchemy-psycopg", "django-postgres"])
def test_a_count_that_is_not_known_is_no_row_in_the_way(request, name):
    """A pipeline below another library."""
    library, database, url = own_library(request, name)
    run_script(database, url, "DELETE FROM effect")
    with library.idle() as connection:
        if name == "django-postgres":
            connection.ensure_connection()
        raw = connection.connection if name == "django-postgres" else connection.connection.driver_connection
        connection.rollback()
        with raw.pipeline(), pytest.raises(Invalid, match="counts -1 rows"):
            library.barrier(QUERY).call(connection, lambda one: library.work(one, ("g1", "01", "action")))
        library.barrier(QUERY).call(connection, lambda one: library.work(one, ("g1", "01", "action")))
    assert rows(database, url) == [("g1", "action", "action")]


ENGINES = {
    "engine": {"isolation_level": "AUTOCOMMIT"},
    "connection": {},
    "library": {"connect_args": {"isolation_level": None}},
    "library's autocommit": {"connect_args": {"autocommit": True}},
}


def engine_of(library, place):
    """An engine whose connections commit each statement, because of a setting in this place."""
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    if place == "library's autocommit" and sys.version_info < (3, 12):
        pytest.skip("sqlite3 has the argument autocommit since Python 3.12")
    create = create_async_engine if library.asynchronous else create_engine
    engine = create(library.address, poolclass=NullPool, **ENGINES[place])
    return engine.execution_options(isolation_level="AUTOCOMMIT") if place == "connection" else engine


SETTINGS = [
    (name, place)
    for name in LIBRARIES
    if "sqlalchemy" in name or ("session" in name and "scoped" not in name)
    for place in ENGINES
    if "library" not in place or "sqlite" in name
]


@pytest.mark.parametrize("method", ["passes", "call", "asked"])
@pytest.mark.parametrize(("name", "place"), SETTINGS)
def test_autocommit_of_sqlalchemy_is_refused(request, name, place, method):
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    library, database, url = own_library(request, name)
    engine = engine_of(library, place)
    barrier = library.barrier(MESSAGE, table=TABLES[database])
    more = [lambda _: pytest.fail("refused")] if method == "call" else []

    async def run():
        async with AsyncSession(engine) if "session" in name else engine.connect() as connection:
            with pytest.raises(NoLocalTransaction, match="AUTOCOMMIT"):
                await getattr(barrier, method)(connection, *more)
            await connection.rollback()

    def run_sync():
        with Session(engine) if "session" in name else engine.connect() as connection:
            with pytest.raises(NoLocalTransaction, match="AUTOCOMMIT"):
                getattr(barrier, method)(connection, *more)
            if method != "passes":
                assert not connection.in_transaction()

    asyncio.run(run()) if library.asynchronous else run_sync()
    assert rows(database, url) == []


@pytest.mark.parametrize("name", [name for name, place in SETTINGS if place == "library"])
def test_an_engine_that_begins_by_itself_is_none_in_autocommit(request, name):
    """What SQLAlchemy's manual advises for SQLite: no transactions of the library's, and a BEGIN at the right time."""
    from sqlalchemy import event

    library, database, url = own_library(request, name)
    library.engine = engine_of(library, "library")
    event.listen(
        getattr(library.engine, "sync_engine", library.engine), "begin", lambda one: one.exec_driver_sql("BEGIN")
    )
    first, second = (dict(QUERY, gid=gid) for gid in ("g1", "g2"))

    async def run():
        async with library.idle() as connection:
            assert await library.barrier(first).passes(connection)
            await connection.rollback()
            assert await library.barrier(first).passes(connection)
            await connection.commit()
            assert await library.barrier(second).call(connection, lambda _: asyncio.sleep(0, "done")) == "done"

    def run_sync():
        with library.idle() as connection:
            assert library.barrier(first).passes(connection)
            connection.rollback()
            assert library.barrier(first).passes(connection)
            connection.commit()
            assert library.barrier(second).call(connection, lambda _: "done") == "done"

    asyncio.run(run()) if library.asynchronous else run_sync()
    assert rows(database, url) == [("g1", "action", "action"), ("g2", "action", "action")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has the argument autocommit since Python 3.12")
@pytest.mark.parametrize(("autocommit", "refused"), [(True, True), (False, False)])
def test_autocommit_of_aiosqlite_on_newer_pythons(request, autocommit, refused):
    import aiosqlite

    _, database, url = own_library(request, "aiosqlite")

    async def run():
        async with aiosqlite.connect(url, autocommit=autocommit) as connection:
            if refused:
                with pytest.raises(NoLocalTransaction, match="execute BEGIN first"):
                    await AsyncBarrier.from_query(QUERY).passes(connection)
            else:
                assert await AsyncBarrier.from_query(QUERY).passes(connection)
                await connection.rollback()
            assert await AsyncBarrier.from_query(QUERY).call(connection, lambda _: asyncio.sleep(0, "done")) == "done"

    asyncio.run(run())
    assert rows(database, url) == [("g1", "action", "action")]


def test_autocommit_of_django_is_refused(request):
    library, database, url = own_library(request, "django-postgres")
    with library.idle() as connection, pytest.raises(NoLocalTransaction, match=r"transaction\.atomic"):
        Barrier.from_query(QUERY).passes(connection)
    assert rows(database, url) == []


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_an_open_transaction_is_refused_where_the_barrier_needs_its_own(request, name):
    """``asked`` would say no and its row be rolled back with that very answer."""
    library, database, url = own_library(request, name)
    table = TABLES[database]

    async def run():
        async with library.transaction() as connection:
            await AsyncBarrier.from_query(QUERY, table=table).passes(connection)
            with pytest.raises(LocalTransactionOpen, match="another connection"):
                await AsyncBarrier.from_query(MESSAGE, table=table).asked(connection)

    if library.asynchronous:
        asyncio.run(run())
    else:
        with library.transaction() as connection:
            Barrier.from_query(QUERY, table=table).passes(connection)
            with pytest.raises(LocalTransactionOpen, match="another connection"):
                Barrier.from_query(MESSAGE, table=table).asked(connection)
    assert rows(database, url) == [("g1", "action", "action")]


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_a_missing_table_is_named_with_what_creates_it(request, name):
    library, database, _ = own_library(request, name)

    async def run():
        async with library.idle() as connection:
            await AsyncBarrier.from_query(MESSAGE, table="nowhere").asked(connection)

    def run_sync():
        with library.idle() as connection:
            Barrier.from_query(MESSAGE, table="nowhere").asked(connection)

    with pytest.raises(BarrierMissing) as caught:
        asyncio.run(run()) if library.asynchronous else run_sync()
    assert f"reefknot barrier sql --db {database} --table nowhere" in str(caught.value)
    assert (caught.value.gid, caught.value.branch_id) == ("g1", "00")


def test_a_missing_schema_is_a_missing_table(postgres, mariadb):
    with psycopg.connect(postgres.url) as connection, pytest.raises(BarrierMissing, match=r"table no_schema\.barrier"):
        Barrier.from_query(QUERY, table="no_schema.barrier").passes(connection)
    opened = contextlib.closing(pymysql.connect(**parts(mariadb.url)))
    with opened as connection, pytest.raises(BarrierMissing, match=r"table no_schema\.barrier"):
        Barrier.from_query(QUERY, table="no_schema.barrier").passes(connection)


def test_the_wrong_face_is_told(sqlite_url):
    import aiosqlite

    async def run():
        async with aiosqlite.connect(sqlite_url) as connection:
            with pytest.raises(Invalid, match="use AsyncBarrier"):
                Barrier.from_query(QUERY).passes(connection)

    asyncio.run(run())
    with contextlib.closing(sqlite3.connect(sqlite_url)) as connection:
        with pytest.raises(Invalid, match="use Barrier"):
            asyncio.run(AsyncBarrier.from_query(QUERY).passes(connection))
        with pytest.raises(Invalid, match=r"sqlite3\.Cursor, .*pass the connection"):
            Barrier.from_query(QUERY).passes(connection.cursor())
    with pytest.raises(Invalid, match=r"builtins\.str.*sqlite3, aiosqlite"):
        Barrier.from_query(QUERY).passes("sqlite://")


def test_a_proxy_is_known_by_what_it_stands_for(request):
    """Tracers wrap connections in objects of a type of their own."""
    library, database, url = own_library(request, "psycopg")

    class Proxy:
        def __init__(self, target):
            self.target = target

        def __getattr__(self, name):
            return getattr(self.target, name)

        @property
        def __class__(self):
            return self.target.__class__

    with library.transaction() as connection:
        assert Barrier.from_query(QUERY).passes(Proxy(connection))
    assert rows(database, url) == [("g1", "action", "action")]


def test_an_engine_is_no_connection(request):
    library, _, _ = own_library(request, "sqlalchemy-sqlite")
    with pytest.raises(Invalid, match=r"Engine.*pass the connection"):
        Barrier.from_query(QUERY).passes(library.engine)


@pytest.mark.parametrize("name", list(LIBRARIES))
def test_a_driver_made_anew_ends_what_another_began(request, name):
    """The client begins and commits around the caller's block with a driver each."""
    library, database, url = own_library(request, name)
    table = TABLES[database]

    async def run():
        for gid, end in (("kept", "commit"), ("dropped", "rollback")):
            async with library.idle() as connection:
                await async_driver_of(connection).begin()
                assert await AsyncBarrier("saga", gid, "01", "action", table=table).passes(connection)
                await getattr(async_driver_of(connection), end)()
                await async_driver_of(connection).rollback()  # without effect

    def run_sync():
        for gid, end in (("kept", "commit"), ("dropped", "rollback")):
            with library.idle() as connection:
                driver_of(connection).begin()
                assert Barrier("saga", gid, "01", "action", table=table).passes(connection)
                getattr(driver_of(connection), end)()
                driver_of(connection).rollback()  # without effect

    asyncio.run(run()) if library.asynchronous else run_sync()
    assert rows(database, url) == [("kept", "action", "action")]


# --- what must not mislead it ---------------------------------------------------------------------


@pytest.mark.parametrize("gid", ["order-a", "Order-á", "Order-A "])
def test_a_collation_that_takes_two_gids_for_one_is_an_error_and_no_skipped_work(mariadb, gid):
    """With the collation of DTM's own table; nothing is done for the second gid, and it is heard."""
    url = mariadb.create_database(f"drivers_{secrets.token_hex(4)}")
    run_script(Database.MYSQL, url, table_sql(Database.MYSQL, "barrier").replace("utf8mb4_bin", "utf8mb4_general_ci"))
    with contextlib.closing(pymysql.connect(**parts(url))) as connection:
        assert Barrier("saga", "Order-A", "01", "action", table="barrier").passes(connection)
        connection.commit()
        for op in ("action", "compensate"):
            with pytest.raises(BarrierCollision, match="reefknot barrier check"):
                Barrier("saga", gid, "01", op, table="barrier").passes(connection)
            connection.rollback()
    assert rows(Database.MYSQL, url, "barrier") == [("Order-A", "action", "action")]


def test_an_old_snapshot_does_not_hide_the_row_in_the_way(mysql_url):
    """REPEATABLE READ: the transaction began to read before the other call committed."""
    run_script(Database.MYSQL, mysql_url, "DELETE FROM own")
    with (
        contextlib.closing(pymysql.connect(**parts(mysql_url))) as early,
        contextlib.closing(pymysql.connect(**parts(mysql_url))) as other,
    ):
        cursor = early.cursor()
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM own")
        Barrier.from_query(QUERY, table="own").passes(other)
        other.commit()
        barrier = Barrier.from_query(QUERY, table="own")
        assert not barrier.passes(early)
        assert barrier.reason is Reason.REPEATED
        cursor.execute("SELECT count(*) FROM own")
        assert cursor.fetchone() == (0,)  # a plain read shows the snapshot still
        early.rollback()


def test_a_check_back_does_not_answer_from_an_old_snapshot(mysql_url):
    """PyMySQL cannot tell that a SELECT opened a transaction; the barrier's own begins anew all the same."""
    run_script(Database.MYSQL, mysql_url, "DELETE FROM own")
    with (
        contextlib.closing(pymysql.connect(**parts(mysql_url))) as early,
        contextlib.closing(pymysql.connect(**parts(mysql_url))) as sender,
    ):
        early.cursor().execute("SELECT count(*) FROM own")
        Barrier.from_query(MESSAGE, table="own").passes(sender)
        sender.commit()
        Barrier.from_query(MESSAGE, table="own").asked(early)
    assert rows(Database.MYSQL, mysql_url) == [("g1", "msg", "msg")]


def test_matched_rows_are_not_taken_for_changed_ones(mysql_url):
    """On connections with FOUND_ROWS an upsert reports the row that was there as changed."""
    run_script(Database.MYSQL, mysql_url, "DELETE FROM own")
    options = {"client_flag": CLIENT.FOUND_ROWS}
    with contextlib.closing(pymysql.connect(**parts(mysql_url), **options)) as connection:
        said = []
        for _ in range(3):
            barrier = Barrier.from_query(QUERY, table="own")
            barrier.passes(connection)
            connection.commit()
            said.append(barrier.reason)
    assert said == [Reason.RUN, Reason.REPEATED, Reason.REPEATED]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_stricter_isolation_of_postgres(postgres_url, level):
    """The second of two calls at once fails to serialize and is done when it is repeated; never twice."""
    run_script(Database.POSTGRES, postgres_url, "DELETE FROM dtm_barrier.barrier")
    strict = psycopg.IsolationLevel[level.replace(" ", "_")]
    with psycopg.connect(postgres_url) as first, psycopg.connect(postgres_url) as second:
        first.isolation_level = second.isolation_level = strict
        second.execute("SELECT 1")
        assert Barrier.from_query(QUERY).passes(first)
        first.commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            Barrier.from_query(QUERY).passes(second)
        second.rollback()
        assert not Barrier.from_query(QUERY).passes(second)
        second.rollback()


def test_pending_objects_of_a_session_stay_pending(request):
    """The barrier asks through the session's connection and neither flushes nor commits."""
    from sqlalchemy import Column, String
    from sqlalchemy.orm import DeclarativeBase

    class Base(DeclarativeBase):
        pass

    class Effect(Base):
        __tablename__ = "effect"
        gid = Column(String, primary_key=True)
        branch_id = Column(String)
        op = Column(String)

    library, database, url = own_library(request, "session-psycopg")
    with library.idle() as session:
        session.add(Effect(gid="pending", branch_id="01", op="action"))
        assert Barrier.from_query(QUERY).passes(session)
        assert len(session.new) == 1
        session.rollback()
    assert rows(database, url) == []


def test_work_after_a_repeated_call_in_the_same_session(request):
    """MySQL's duplicate key is an error that must not spoil the transaction it comes up in."""
    from sqlalchemy import text

    library, database, url = own_library(request, "session-pymysql")
    with library.transaction() as session:
        assert Barrier.from_query(QUERY, table="own").passes(session)
    run_script(database, url, "DELETE FROM effect")
    with library.transaction() as session:
        session.execute(text("INSERT INTO effect VALUES ('before', '01', 'action')"))
        assert not Barrier.from_query(QUERY, table="own").passes(session)
        session.execute(text("INSERT INTO effect VALUES ('after', '01', 'action')"))
    with administrator(database, url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT gid FROM effect ORDER BY gid")
        assert cursor.fetchall() == (("after",), ("before",))
