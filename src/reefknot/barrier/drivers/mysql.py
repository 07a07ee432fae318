"""MySQL and MariaDB through PyMySQL, mysqlclient (MySQLdb), MySQL Connector/Python, aiomysql and asyncmy."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Connection, Driver, SqlDriver, plain
from reefknot.barrier.statements import Database, Placeholder

# Bits of the protocol's server status: SERVER_STATUS_IN_TRANS and SERVER_STATUS_AUTOCOMMIT.
_IN_TRANSACTION = 1
_AUTOCOMMIT = 2


class _MySql(Connection):
    placeholder = Placeholder.FORMAT

    @property
    def library(self) -> str:  # type: ignore[override]  # one module for several libraries
        """The library's package."""
        return type(self.connection).__module__.partition(".")[0]

    @property
    def database(self) -> Database:
        return Database.MYSQL

    @property
    def open(self) -> bool:
        """Whether a transaction is open, as far as the library can tell.

        PyMySQL does not see one that has only read so far, and MySQLdb sees none.
        """
        connection = self.connection
        if hasattr(connection, "in_transaction"):  # MySQL Connector/Python
            return bool(connection.in_transaction)
        if hasattr(connection, "get_transaction_status"):  # aiomysql, asyncmy
            return bool(connection.get_transaction_status())
        return bool(getattr(connection, "server_status", 0) & _IN_TRANSACTION)

    @property
    def commits_alone(self) -> bool:
        """Whether autocommit is on."""
        connection = self.connection
        if hasattr(connection, "get_autocommit"):
            return bool(connection.get_autocommit())
        return bool(connection.autocommit)

    def transactional(self) -> bool:
        return self.open or not self.commits_alone


class MySqlDriver(_MySql, SqlDriver):
    """A connection of a DB-API library for MySQL."""

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(statement, tuple(parameters))
            return int(cursor.rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(statement, tuple(parameters))
            # All of it, as some libraries want before the next statement; the key allows one row.
            return next(map(plain, cursor.fetchall()), None)

    def begin(self) -> None:
        if self.open:
            self.already_open()
        with closing(self.connection.cursor()) as cursor:
            cursor.execute("START TRANSACTION")


class AsyncMySqlDriver(_MySql, AsyncSqlDriver):
    """A connection of aiomysql or asyncmy."""

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement, tuple(parameters))
            return int(cursor.rowcount)

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement, tuple(parameters))
            return next(map(plain, await cursor.fetchall()), None)

    async def begin(self) -> None:
        if self.open:
            self.already_open()
        await self.connection.begin()


def driver(connection: Any) -> Driver | None:
    """The driver of a sync connection."""
    return None if inspect.iscoroutinefunction(_commit(connection)) else MySqlDriver(connection)


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of an async connection."""
    return AsyncMySqlDriver(connection) if inspect.iscoroutinefunction(_commit(connection)) else None


def _commit(connection: Any) -> Any:
    return getattr(connection, "commit", None)
