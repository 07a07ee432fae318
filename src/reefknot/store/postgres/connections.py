"""Connections to the database: limited in number and time, replaced when they break.

asyncpg's own pool asks the server to reset each connection it takes back, and answers a command
that takes too long with a cancel request over a new connection, which a server that hangs never
takes. Here a connection has no state to reset, and one that is not answered in time is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import asyncpg

from reefknot.errors import StoreUnavailable
from reefknot.store.postgres.location import Location

#: After a failed connect, others that need a connection fail at once for so many seconds: what
#: queued up while the server hung is answered quickly, and the server is not flooded.
_REST_SECONDS = 0.3

#: A transaction that lost a deadlock or a conflict was rolled back; it is tried so many times.
_TRIES = 6
_CONFLICTS: tuple[type[Exception], ...] = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

#: Every access has its index. Plans are kept per connection, so one that was made when a table was
#: small must not scan it when it is large; hash and merge joins would read whole tables, too.
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
_BEGIN_POOLED = "; ".join(
    ("BEGIN ISOLATION LEVEL READ COMMITTED", *(f"SET LOCAL {k} = off" for k, v in _SETTINGS.items() if v == "off"))
)

#: SQLSTATE of a server that takes no writes.
_READ_ONLY = "25006"

#: SQLSTATE classes of errors that lie in the values: data exception, constraint, too large.
_CLASSES_OF_VALUES = ("22", "23", "54")

Row = Sequence[Any]
T = TypeVar("T")
Command = tuple[str, tuple[Any, ...]]


class Fetch(Protocol):
    """Runs one statement in a transaction of its own and returns its rows."""

    def __call__(self, statement: str, *values: Any) -> Awaitable[list[Row]]: ...


class Connector:
    """Opens connections, and remembers for a moment that it could not.

    Args:
        location: the database.

    Raises:
        ConfigError: the client's certificate cannot be used.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._tls = location.system_tls and location.system_tls.context()
        self._failure = ""
        self._failed_at = 0.0
        self._demoted_at = float("-inf")

    def demoted(self) -> None:
        """The server takes no writes, and the address may lead to another one by now: trust no older connection."""
        self._demoted_at = asyncio.get_running_loop().time()

    def outlived(self, made_at: float) -> bool:
        """Whether a connection is to be replaced before it is used again.

        Args:
            made_at: when it was asked for, on the loop's clock.
        """
        age = asyncio.get_running_loop().time() - made_at
        return made_at <= self._demoted_at or age >= (self.location.lifetime or float("inf"))

    async def connect(self) -> Any:
        """A new connection.

        Raises:
            StoreUnavailable: it could not be opened; the cause is the driver's error.
        """
        loop = asyncio.get_running_loop()
        if self._failure and loop.time() - self._failed_at < _REST_SECONDS:
            raise StoreUnavailable(self._failure)
        location = self.location
        try:
            connection = await asyncpg.connect(
                location.dsn,
                ssl=self._tls,
                timeout=location.timeout,
                statement_cache_size=0 if location.pooler else 100,
                max_cached_statement_lifetime=0,
                server_settings=None if location.pooler else {"application_name": "reefknot", **_SETTINGS},
            )
        except (*_DRIVER_ERRORS, ValueError) as error:
            # ValueError: the driver could not understand a reply or a TLS option.
            self._failure = f"{location.address}: {_words(error)}"
            self._failed_at = loop.time()
            raise StoreUnavailable(self._failure) from error
        self._failure = ""
        return connection


