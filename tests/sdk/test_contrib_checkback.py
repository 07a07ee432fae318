"""A check-back gets its connection from whatever an application has, and gives it back."""

import asyncio
import contextlib
import secrets
import sqlite3

import aiomysql
import aiosqlite
import asyncmy
import asyncpg
import psycopg
import pymysql
import pytest
import redis
import redis.asyncio
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from reefknot import Branch, Failure, Invalid
from reefknot.barrier import redis as redis_barrier
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.checkback import CheckBack
from sdk.barrier_business import administrator, run_script
from sdk.barrier_connections import parts
from sdk.contrib_apps import message_barrier

TABLE = "own_barrier"


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory):
    return str(tmp_path_factory.mktemp("asked") / "bank.db")


@pytest.fixture(scope="module")
def urls(sqlite_url, postgres, mariadb):
    name = f"asked_{secrets.token_hex(4)}"
    found = {
        Database.SQLITE: sqlite_url,
        Database.POSTGRES: postgres.create_database(name),
        Database.MYSQL: mariadb.create_database(name),
    }
    for database, url in found.items():
        run_script(database, url, table_sql(database, TABLE))
    return found


def sqlalchemy_url(scheme, url):
    return f"{scheme}://{url.partition('://')[2]}"


@contextlib.contextmanager
def engine_of(url):
    # One connection: one that is not given back would be missed by the next question.
    engine = create_engine(sqlalchemy_url("postgresql+psycopg", url), pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    engine.dispose()


@contextlib.contextmanager
def function_of(connect):
    yield connect


@contextlib.contextmanager
def with_engine(url, make):
    with engine_of(url) as engine:
        yield make(engine)


SYNC = {
    "a function, sqlite3": (Database.SQLITE, lambda url: function_of(lambda: sqlite3.connect(url, timeout=30))),
    "a function, psycopg": (Database.POSTGRES, lambda url: function_of(lambda: psycopg.connect(url))),
    "a function, PyMySQL": (Database.MYSQL, lambda url: function_of(lambda: pymysql.connect(**parts(url)))),
    "a context manager": (
        Database.SQLITE,
        lambda url: function_of(lambda: contextlib.closing(sqlite3.connect(url, timeout=30))),
    ),
    "an engine": (Database.POSTGRES, engine_of),
    "a session maker": (Database.POSTGRES, lambda url: with_engine(url, sessionmaker)),
    "a scoped session": (Database.POSTGRES, lambda url: with_engine(url, lambda e: scoped_session(sessionmaker(e)))),
}


@contextlib.asynccontextmanager
async def async_engine_of(url):
    engine = create_async_engine(sqlalchemy_url("postgresql+asyncpg", url), pool_size=1, max_overflow=0, pool_timeout=5)
    yield engine
    await engine.dispose()


@contextlib.asynccontextmanager
async def async_sessions_of(url):
    async with async_engine_of(url) as engine:
        yield async_sessionmaker(engine)


@contextlib.asynccontextmanager
async def async_scoped_sessions_of(url):
    async with async_sessions_of(url) as sessions:
        yield async_scoped_session(sessions, asyncio.current_task)


@contextlib.asynccontextmanager
async def aiomysql_pool(url):
    options = parts(url)
    pool = await aiomysql.create_pool(db=options.pop("database"), minsize=1, maxsize=1, **options)
    yield pool
    pool.close()
    await pool.wait_closed()


@contextlib.asynccontextmanager
async def asyncmy_pool(url):
    pool = await asyncmy.create_pool(minsize=1, maxsize=1, **parts(url))
    yield pool
    pool.close()
    await pool.wait_closed()


@contextlib.asynccontextmanager
async def async_function_of(connect):
    yield connect


def coroutine_of(url):
    async def connect():
        return await asyncpg.connect(url)

    return async_function_of(connect)


ASYNC = {
    "a pool, asyncpg": (Database.POSTGRES, lambda url: asyncpg.create_pool(url, min_size=1, max_size=1)),
    "a pool, aiomysql": (Database.MYSQL, aiomysql_pool),
    "a pool, asyncmy": (Database.MYSQL, asyncmy_pool),
    "an async engine": (Database.POSTGRES, async_engine_of),
    "an async session maker": (Database.POSTGRES, async_sessions_of),
    "an async scoped session": (Database.POSTGRES, async_scoped_sessions_of),
    "a coroutine function": (Database.POSTGRES, coroutine_of),
    "a function, aiosqlite": (
        Database.SQLITE,
        lambda url: async_function_of(lambda: aiosqlite.connect(url, timeout=30)),
    ),
    "a function, psycopg": (
        Database.POSTGRES,
        lambda url: async_function_of(lambda: psycopg.AsyncConnection.connect(url)),
    ),
}


def messages(database, url):
    """Two messages: one whose local transaction committed, one without."""
    committed, never = (Branch("msg", secrets.token_hex(8), "00", "msg") for _ in range(2))
    values = f"('msg', '{committed.gid}', '00', 'msg', '01', 'msg')"
    with administrator(database, url) as connection:
        columns = "trans_type, gid, branch_id, op, barrier_id, reason"
        connection.cursor().execute(f"INSERT INTO {TABLE} ({columns}) VALUES {values}")
    return committed, never


@pytest.mark.parametrize("kind", SYNC)
def test_sync_sources(urls, kind):
    database, open_source = SYNC[kind]
    committed, never = messages(database, urls[database])
    with open_source(urls[database]) as source:
        check_back = CheckBack(source, table=TABLE)
        for _ in range(2):
            check_back.answer(committed)
            asyncio.run(check_back.answer_async(committed))
            with pytest.raises(Failure):
                check_back.answer(never)
            with pytest.raises(Failure):
                asyncio.run(check_back.answer_async(never))


@pytest.mark.parametrize("kind", ASYNC)
def test_async_sources(urls, kind):
    database, open_source = ASYNC[kind]
    committed, never = messages(database, urls[database])

    async def ask():
        async with open_source(urls[database]) as source:
            check_back = CheckBack(source, table=TABLE)
            for _ in range(2):
                await check_back.answer_async(committed)
                with pytest.raises(Failure):
                    await check_back.answer_async(never)

    asyncio.run(ask())


def test_a_scoped_session_at_work_is_left_alone(urls):
    """The question needs a transaction of its own."""
    committed, _ = messages(Database.SQLITE, urls[Database.SQLITE])
    engine = create_engine(f"sqlite:///{urls[Database.SQLITE]}")
    session = scoped_session(sessionmaker(engine))
    session.execute(text("SELECT 1"))
    CheckBack(session, table=TABLE).answer(committed)
    assert session().in_transaction()
    session.remove()
    engine.dispose()


@pytest.mark.parametrize("make", [redis.Redis.from_url, redis.asyncio.Redis.from_url], ids=["sync", "async"])
def test_redis(redis, make):
    prefix = secrets.token_hex(4)

    async def ask():
        client = make(redis.url)
        check_back = CheckBack(client, prefix=prefix)
        committed, never = (Branch("msg", secrets.token_hex(8), "00", "msg") for _ in range(2))
        planned = redis_barrier.running(committed, 1, "return 1", (), (), 60, prefix)
        done = redis_barrier.evaluate(client, planned)
        if redis_barrier.is_async(client):
            await done
        for _ in range(2):  # the client stays open
            await check_back.answer_async(committed)
            with pytest.raises(Failure):
                await check_back.answer_async(never)
        closed = client.aclose() if redis_barrier.is_async(client) else client.close()
        if closed is not None:
            await closed

    asyncio.run(ask())


def test_what_gives_no_connections_is_refused_at_the_start():
    with pytest.raises(Invalid, match=r"source: is a builtins.dict, which gives no connections; give an engine"):
        CheckBack({})
    with pytest.raises(Invalid, match="table"):
        CheckBack(sqlite3.connect, table="a b")


@pytest.mark.parametrize("kind", ["a coroutine function", "a function, aiosqlite"])
def test_an_async_source_in_a_sync_framework_is_named(urls, kind):
    database, open_source = ASYNC[kind]

    async def source():
        async with open_source(urls[database]) as found:
            return found

    with pytest.raises(Invalid, match=r"source: gives async connections; give a sync one"):
        CheckBack(asyncio.run(source())).answer(message_barrier("g").branch)
