"""SQLite through the standard library's ``sqlite3`` and through ``aiosqlite``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from inspect import iscoroutinefunction
from typing import Any

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Connection, Driver, SqlDriver, plain
from reefknot.barrier.statements import Database, Placeholder

# What `autocommit` says where isolation_level decides, as it did before Python 3.12.
_LEGACY = -1


class _Sqlite(Connection):
    library = "sqlite3"
    remedy = "execute BEGIN first, or connect with the default isolation_level"
    placeholder = Placeholder.QUESTION

    @property
    def database(self) -> Database:
        return Database.SQLITE

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection of ``sqlite3``."""
        raw: sqlite3.Connection = self.connection
        return raw

    @property
    def always_open(self) -> bool:
        """Whether the library opens a transaction itself after each commit: ``autocommit=False``."""
        return getattr(self.raw, "autocommit", _LEGACY) is False

    def transactional(self) -> bool:
        if self.raw.in_transaction or self.always_open:
            return True
        return getattr(self.raw, "autocommit", _LEGACY) == _LEGACY and self.raw.isolation_level is not None


class SqliteDriver(_Sqlite, SqlDriver):
    """``sqlite3.Connection``."""

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        with closing(self.connection.execute(statement, parameters)) as cursor:
            return int(cursor.rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        with closing(self.raw.cursor()) as cursor:
            cursor.row_factory = None  # the connection's would make anything of the row
            return plain(cursor.execute(statement, parameters).fetchone())

    def begin(self) -> None:
        if self.always_open:
            return
        if self.raw.in_transaction:
            self.already_open()
        # The barrier writes first: a transaction that begins by reading could fail to become a writing one.
        self.connection.execute("BEGIN IMMEDIATE").close()

    # In the mode autocommit=True, commit() and rollback() of the connection do nothing.

    def commit(self) -> None:
        if self.always_open:
            self.raw.commit()
        elif self.raw.in_transaction:
            self.raw.execute("COMMIT").close()

    def rollback(self) -> None:
        if self.always_open:
            self.raw.rollback()
        elif self.raw.in_transaction:
            self.raw.execute("ROLLBACK").close()


class AioSqliteDriver(_Sqlite, AsyncSqlDriver):
    """``aiosqlite.Connection``: ``sqlite3`` in a thread of its own."""

    library = "aiosqlite"

    @property
    def always_open(self) -> bool:
        return False

    def transactional(self) -> bool:
        return bool(self.connection.in_transaction) or self.connection.isolation_level is not None

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        async with self.connection.execute(statement, parameters) as cursor:
            return int(cursor.rowcount)

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        async with self.connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(statement, parameters)
            return plain(await cursor.fetchone())

    async def begin(self) -> None:
        if self.connection.in_transaction:
            self.already_open()
        await (await self.connection.execute("BEGIN IMMEDIATE")).close()

    async def commit(self) -> None:
        await (await self.connection.execute("COMMIT")).close()

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            await (await self.connection.execute("ROLLBACK")).close()


def driver(connection: Any) -> Driver | None:
    """The driver of a connection of ``sqlite3``."""
    return SqliteDriver(connection) if isinstance(connection, sqlite3.Connection) else None


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of a connection of ``aiosqlite``."""
    return AioSqliteDriver(connection) if iscoroutinefunction(getattr(connection, "commit", None)) else None
