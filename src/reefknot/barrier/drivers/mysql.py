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
# ER_CANT_CHANGE_TX_CHARACTERISTICS: a transaction is open, and nothing was changed.
_TRANSACTION_OPEN = 1568


class _MySql(Connection):
    placeholder = Placeholder.FORMAT

    @property
    def library(self) -> str:  # type: ignore[override]  # one module for several libraries
        """The library's package."""
        return type(self.connection).__module__.partition(".")[0]

    @property
    def database(self) -> Database:
        return Database.MYSQL

    def inside(self) -> bool | None:
        # PyMySQL does not see a transaction that has only read so far, and mysqlclient sees none.
        connection = self.connection
        if hasattr(connection, "in_transaction"):  # MySQL Connector/Python
            return bool(connection.in_transaction)
        if hasattr(connection, "get_transaction_status"):  # aiomysql, asyncmy
            return bool(connection.get_transaction_status())
        if hasattr(connection, "server_status"):  # PyMySQL
            return bool(connection.server_status & _IN_TRANSACTION)
        return None

    @property
    def server(self) -> tuple[object, ...]:
        """Where the server is; empty if the library does not say (mysqlclient keeps a socket's path to itself)."""
        connection = self.connection
        socket = getattr(connection, "unix_socket", None)
        if hasattr(connection, "server_host"):  # MySQL Connector/Python
            return socket, connection.server_host, connection.server_port
        info = connection.get_host_info() if hasattr(connection, "get_host_info") else ""
        if info.endswith(" via TCP/IP"):  # mysqlclient
            return info, connection.port
        return (socket, info) if socket or info.startswith("socket ") else ()

    def address(self, table: str) -> object:
        # Without its schema, the table's name may mean two tables of one server.
        schema = table.rpartition(".")[0] or self.schema
        return (*self.server, schema) if self.server and schema else None

    @property
    def schema(self) -> object:
        """The default schema, if the library knows it by itself."""
        # The connector's property without the underscore asks the server.
        return getattr(self.connection, "_database", None) or getattr(self.connection, "db", None)

    @property
    def commits_alone(self) -> bool:
        """Whether autocommit is on."""
        connection = self.connection
        if hasattr(connection, "get_autocommit"):
            return bool(connection.get_autocommit())
        return bool(connection.autocommit)

    def transactional(self) -> bool:
        return bool(self.inside()) or not self.commits_alone


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

    def refuse_autocommit(self) -> None:
        if self.commits_alone and not self.asked_inside():
            self.no_transaction(self.remedy)

    def place(self, table: str) -> object:
        known = self.address(table)
        if known is None and self.server:  # mysqlclient keeps the schema to itself
            return (*self.server, self.fetch("SELECT DATABASE()", ()))
        return known

    def asked_inside(self) -> bool | None:
        inside = self.inside()
        if inside is not None:
            return inside
        # mysqlclient. Neither server tells everybody (@@in_transaction is MariaDB's alone), but both refuse this
        # inside a transaction, and outside it only says what a barrier's transaction is anyway.
        try:
            self.execute("SET TRANSACTION READ WRITE", ())
        except self.connection.Error as error:
            if error.args[:1] != (_TRANSACTION_OPEN,):
                raise
            return True
        return False

    def start(self) -> None:
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

    async def place(self, table: str) -> object:
        known = self.address(table)
        if known is None and self.server:  # asyncmy keeps the schema to itself
            return (*self.server, await self.fetch("SELECT DATABASE()", ()))
        return known

    async def start(self) -> None:
        await self.connection.begin()


def driver(connection: Any) -> Driver | None:
    """The driver of a sync connection."""
    return None if inspect.iscoroutinefunction(_commit(connection)) else MySqlDriver(connection)


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of an async connection."""
    return AsyncMySqlDriver(connection) if inspect.iscoroutinefunction(_commit(connection)) else None


def _commit(connection: Any) -> Any:
    return getattr(connection, "commit", None)
