"""One connection to the database, and what it takes to trust it: set-up, time limits, transactions.

Everything runs in transactions: autocommit is off. A transaction that the database ended because of
a deadlock or a lock wait did nothing and is repeated, and so is one that found its connection dead
before anything was asked to be committed. An error in a commit is never repeated: whether it
happened is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncmy
from asyncmy import errors
from asyncmy.constants import CLIENT

from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.store.certificates import refused_certificate
from reefknot.store.mysql.location import Location

Result = TypeVar("Result")
Row = Sequence[Any]

#: A statement and the values for its placeholders.
Command = tuple[str, Sequence[Any]]

#: Bytes of a packet that are kept for what is not counted.
_RESERVE = 8_192


class Answer(NamedTuple):
    """What came of one statement: the number of rows it found or changed, and the rows it returned."""

    found: int
    rows: Sequence[Row]


#: How often a transaction is tried that the database keeps ending for another one's sake.
_TRIES = 20

#: Deadlock, lock wait timeout: the transaction was or will be rolled back and can be repeated.
_REPEATABLE = frozenset({1205, 1213})

#: Cannot connect, server gone, connection lost, closed before.
_LOST = frozenset({0, 2003, 2006, 2013, 2055})

#: After a failed connect everything that needs one fails for so many seconds without another try.
_PAUSE_SECONDS = 0.2

#: The connection was found closed before anything was written to it.
_UNSENT = 2006

#: What the database says of values it cannot keep: packet too large, out of range, wrong or too long.
_WRONG_VALUE = frozenset({1153, 1264, 1300, 1366, 1406, 1301, 1690, 3988})

#: The server takes no writes: read_only, a transaction or a server that only reads, InnoDB that only reads.
_READ_ONLY = frozenset({1290, 1792, 1836, 1874})

#: What is wrong with the login and not with the moment.
_WRONG_LOGIN = frozenset({1044, 1045, 1049, 1142, 1227, 1251, 1698, 2059, 2061, 3159})


class Demotions:
    """How often the server of a store was found to take no writes.

    Its address may lead to another one by then. So connections from before the last time are not used again.
    """

    def __init__(self) -> None:
        self.count = 0


class Session:
    """A connection that is made when it is needed and again when it was lost.

    Only one task may use it at a time.

    Args:
        location: the database.
        sql: the named statements.
        demotions: those that concern all sessions of a store.
        reads: keeps one snapshot for a whole transaction; for transactions that only read.
    """

    def __init__(self, location: Location, sql: dict[str, str], demotions: Demotions, *, reads: bool = False) -> None:
        self._location = location
        self._sql = sql
        self._demotions = demotions
        #: How many there had been when the connection was made.
        self._demotions_before = 0
        self._isolation = sql["session_reads" if reads else "session_writes"]
        self._connection: Any = None
        #: When the connection is to be replaced, on the loop's clock.
        self._expiry = 0.0
        self._cursor: Any = None
        self._committing = False
        self._connecting = False
        self._broken: StoreUnavailable | None = None
        self._broken_until = 0.0
        #: The largest statement that the server takes, bytes.
        self.max_packet = 1 << 20

    async def run(
        self, work: Callable[[Session], Awaitable[Result]], *, seconds: float = 0.0, commits: bool = True
    ) -> Result:
        """Run ``work`` in one transaction and commit it; roll back if it raises.

        Args:
            work: uses this session; may be called several times, the last time counts.
            seconds: for all tries together; 0 is the location's.
            commits: False ends the transaction without a commit, for one that only read.

        Raises:
            StoreUnavailable: no answer, or it is not known whether the commit happened.
            ValueError: the database cannot keep a value; nothing was changed.
        """
        loop = asyncio.get_running_loop()
        if self._broken is not None and loop.time() < self._broken_until:
            raise StoreUnavailable(str(self._broken))
        self._broken = None
        self._committing = self._connecting = False
        try:
            return await self._run(work, seconds or self._location.timeout, commits=commits)
        except StoreUnavailable as error:
            if self._connecting:  # then those who queued meanwhile need not wait for the same in turn
                self._broken, self._broken_until = error, loop.time() + _PAUSE_SECONDS
            raise

    async def _run(self, work: Callable[[Session], Awaitable[Result]], seconds: float, *, commits: bool) -> Result:
        clean = False
        try:
            async with asyncio.timeout(seconds):
                result = await self._repeat(work, commits=commits)
            clean = True
        except errors.Error as error:
            clean = _code(error) in _WRONG_VALUE and _code(error) != 1153
            if _code(error) in _READ_ONLY:
                self._demotions.count += 1
            raise self._told(error) from error
        except TimeoutError as error:
            raise StoreUnavailable(f"MySQL {self._location.name} does not answer") from error
        except OSError as error:
            raise StoreUnavailable(f"MySQL {self._location.name}: {error}") from error
        finally:
            if not clean:
                self._drop()
        return result

    async def _repeat(self, work: Callable[[Session], Awaitable[Result]], *, commits: bool) -> Result:
        """Repeat the transaction as long as nothing of it was committed and a repetition may help."""
        reconnected = False
        if self.connected and self._outlived:
            await self.close()
        for tries_left in range(_TRIES - 1, -1, -1):
            fresh = self._connection is None
            if fresh:
                self._connecting = True
                await self._connect()
                self._connecting = False
            try:
                result = await work(self)
                if not self._committing:
                    self._committing = commits
                    await self.execute("COMMIT")
                self._committing = False
            except errors.Error as error:
                code = _code(error)
                if code in _REPEATABLE and tries_left:
                    self._committing = False
                    await self._roll_back()
                elif code in _LOST and not fresh and not reconnected and (code == _UNSENT or not self._committing):
                    reconnected = True
                    self._committing = False
                    self._drop()
                else:
                    if code in _WRONG_VALUE and code != 1153:
                        await self._roll_back()
                    raise
            else:
                return result
        raise AssertionError("the last try returns or raises")

    async def _roll_back(self) -> None:
        """Undo the transaction. A Galera node may still have to say that another one's commit undid it first."""
        try:
            await self.execute("ROLLBACK")
        except errors.Error as error:
            if _code(error) not in _REPEATABLE:
                raise
            await self.execute("ROLLBACK")

    async def execute(self, statement: str, values: Sequence[Any] | None = None) -> int:
        """Run one statement; returns the number of rows it found."""
        packet = self._cursor.mogrify(statement, values)
        if len(packet) >= self.max_packet:  # values are quoted bytes here, so characters are bytes
            raise ValueError(f"MySQL takes {self.max_packet} bytes a packet (max_allowed_packet), not {len(packet)}")
        count: int = await self._cursor.execute(packet)
        return count

    async def rows(self, statement: str, values: Sequence[Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        await self.execute(statement, values)
        return list(await self._cursor.fetchall())

    async def script(self, commands: Sequence[Command], *, commit: bool = False) -> list[Answer]:
        """Run statements one after the other, in as few packets as the server's limit allows.

        The first error ends it, and what follows is not run.

        Args:
            commands: the statements and their values.
            commit: commit in the last packet, for a transaction that has nothing left to ask.

        Returns:
            One answer for each command.
        """
        answers: list[Answer] = []
        texts: list[str] = []
        values: list[Any] = []
        size = 0
        for text, bound in commands:
            length = _length(text, bound)
            if texts and size + length > self.max_packet - _RESERVE:
                await self._packet("; ".join(texts), values, answers)
                texts, values, size = [], [], 0
            texts.append(text)
            values += bound
            size += length
        if commit:
            self._committing = True
            texts.append("COMMIT")
        await self._packet("; ".join(texts), values, answers)
        return answers[: len(commands)]

    async def _packet(self, text: str, values: Sequence[Any], answers: list[Answer]) -> None:
        cursor = self._cursor
        await self.execute(text, values)
        while True:
            answers.append(Answer(cursor.rowcount, await cursor.fetchall() if cursor.description else ()))
            if not await cursor.nextset():
                return

    @property
    def _outlived(self) -> bool:
        """Whether the connection is to be replaced before it is used."""
        demoted = self._demotions_before != self._demotions.count
        return demoted or asyncio.get_running_loop().time() >= self._expiry

    @property
    def connected(self) -> bool:
        """Whether it has a connection, as far as it knows."""
        return self._connection is not None

    async def close(self) -> None:
        """Say goodbye and close the connection; the next transaction opens another."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            try:
                async with asyncio.timeout(1.0):
                    await connection.ensure_closed()
            except (TimeoutError, OSError, errors.Error):
                connection.close()

    async def check_login(self) -> str:
        """Connect; returns the server's version.

        Raises:
            ConfigError: user, password, rights or database are wrong.
            StoreUnavailable: no answer.
        """
        try:
            async with asyncio.timeout(self._location.timeout):
                if self._connection is None:
                    await self._connect()
                (row,) = await self.rows(self._sql["server_settings"])
                await self.execute("COMMIT")
        except errors.Error as error:
            self._drop()
            if certificate := refused_certificate(error):
                hint = "check ssl_ca and the host in the store URL"
                raise ConfigError(f"MySQL {self._location.name}: {certificate}; {hint}") from error
            if _code(error) in _WRONG_LOGIN:
                raise ConfigError(f"MySQL {self._location.name}: {_text(error)}; correct the store URL") from error
            raise self._told(error) from error
        except (TimeoutError, OSError) as error:
            self._drop()
            raise StoreUnavailable(f"MySQL {self._location.name}: {str(error) or 'does not answer'}") from error
        return str(row[1])

    async def _connect(self) -> None:
        where = self._location
        self._demotions_before = self._demotions.count
        try:
            self._connection = await asyncmy.connect(
                host=where.host,
                port=where.port,
                user=where.user,
                password=where.password.encode(),
                database=where.database,
                charset="utf8mb4",
                ssl=where.ssl,
                connect_timeout=where.timeout,
                client_flag=CLIENT.FOUND_ROWS,  # an UPDATE counts the rows it found, not those that differ
                autocommit=False,
            )
        except RuntimeError as error:
            # What the driver raises when the other side hangs up at once, as a proxy without a server does.
            raise ConnectionResetError(f"no connection: {error}") from error
        self._expiry = asyncio.get_running_loop().time() + (where.lifetime or float("inf"))
        self._cursor = self._connection.cursor()
        await self.execute(self._sql["session"])
        if await self.rows(self._sql["find_galera"]):
            # After a failover this node may still have to apply what another one acknowledged.
            await self.execute("COMMIT")
            await self.script([(self._sql["catch_up"], ())])
        await self.execute(self._isolation)
        (row,) = await self.rows(self._sql["server_settings"])
        await self.execute("COMMIT")
        self.max_packet = int(row[0])

    def _drop(self) -> None:
        """Close the connection without a word: nobody knows what is still on its way."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._cursor = None

    def _told(self, error: errors.Error) -> Exception:
        """The error in the words of the store contract."""
        if _code(error) in _WRONG_VALUE:
            return ValueError(f"MySQL cannot store this: {_text(error)}")
        doubt = "; whether the last write happened is not known" if self._committing else ""
        return StoreUnavailable(f"MySQL {self._location.name}: {_text(error)}{doubt}")


def chunks(rows: Sequence[Row], max_packet: int) -> Iterator[Sequence[Row]]:
    """Cut rows so that each part fits into one statement.

    A single row that is too large stands alone; the server refuses it.

    Args:
        rows: the values.
        max_packet: the largest packet, bytes.
    """
    start = size = 0
    for end, row in enumerate(rows):
        length = _length("", row)
        if size and size + length > max_packet - _RESERVE:
            yield rows[start:end]
            start, size = end, 0
        size += length
    if rows:
        yield rows[start:]


def _length(text: str, values: Sequence[Any]) -> int:
    """The most bytes that a statement can have with these values; a byte may need two."""
    return 200 + len(text) + 2 * sum([len(value) if isinstance(value, (bytes, str)) else 20 for value in values])


def _code(error: errors.Error) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else -1


def _text(error: errors.Error) -> str:
    return f"{error.args[-1]} ({_code(error)})" if error.args else type(error).__name__