class Connections:
    """At most ``size`` connections for commands of one kind.

    Args:
        connector: opens them when they are needed.
        size: how many commands run at the same time.
        keep: how many stay open while nobody needs them; all of them if not given.
    """

    def __init__(self, connector: Connector, size: int, keep: int | None = None) -> None:
        self._connector = connector
        self._location = connector.location
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._keep = size if keep is None else keep
        self._idle: list[Any] = []
        #: When each open connection was asked for, on the loop's clock.
        self._made_at: dict[Any, float] = {}
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def fetch(self, statement: str, *values: Any, seconds: float = 0) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Args:
            statement: the SQL.
            values: its parameters.
            seconds: the time it may take; the location's timeout if 0.

        Raises:
            StoreUnavailable: it is not known whether the statement took effect, or it did not.
            ValueError: the database cannot store one of the values; nothing has changed.
            asyncpg.UniqueViolationError: a key exists; nothing has changed.
        """
        return (await self.transaction(((statement, values),), seconds=seconds))[0]

    async def transaction(self, commands: Sequence[Command], seconds: float = 0) -> list[list[Row]]:
        """Run statements in one transaction and return the rows of each. Raises as ``fetch`` does."""

        async def work(connection: Any) -> list[list[Row]]:
            return await self._commit(connection, commands)

        for _ in range(_TRIES):
            try:
                return await self.run(work, seconds)
            except _CONFLICTS as error:
                conflict = error
        raise StoreUnavailable(f"{self._location.address}: {_words(conflict)}") from conflict

    async def steps(self, work: Callable[[Fetch], Awaitable[T]]) -> T:
        """Let ``work`` run statements one after the other on one connection, each in a transaction of its own.

        Raises:
            StoreUnavailable: as ``fetch``; also for a lost deadlock, because a step may have been committed.
            ValueError: as ``fetch``.
        """

        async def all_steps(connection: Any) -> T:
            async def fetch(statement: str, *values: Any) -> list[Row]:
                return (await self._commit(connection, ((statement, values),)))[0]

            return await work(fetch)

        try:
            return await self.run(all_steps)
        except _CONFLICTS as error:
            raise StoreUnavailable(f"{self._location.address}: {_words(error)}") from error

    async def _commit(self, connection: Any, commands: Sequence[Command]) -> list[list[Row]]:
        """Run statements in one transaction; a single one needs no commands around it, but behind a pooler."""
        begin = _BEGIN_POOLED if self._location.pooler else "BEGIN" if len(commands) > 1 else ""
        if not begin:
            ((statement, values),) = commands
            return [await connection.fetch(statement, *values)]
        await connection.execute(begin)
        try:
            rows = [await connection.fetch(statement, *values) for statement, values in commands]
        except (asyncpg.PostgresError, ValueError):
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")
        return rows

    async def run(self, work: Callable[[Any], Awaitable[T]], seconds: float = 0) -> T:
        """Hand a connection to ``work``; it is dropped if ``work`` takes too long or leaves a transaction.

        A caller that is cancelled does not stop the command: the connection would be lost with it.
        """
        task = asyncio.ensure_future(self._run(work, seconds))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # the caller may have been cancelled; nobody else asks for it

    async def _run(self, work: Callable[[Any], Awaitable[T]], seconds: float) -> T:
        connection = await self._take()
        loop = asyncio.get_running_loop()
        watchdog = loop.call_later(seconds or self._location.timeout, connection.terminate)
        try:
            return await work(connection)
        except Exception as error:
            read_only = getattr(error, "sqlstate", None) == _READ_ONLY
            if read_only:
                self._connector.demoted()
            if not connection.is_closed() and (read_only or connection.is_in_transaction()):
                connection.terminate()
            if (translated := self._translated(error)) is error:
                raise
            raise translated from error
        finally:
            watchdog.cancel()
            await self._give_back(connection)

    async def close(self) -> None:
        """Refuse new commands and close every connection once the running ones are done."""
        self._closed = True
        for _ in range(self._size):
            await self._free.acquire()
        for connection in self._idle:
            await self._hang_up(connection)

    async def _take(self) -> Any:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            async with asyncio.timeout(self._location.timeout):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{self._location.address}: every connection is busy") from None
        try:
            return await self._connected()
        except BaseException:
            self._free.release()
            raise

    async def _connected(self) -> Any:
        """An idle connection that is not too old, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if not self._connector.outlived(self._made_at[connection]):
                if not connection.is_closed():
                    return connection
                del self._made_at[connection]
            else:
                await self._hang_up(connection)
        made_at = asyncio.get_running_loop().time()
        connection = await self._connector.connect()
        self._made_at[connection] = made_at
        return connection

    async def _give_back(self, connection: Any) -> None:
        """Keep a connection for the next command; one too many is closed before another may be opened."""
        try:
            if connection.is_closed():
                del self._made_at[connection]
            elif len(self._idle) < self._keep:
                self._idle.append(connection)
            else:
                await self._hang_up(connection)
        finally:
            self._free.release()

    async def _hang_up(self, connection: Any) -> None:
        """Say goodbye and close a connection."""
        del self._made_at[connection]
        try:
            await connection.close(timeout=1)
        except _DRIVER_ERRORS:
            connection.terminate()

    def _translated(self, error: Exception) -> Exception:
        """The error that the store's contract names, or the same one."""
        if isinstance(error, (*_CONFLICTS, asyncpg.UniqueViolationError)):
            return error
        state = getattr(error, "sqlstate", None) or ""
        if state[:2] in _CLASSES_OF_VALUES or isinstance(error, ValueError):
            return ValueError(f"PostgreSQL cannot store this: {_words(error)}")
        if isinstance(error, _DRIVER_ERRORS):
            return StoreUnavailable(f"{self._location.address}: {_words(error)}")
        return error


def _words(error: BaseException) -> str:
    """The first line of an error; some have no text."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
