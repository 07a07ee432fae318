"""SQLite through the standard library's ``sqlite3`` and through ``aiosqlite``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import msgspec

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Connection, Driver, SqlDriver, plain
from reefknot.barrier.statements import Database, Placeholder

Result = TypeVar("Result")

# What `autocommit` says where isolation_level decides, as it did before Python 3.12.
_LEGACY = -1


class Mode(msgspec.Struct, frozen=True):
    """How a connection of ``sqlite3`` treats transactions, in its own words.

    Args:
        autocommit: its attribute of this name; -1 if it has none, or if ``isolation_level`` decides.
        isolation_level: likewise.
        in_transaction: likewise.
    """

    autocommit: bool | int
    isolation_level: str | None
    in_transaction: bool

    @property
    def always_open(self) -> bool:
        """Whether the library opens a transaction itself after each commit: ``autocommit=False``."""
        return self.autocommit is False

    @property
    def transactional(self) -> bool:
        """Whether what is executed now stays undecided until a commit."""
        if self.in_transaction or self.always_open:
            return True
        return self.autocommit is not True and self.isolation_level is not None


def mode_of(raw: Any) -> Mode:
    """The mode of a connection of ``sqlite3``; in the thread that made it, as a newer Python insists on."""
    return Mode(getattr(raw, "autocommit", _LEGACY), raw.isolation_level, raw.in_transaction)


async def async_mode_of(connection: Any) -> Mode:
    """The mode of a connection of ``aiosqlite``."""
    if not hasattr(sqlite3.Connection, "autocommit"):
        return Mode(_LEGACY, connection.isolation_level, connection.in_transaction)
    return await _in_thread(connection, mode_of)


async def _in_thread(connection: Any, function: Callable[[sqlite3.Connection], Result]) -> Result:
    # aiosqlite lends only some of the attributes, and statements by themselves take several ways to its thread.
    result: Result = await connection._execute(function, connection._conn)  # noqa: SLF001
    return result


def file_of(raw: sqlite3.Connection) -> str:
    """The file of the connection's database; empty if it has none."""
    with closing(raw.cursor()) as cursor:
        cursor.row_factory = None
        return str(cursor.execute("PRAGMA database_list").fetchone()[2])


class _Sqlite(Connection):
    library = "sqlite3"
    remedy = "execute BEGIN first, or connect with the default isolation_level"
    placeholder = Placeholder.QUESTION

    @property
    def database(self) -> Database:
        return Database.SQLITE


class SqliteDriver(_Sqlite, SqlDriver):
    """``sqlite3.Connection``."""

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection."""
        raw: sqlite3.Connection = self.connection
        return raw

    @property
    def mode(self) -> Mode:
        """How it treats transactions at present."""
        return mode_of(self.raw)

    def transactional(self) -> bool:
        return self.mode.transactional

    def inside(self) -> bool | None:
        # One that is always open does not show whether it is still the same.
        return None if self.mode.always_open else self.raw.in_transaction

    def place(self, table: str) -> object:
        return file_of(self.raw) or None

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        with closing(self.connection.execute(statement, parameters)) as cursor:
            return int(cursor.rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        with closing(self.raw.cursor()) as cursor:
            cursor.row_factory = None  # the connection's would make anything of the row
            return plain(cursor.execute(statement, parameters).fetchone())

    def start(self) -> None:
        if not self.mode.always_open:
            # The barrier writes first: a transaction that begins by reading could fail to become a writing one.
            self.connection.execute("BEGIN IMMEDIATE").close()

    # In the mode autocommit=True, commit() and rollback() of the connection do nothing.

    def commit(self) -> None:
        if self.mode.always_open:
            self.raw.commit()
        elif self.raw.in_transaction:
            self.raw.execute("COMMIT").close()

    def rollback(self) -> None:
        if self.mode.always_open:
            self.raw.rollback()
        elif self.raw.in_transaction:
            self.raw.execute("ROLLBACK").close()


class AioSqliteDriver(_Sqlite, AsyncSqlDriver):
    """``aiosqlite.Connection``: ``sqlite3`` in a thread of its own."""

    library = "aiosqlite"

    async def mode(self) -> Mode:
        """How it treats transactions at present."""
        return await async_mode_of(self.connection)

    def inside(self) -> bool:
        return bool(self.connection.in_transaction)

    async def refuse_autocommit(self) -> None:
        if not (await self.mode()).transactional:
            self.no_transaction(self.remedy)

    async def place(self, table: str) -> object:
        return await _in_thread(self.connection, file_of) or None

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        async with self.connection.execute(statement, parameters) as cursor:
            return int(cursor.rowcount)

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        async with self.connection.cursor() as cursor:
            cursor.row_factory = None
            await cursor.execute(statement, parameters)
            return plain(await cursor.fetchone())

    async def begin(self) -> None:
        if not (await self.mode()).always_open:
            await super().begin()

    async def start(self) -> None:
        # If this is cancelled, the thread goes on with it and may be waiting for its turn to write: so does a rollback.
        await (await self.connection.execute("BEGIN IMMEDIATE")).close()

    async def commit(self) -> None:
        if (await self.mode()).always_open:
            await self.connection.commit()
        else:
            await (await self.connection.execute("COMMIT")).close()

    async def rollback(self) -> None:
        if (await self.mode()).autocommit is not True:
            # In the thread, behind whatever it is still busy with; without effect if nothing is open.
            await self.connection.rollback()
        elif self.connection.in_transaction:
            await (await self.connection.execute("ROLLBACK")).close()


def driver(connection: Any) -> Driver | None:
    """The driver of a connection of ``sqlite3``."""
    return SqliteDriver(connection) if isinstance(connection, sqlite3.Connection) else None


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of a connection of ``aiosqlite``."""
    return AioSqliteDriver(connection) if iscoroutinefunction(getattr(connection, "commit", None)) else None
