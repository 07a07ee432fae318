"""The answer to a check-back: the server asks whether a message's local transaction committed.

The question needs a connection of its own, from whatever the application has: an engine, a pool, a
session maker, a function that connects, or a client of Redis.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from reefknot.barrier import AsyncBarrier, Barrier, Branch
from reefknot.barrier import redis as redis_barrier
from reefknot.barrier.core import checked_table
from reefknot.errors import Invalid

#: How pools and engines are asked for a connection: asyncpg, aiomysql and asyncmy; psycopg_pool; SQLAlchemy.
_METHODS = ("acquire", "connection", "connect")


class CheckBack:
    """Answers check-backs from the barrier's table of one database.

    Args:
        source: gives connections: an engine, a session maker or a scoped session of SQLAlchemy, a pool of
            asyncpg, psycopg, aiomysql or asyncmy, a client of redis-py, or any function that returns a
            connection or a context manager of one. Sync or async.
        table: the barrier's table; the usual one if empty.
        prefix: of the barrier's keys in Redis.

    Raises:
        Invalid: connections cannot be got from the source, or the table's name cannot stand in a statement.
    """

    def __init__(self, source: Any, *, table: str = "", prefix: str = "") -> None:
        self._open = _opener(source)
        self._table = checked_table(table) if table else ""
        self._prefix = prefix

    def answer(self, branch: Branch) -> None:
        """Return if the local transaction committed.

        Args:
            branch: whose message is asked about.

        Raises:
            Failure: it did not and never can.
            Invalid: the source's connections are async.
        """
        opened = self._open()
        if _is_async(opened):
            _discard(opened)
            raise Invalid("source", "gives async connections", "give a sync one to a framework that is sync")
        self._answer(branch, opened)

    async def answer_async(self, branch: Branch) -> None:
        """The same for an event loop; a sync source is asked in a thread."""
        opened = await asyncio.to_thread(self._answer_unless_async, branch)
        if opened is None:
            return
        async with _async_entered(opened) as connection:
            barrier = AsyncBarrier(branch.trans_type, branch.gid, branch.branch_id, branch.op, table=self._table)
            await barrier.asked(connection, prefix=self._prefix)

    def _answer_unless_async(self, branch: Branch) -> Any:
        """Answer and return None, or return what was opened. In one thread, as SQLite demands it."""
        opened = self._open()
        if _is_async(opened):
            return opened
        self._answer(branch, opened)
        return None

    def _answer(self, branch: Branch, opened: Any) -> None:
        with _entered(opened) as connection:
            barrier = Barrier(branch.trans_type, branch.gid, branch.branch_id, branch.op, table=self._table)
            barrier.asked(connection, prefix=self._prefix)


def _opener(source: Any) -> Callable[[], Any]:
    if redis_barrier.is_client(source):
        return lambda: source
    if hasattr(source, "session_factory") and hasattr(source, "registry"):
        # A scoped session: its scope may be a task, of which a thread has none, and its session be at work.
        source = source.session_factory
    if callable(source):
        opener: Callable[[], Any] = source
        return opener
    for name in _METHODS:
        method = getattr(source, name, None)
        if callable(method):
            found: Callable[[], Any] = method
            return found
    kind = type(source)
    fix = "give an engine, a pool, a session maker, a client of redis-py or a function that connects"
    raise Invalid("source", f"is a {kind.__module__}.{kind.__qualname__}, which gives no connections", fix)


def _is_async(opened: Any) -> bool:
    if redis_barrier.is_client(opened):
        return redis_barrier.is_async(opened)
    return hasattr(opened, "__aenter__") or inspect.isawaitable(opened)


def _discard(opened: Any) -> None:
    """Drop what was never awaited."""
    if inspect.iscoroutine(opened):
        opened.close()


@contextmanager
def _entered(opened: Any) -> Iterator[Any]:
    """The connection, given back or closed at the end."""
    if redis_barrier.is_client(opened):
        yield opened
    elif hasattr(opened, "commit") and hasattr(opened, "close"):
        # A connection or a session. As a context manager it would commit, and not all kinds would close.
        try:
            yield opened
        finally:
            opened.close()
    else:
        with opened as connection:
            yield connection


@asynccontextmanager
async def _async_entered(opened: Any) -> AsyncIterator[Any]:
    """The same, awaited."""
    if redis_barrier.is_client(opened):
        yield opened
        return
    entering = opened if hasattr(opened, "__aenter__") else await opened
    if hasattr(entering, "__aenter__"):
        async with entering as connection:
            yield connection
        return
    try:
        yield entering
    finally:
        await entering.close()
