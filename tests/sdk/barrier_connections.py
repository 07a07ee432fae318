"""Every library that the barrier takes, as a business uses it: a transaction around the barrier and the work.

A library is a class with a context manager for each thing a user does with it; ``LIBRARIES`` names them.
"""

import contextlib
import sqlite3
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from urllib.parse import urlsplit

from conftest import missing
from reefknot.barrier import AsyncBarrier, Barrier
from reefknot.barrier.statements import Database

#: What the work does: one row for each effect.
EFFECT_TABLE = (
    "CREATE TABLE effect (gid varchar(128) NOT NULL, branch_id varchar(128) NOT NULL, op varchar(45) NOT NULL)"
)


def parts(url):
    """What drivers with arguments instead of URLs want."""
    split = urlsplit(url)
    return {
        "host": split.hostname,
        "port": split.port,
        "user": split.username,
        "password": split.password,
        "database": split.path.lstrip("/"),
    }


class Library:
    """One library on one database.

    ``transaction`` gives a connection inside a transaction that it commits, ``idle`` one without.
    """

    database: Database
    asynchronous = False
    placeholder = "%s"

    def __init__(self, url: str) -> None:
        self.url = url

    def barrier(self, query, **options):
        return (AsyncBarrier if self.asynchronous else Barrier).from_query(query, **options)

    @property
    def insert(self) -> str:
        """The statement of the work."""
        places = [self.placeholder.replace("1", str(number)) for number in (1, 2, 3)]
        return f"INSERT INTO effect (gid, branch_id, op) VALUES ({', '.join(places)})"

    def work(self, connection, identity) -> None:
        connection.cursor().execute(self.insert, identity)

    def run(self, connection, statement) -> None:
        """Run any other statement, inside the transaction if there is one."""
        connection.cursor().execute(statement)

    def end(self, connection, word) -> None:
        """``commit`` or ``rollback``, as a work can call it."""
        getattr(connection, word)()


class Sqlite3(Library):
    database = Database.SQLITE
    placeholder = "?"

    @contextlib.contextmanager
    def idle(self):
        with contextlib.closing(sqlite3.connect(self.url, timeout=30)) as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as connection, connection:
            yield connection


class Aiosqlite(Library):
    database = Database.SQLITE
    asynchronous = True
    placeholder = "?"

    @contextlib.asynccontextmanager
    async def idle(self):
        import aiosqlite

        async with aiosqlite.connect(self.url, timeout=30) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.idle() as connection:
            yield connection
            await connection.commit()

    async def work(self, connection, identity) -> None:
        await connection.execute(self.insert, identity)

    async def run(self, connection, statement) -> None:
        await connection.execute(statement)

    async def end(self, connection, word) -> None:
        await getattr(connection, word)()


class Psycopg(Library):
    database = Database.POSTGRES
    options = MappingProxyType({})

    @contextlib.contextmanager
    def idle(self):
        import psycopg

        with psycopg.connect(self.url, **self.options) as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as connection, connection.transaction():
            yield connection


class PsycopgAutocommit(Psycopg):
    """The mode that psycopg's manual advises: explicit transactions only."""

    options = MappingProxyType({"autocommit": True})


class PsycopgDictRows(Psycopg):
    @contextlib.contextmanager
    def idle(self):
        from psycopg.rows import dict_row

        with super().idle() as connection:
            connection.row_factory = dict_row
            yield connection


class PsycopgAsync(Library):
    database = Database.POSTGRES
    asynchronous = True

    @contextlib.asynccontextmanager
    async def idle(self):
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.idle() as connection, connection.transaction():
            yield connection

    async def work(self, connection, identity) -> None:
        await connection.execute(self.insert, identity)

    async def run(self, connection, statement) -> None:
        await connection.execute(statement)

    async def end(self, connection, word) -> None:
        await getattr(connection, word)()


class Asyncpg(Library):
    database = Database.POSTGRES
    asynchronous = True
    placeholder = "$1"

    @contextlib.asynccontextmanager
    async def idle(self):
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.idle() as connection, connection.transaction():
            yield connection

    async def work(self, connection, identity) -> None:
        await connection.execute(self.insert, *identity)

    async def run(self, connection, statement) -> None:
        await connection.execute(statement)

    async def end(self, connection, word) -> None:
        await connection.execute(word)


