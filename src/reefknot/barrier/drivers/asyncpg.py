"""PostgreSQL through asyncpg: a connection, or one acquired from a pool."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from reefknot.barrier.drivers.base import AsyncDriver, AsyncSqlDriver, Driver, plain
from reefknot.barrier.statements import Database, Placeholder


class AsyncpgDriver(AsyncSqlDriver):
    """``asyncpg.Connection``."""

    library = "asyncpg"
    placeholder = Placeholder.NUMBER

    @property
    def database(self) -> Database:
        return Database.POSTGRES

    def transactional(self) -> bool:
        return bool(self.connection.is_in_transaction())

    def inside(self) -> bool:
        return self.transactional()

    def address(self, table: str) -> object:
        # asyncpg has no public word for it; without it, each connection stands for a database of its own.
        host = getattr(self.connection, "_addr", None)
        database = getattr(getattr(self.connection, "_params", None), "database", None)
        return (host, database) if host and database else None

    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        # The server's word for an insert: INSERT 0 and the number of rows.
        return int((await self.connection.execute(statement, *parameters)).rpartition(" ")[2])

    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        row = await self.connection.fetchrow(statement, *parameters)
        return None if row is None else plain(tuple(row))

    async def start(self) -> None:
        try:
            await self.connection.execute("BEGIN")
        except BaseException:
            # The connection knows what became of it only after the next statement.
            with contextlib.suppress(Exception):
                await self.connection.execute("ROLLBACK")
            raise

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        if self.transactional():
            await self.connection.execute("ROLLBACK")


def driver(_: Any) -> Driver | None:
    """There are no sync connections."""
    return None


def async_driver(connection: Any) -> AsyncDriver | None:
    """The driver of a connection."""
    return AsyncpgDriver(connection) if hasattr(connection, "is_in_transaction") else None
