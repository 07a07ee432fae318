"""What xa needs of a database connection beyond the barrier's drivers: all rows of a query, and a plain end.

Each function has a sync and an async form, for every library that the barrier knows and XA can use:
psycopg and asyncpg; PyMySQL, mysqlclient, MySQL Connector/Python, aiomysql and asyncmy.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reefknot.barrier.statements import Database
from reefknot.errors import Invalid
from reefknot.xa.core import Dialect
from reefknot.xa.mysql import MySql
from reefknot.xa.postgres import Postgres

Rows = list[tuple[Any, ...]]


def dialect_of(database: Database) -> Dialect:
    """The statements of a database.

    Raises:
        Invalid: it has no prepared transactions.
    """
    if database is Database.MYSQL:
        return MySql()
    if database is Database.POSTGRES:
        return Postgres()
    raise Invalid("connection", f"is one of {database}, which cannot prepare a transaction", "use saga or tcc there")


def rows(connection: Any, sql: str, parameters: Sequence[object]) -> Rows:
    """Run a statement with ``%s`` places; its rows, none if it has no result."""
    with connection.cursor() as cursor:
        # Without parameters a % in the statement is only a %.
        cursor.execute(sql, tuple(parameters) or None)
        return _tuples(cursor.fetchall()) if cursor.description else []


async def async_rows(connection: Any, sql: str, parameters: Sequence[object]) -> Rows:
    """As ``rows``, awaited."""
    if hasattr(connection, "fetchrow"):  # asyncpg
        for number in range(1, len(parameters) + 1):
            sql = sql.replace("%s", f"${number}", 1)
        return _tuples(await connection.fetch(sql, *parameters))
    async with connection.cursor() as cursor:
        await cursor.execute(sql, tuple(parameters) or None)
        return _tuples(await cursor.fetchall()) if cursor.description else []


def alone(connection: Any) -> None:
    """Let each statement outside of an XA branch commit by itself."""
    if callable(connection.autocommit):
        connection.autocommit(True)
    else:
        connection.autocommit = True


async def async_alone(connection: Any) -> None:
    """As ``alone``, awaited."""
    if hasattr(connection, "set_autocommit"):  # psycopg
        await connection.set_autocommit(True)
    elif hasattr(connection, "autocommit"):  # aiomysql, asyncmy; asyncpg does nothing else
        await connection.autocommit(True)


def close(connection: Any) -> None:
    """Close it for good."""
    connection.close()


async def async_close(connection: Any) -> None:
    """As ``close``, awaited; tells the server, where the library leaves the choice."""
    closing = connection.ensure_closed() if hasattr(connection, "ensure_closed") else connection.close()
    if inspect.isawaitable(closing):
        await closing


def _tuples(found: Iterable[Any]) -> Rows:
    """The rows as tuples: the user's row factory may have made anything of them."""
    return [tuple(row.values() if isinstance(row, Mapping) else row) for row in found]