class AsyncpgPool(Asyncpg):
    @contextlib.asynccontextmanager
    async def idle(self):
        import asyncpg

        async with asyncpg.create_pool(self.url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
            yield connection


class PyMySql(Library):
    database = Database.MYSQL
    options = MappingProxyType({})

    @contextlib.contextmanager
    def idle(self):
        import pymysql

        with contextlib.closing(pymysql.connect(**parts(self.url), **self.options)) as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as connection:
            connection.begin()
            yield connection
            connection.commit()


class PyMySqlFoundRows(PyMySql):
    """As SQLAlchemy and Django connect: the server then counts matched rows as changed."""

    @property
    def options(self):
        from pymysql.constants import CLIENT
        from pymysql.cursors import DictCursor

        return {"client_flag": CLIENT.FOUND_ROWS, "cursorclass": DictCursor, "autocommit": True}


def mysqldb():
    """The module of mysqlclient, which has no wheel for Linux."""
    if find_spec("MySQLdb") is None:
        missing("mysqlclient", "apt-get install default-libmysqlclient-dev, then pip install mysqlclient")
    return import_module("MySQLdb")


class MySqlClient(PyMySql):
    @contextlib.contextmanager
    def idle(self):
        with contextlib.closing(mysqldb().connect(**parts(self.url))) as connection:
            yield connection


class MySqlConnector(Library):
    database = Database.MYSQL

    @contextlib.contextmanager
    def idle(self):
        import mysql.connector

        with contextlib.closing(mysql.connector.connect(**parts(self.url))) as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as connection:
            connection.start_transaction()
            yield connection
            connection.commit()


class AioMySql(Library):
    database = Database.MYSQL
    asynchronous = True

    @contextlib.asynccontextmanager
    async def idle(self):
        import aiomysql

        options = parts(self.url)
        connection = await aiomysql.connect(db=options.pop("database"), **options)
        try:
            yield connection
        finally:
            await connection.ensure_closed()

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.idle() as connection:
            await connection.begin()
            yield connection
            await connection.commit()

    async def work(self, connection, identity) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(self.insert, identity)

    async def run(self, connection, statement) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)

    async def end(self, connection, word) -> None:
        await getattr(connection, word)()


class Asyncmy(AioMySql):
    @contextlib.asynccontextmanager
    async def idle(self):
        import asyncmy

        connection = await asyncmy.connect(**parts(self.url))
        try:
            yield connection
        finally:
            await connection.ensure_closed()


