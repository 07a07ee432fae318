"""SQLAlchemy 2: connections of Core and sessions of the ORM, sync and async, on SQLite, PostgreSQL and MySQL.

Statements run on the connection in whose transaction the caller is; a session lends its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection as CoreConnection
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.util import await_only

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Connection, Driver, SqlDriver, plain
from reefknot.barrier.drivers.sqlite import async_mode_of, mode_of
from reefknot.barrier.statements import Database, Placeholder
from reefknot.errors import Invalid

_DATABASES: Mapping[str, Database] = {
    "sqlite": Database.SQLITE,
    "postgresql": Database.POSTGRES,
    "mysql": Database.MYSQL,
    "mariadb": Database.MYSQL,
}


class _SqlAlchemy(Connection):
    library = "SQLAlchemy"
    placeholder = Placeholder.NAME

    @property
    def _bound(self) -> Any:
        """Something with a dialect: the connection, or the engine that a session is bound to."""
        return self.connection if hasattr(self.connection, "dialect") else self.connection.get_bind()

    @property
    def database(self) -> Database:
        name = self._bound.dialect.name
        if name not in _DATABASES:
            raise Invalid("connection", f"is one to {name}", f"the barrier knows {', '.join(_DATABASES)}")
        return _DATABASES[name]

    def transactional(self) -> bool:
        """Every connection begins a transaction by itself, unless its isolation level is AUTOCOMMIT."""
        return True

    def inside(self) -> bool:
        return bool(self.connection.in_transaction())

    def address(self, table: str) -> object:
        # Every engine has a dialect of its own.
        return self._bound.dialect

    def refuse(self, connection: CoreConnection) -> None:
        """Refuse a connection in the isolation level AUTOCOMMIT.

        Raises:
            NoLocalTransaction: it is.
        """
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT" or _detected(connection):
            self.no_transaction('leave isolation_level="AUTOCOMMIT" out, for example with connection.execution_options')


def _detected(connection: CoreConnection) -> bool:
    """Whether the library below commits each statement, as far as SQLAlchemy or this module can ask it."""
    dialect: Any = connection.dialect
    if dialect.name == "sqlite":
        return _sqlite_commits_alone(connection)
    raw = connection.connection.dbapi_connection
    try:
        return bool(dialect.detect_autocommit_setting(raw))
    except (AttributeError, NotImplementedError):
        return False


def _sqlite_commits_alone(connection: CoreConnection) -> bool:
    # Its isolation level alone says little: an engine may execute BEGIN whenever a transaction of its own begins.
    begun_here = None if connection.in_transaction() else connection.begin()
    raw: Any = connection.connection.dbapi_connection
    mode = await_only(async_mode_of(raw.driver_connection)) if hasattr(raw, "driver_connection") else mode_of(raw)
    if begun_here is not None and not mode.transactional:
        begun_here.rollback()
    return not mode.transactional


class SqlAlchemyDriver(_SqlAlchemy, SqlDriver):
    """``Connection`` or ``Session``."""

    @property
    def _core(self) -> CoreConnection:
        if isinstance(self.connection, CoreConnection):
            return self.connection
        core: CoreConnection = self.connection.connection()
        return core

    def refuse_autocommit(self) -> None:
        self.refuse(self._core)

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        return int(self._core.execute(text(statement), _named(parameters)).rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        row = self._core.execute(text(statement), _named(parameters)).first()
        return None if row is None else plain(tuple(row))

    def start(self) -> None:
        self.connection.begin()
        self.refuse_autocommit()

    def commit(self) -> None:
        core = self._core
        try:
            self.connection.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                _roll_back_below(core)
            raise


class AsyncSqlAlchemyDriver(_SqlAlchemy, AsyncSqlDriver):
    """``AsyncConnection`` or ``AsyncSession``."""

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        core = await self._core()
        result = await core.execute(text(statement), _named(parameters))
        return int(result.rowcount)

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        core = await self._core()
        row = (await core.execute(text(statement), _named(parameters))).first()
        return None if row is None else plain(tuple(row))

    async def start(self) -> None:
        await self.connection.begin()

    async def commit(self) -> None:
        core = await self._core()
        try:
            await self.connection.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                await core.run_sync(_roll_back_below)
            raise

    async def _core(self) -> AsyncConnection:
        core: AsyncConnection = self.connection
        if not isinstance(core, AsyncConnection):
            core = await self.connection.connection()
        await core.run_sync(self.refuse)
        return core


def _roll_back_below(connection: CoreConnection) -> None:
    # SQLAlchemy takes a transaction whose COMMIT failed for ended, and SQLite does not.
    if not connection.closed and not connection.invalidated:
        connection.connection.rollback()


def _named(parameters: Sequence[str]) -> dict[str, str]:
    return {f"p{number}": value for number, value in enumerate(parameters, 1)}


def driver(connection: Any) -> Driver | None:
    """The driver of a sync connection or session."""
    if isinstance(connection, scoped_session):
        connection = connection()
    return SqlAlchemyDriver(connection) if isinstance(connection, CoreConnection | Session) else None


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of an async connection or session."""
    if isinstance(connection, async_scoped_session):
        connection = connection()
    return AsyncSqlAlchemyDriver(connection) if isinstance(connection, AsyncConnection | AsyncSession) else None
