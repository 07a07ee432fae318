"""PostgreSQL through psycopg 3, sync and async."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Connection, Driver, SqlDriver, plain
from reefknot.barrier.statements import Database, Placeholder
from reefknot.errors import Invalid


class _Psycopg(Connection):
    library = "psycopg"
    placeholder = Placeholder.FORMAT

    @property
    def database(self) -> Database:
        return Database.POSTGRES

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return bool(self.connection.info.transaction_status == TransactionStatus.IDLE)

    def refuse_pipeline(self) -> None:
        """Refuse a connection in pipeline mode, in which the count of an INSERT is not there yet when it is needed.

        Raises:
            Invalid: it is.
        """
        if self.connection.info.pipeline_status != PipelineStatus.OFF:
            raise Invalid(
                "connection",
                "is in pipeline mode, in which the answer of the database comes later",
                "ask the barrier outside of connection.pipeline(); the work may use one inside",
            )

    def transactional(self) -> bool:
        return not (self.connection.autocommit and self.idle)

    def inside(self) -> bool:
        return self.connection.info.transaction_status not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)

    def address(self, table: str) -> object:
        info = self.connection.info
        return None if self.connection.closed else (info.host, info.port, info.dbname)


class PsycopgDriver(_Psycopg, SqlDriver):
    """``psycopg.Connection``."""

    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return int(cursor.rowcount)

    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            return plain(cursor.execute(statement, parameters).fetchone())

    def refuse_autocommit(self) -> None:
        self.refuse_pipeline()
        super().refuse_autocommit()

    def begin(self) -> None:
        self.refuse_pipeline()
        super().begin()

    def start(self) -> None:
        if self.connection.autocommit or self.connection.closed:
            self.connection.execute("BEGIN")


class AsyncPsycopgDriver(_Psycopg, AsyncSqlDriver):
    """``psycopg.AsyncConnection``."""

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        async with self.connection.cursor() as cursor:
            await cursor.execute(statement, parameters)
            return int(cursor.rowcount)

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        async with self.connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement, parameters)
            return plain(await cursor.fetchone())

    async def refuse_autocommit(self) -> None:
        self.refuse_pipeline()
        await super().refuse_autocommit()

    async def begin(self) -> None:
        self.refuse_pipeline()
        await super().begin()

    async def start(self) -> None:
        if self.connection.autocommit or self.connection.closed:
            await self.connection.execute("BEGIN")


def driver(connection: Any) -> Driver | None:
    """The driver of a ``psycopg.Connection``."""
    return PsycopgDriver(connection) if isinstance(connection, psycopg.Connection) else None


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of a ``psycopg.AsyncConnection``."""
    return AsyncPsycopgDriver(connection) if isinstance(connection, psycopg.AsyncConnection) else None