class SqlAlchemy(Library):
    """Core connections; the URL of the database becomes one of SQLAlchemy."""

    placeholder = ":a1"
    scheme = ""

    @property
    def database(self):
        return Database({"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}[self.scheme.partition("+")[0]])

    @property
    def address(self) -> str:
        rest = self.url.partition("://")[2]
        return f"{self.scheme}://{rest}" if rest else f"{self.scheme}:///{self.url}"

    @cached_property
    def engine(self):
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        return create_engine(self.address, poolclass=NullPool)

    @contextlib.contextmanager
    def idle(self):
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def transaction(self):
        with self.engine.begin() as connection:
            yield connection

    def work(self, connection, identity) -> None:
        from sqlalchemy import text

        connection.execute(text(self.insert), named(identity))

    def run(self, connection, statement) -> None:
        from sqlalchemy import text

        connection.execute(text(statement))


class SqlAlchemyMySqlClient(SqlAlchemy):
    scheme = "mysql+mysqldb"

    @property
    def engine(self):
        mysqldb()
        return super().engine


class SqlAlchemySession(SqlAlchemy):
    @contextlib.contextmanager
    def idle(self):
        from sqlalchemy.orm import Session

        with Session(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as session, session.begin():
            yield session


class SqlAlchemyScopedSession(SqlAlchemySession):
    """As Flask-SQLAlchemy hands it out."""

    @contextlib.contextmanager
    def idle(self):
        from sqlalchemy.orm import scoped_session, sessionmaker

        session = scoped_session(sessionmaker(self.engine))
        yield session
        session.remove()


class AsyncSqlAlchemy(SqlAlchemy):
    asynchronous = True

    @cached_property
    def engine(self):
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        return create_async_engine(self.address, poolclass=NullPool)

    @contextlib.asynccontextmanager
    async def idle(self):
        async with self.engine.connect() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.engine.begin() as connection:
            yield connection

    async def work(self, connection, identity) -> None:
        from sqlalchemy import text

        await connection.execute(text(self.insert), named(identity))

    async def run(self, connection, statement) -> None:
        from sqlalchemy import text

        await connection.execute(text(statement))

    async def end(self, connection, word) -> None:
        await getattr(connection, word)()


class AsyncSqlAlchemySession(AsyncSqlAlchemy):
    @contextlib.asynccontextmanager
    async def idle(self):
        from sqlalchemy.ext.asyncio import AsyncSession

        async with AsyncSession(self.engine) as session:
            yield session

    @contextlib.asynccontextmanager
    async def transaction(self):
        async with self.idle() as session, session.begin():
            yield session


class AsyncSqlAlchemyScopedSession(AsyncSqlAlchemySession):
    @contextlib.asynccontextmanager
    async def idle(self):
        import asyncio

        from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker

        session = async_scoped_session(async_sessionmaker(self.engine), scopefunc=asyncio.current_task)
        yield session
        await session.remove()


def named(identity) -> dict[str, str]:
    return {f"a{number}": value for number, value in enumerate(identity, 1)}


class Django(Library):
    engine_name = "sqlite3"

    @property
    def database(self):
        return {"sqlite3": Database.SQLITE, "postgresql": Database.POSTGRES, "mysql": Database.MYSQL}[self.engine_name]

    @contextlib.contextmanager
    def idle(self):
        from django.conf import settings

        if self.engine_name == "mysql":
            mysqldb()
        if not settings.configured:
            import django

            settings.configure(USE_TZ=True)
            django.setup()
        from django.db import connections

        connections.databases.update(connections.configure_settings({"default": {}, self.alias: self.settings}))
        with contextlib.closing(connections[self.alias]) as connection:
            yield connection

    @property
    def alias(self) -> str:
        return f"{self.engine_name}_{self.url}"

    @property
    def settings(self):
        if self.engine_name == "sqlite3":
            return {"ENGINE": "django.db.backends.sqlite3", "NAME": self.url}
        place = {name.upper(): value for name, value in parts(self.url).items()}
        return {"ENGINE": f"django.db.backends.{self.engine_name}", "NAME": place.pop("DATABASE"), **place}

    @contextlib.contextmanager
    def transaction(self):
        with self.idle() as connection:
            from django.db import transaction

            with transaction.atomic(using=self.alias):
                yield connection

    def end(self, connection, word) -> None:
        self.run(connection, word)  # Django's own words are errors inside an atomic block


def with_scheme(library, scheme):
    """A library of SQLAlchemy on one dialect."""
    return type(f"{library.__name__}_{scheme}", (library,), {"scheme": scheme})


def on(library, engine_name):
    """Django on one backend."""
    return type(f"{library.__name__}_{engine_name}", (library,), {"engine_name": engine_name})


LIBRARIES = {
    "sqlite3": Sqlite3,
    "aiosqlite": Aiosqlite,
    "psycopg": Psycopg,
    "psycopg-autocommit": PsycopgAutocommit,
    "psycopg-dict-rows": PsycopgDictRows,
    "psycopg-async": PsycopgAsync,
    "asyncpg": Asyncpg,
    "asyncpg-pool": AsyncpgPool,
    "pymysql": PyMySql,
    "pymysql-found-rows": PyMySqlFoundRows,
    "mysqlclient": MySqlClient,
    "mysql-connector": MySqlConnector,
    "aiomysql": AioMySql,
    "asyncmy": Asyncmy,
    "sqlalchemy-sqlite": with_scheme(SqlAlchemy, "sqlite"),
    "sqlalchemy-psycopg": with_scheme(SqlAlchemy, "postgresql+psycopg"),
    "sqlalchemy-pymysql": with_scheme(SqlAlchemy, "mysql+pymysql"),
    "sqlalchemy-mysqlclient": SqlAlchemyMySqlClient,
    "session-sqlite": with_scheme(SqlAlchemySession, "sqlite"),
    "session-psycopg": with_scheme(SqlAlchemySession, "postgresql+psycopg"),
    "session-pymysql": with_scheme(SqlAlchemySession, "mysql+pymysql"),
    "scoped-session-sqlite": with_scheme(SqlAlchemyScopedSession, "sqlite"),
    "async-sqlalchemy-aiosqlite": with_scheme(AsyncSqlAlchemy, "sqlite+aiosqlite"),
    "async-sqlalchemy-asyncpg": with_scheme(AsyncSqlAlchemy, "postgresql+asyncpg"),
    "async-sqlalchemy-asyncmy": with_scheme(AsyncSqlAlchemy, "mysql+asyncmy"),
    "async-session-aiosqlite": with_scheme(AsyncSqlAlchemySession, "sqlite+aiosqlite"),
    "async-session-asyncpg": with_scheme(AsyncSqlAlchemySession, "postgresql+asyncpg"),
    "async-session-aiomysql": with_scheme(AsyncSqlAlchemySession, "mysql+aiomysql"),
    "async-scoped-session-aiosqlite": with_scheme(AsyncSqlAlchemyScopedSession, "sqlite+aiosqlite"),
    "django-sqlite": on(Django, "sqlite3"),
    "django-postgres": on(Django, "postgresql"),
    "django-mysqlclient": on(Django, "mysql"),
}
