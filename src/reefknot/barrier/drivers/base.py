"""What the barrier needs of a database connection, whichever library it comes from."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from reefknot.barrier.core import LocalTransactionOpen, NoLocalTransaction, Row
from reefknot.barrier.statements import Database, Placeholder, statement
from reefknot.errors import Invalid


class Connection:
    """What the sync and the async drivers have in common: a user's connection, and what is known of it.

    A driver keeps nothing else: one that is made anew for a connection goes on where another stopped.

    Args:
        connection: the user's. A driver never closes it.
    """

    library: ClassVar[str]
    remedy: ClassVar[str] = "begin a transaction first, or switch autocommit off"

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def database(self) -> Database:
        """Whose SQL the connection speaks."""
        raise NotImplementedError

    def transactional(self) -> bool:
        """Whether what is executed now stays undecided until a commit."""
        raise NotImplementedError

    def inside(self) -> bool | None:
        """Whether a transaction is open by now; None if the library cannot tell."""
        raise NotImplementedError

    def address(self, table: str) -> object:
        """What connections have in common that mean the same table by its name; None if that cannot be told."""
        return None

    def no_transaction(self, remedy: str) -> NoReturn:
        """Raise ``NoLocalTransaction`` with what to do about it."""
        raise NoLocalTransaction(
            f"this connection of {self.library} commits every statement at once, so the barrier's row would be "
            f"committed before the work; {remedy}"
        )

    def already_open(self) -> NoReturn:
        """Raise ``LocalTransactionOpen``."""
        raise LocalTransactionOpen(
            f"this connection of {self.library} is inside a transaction, and one of the barrier's own is needed "
            f"here; commit or roll back first, or hand in another connection"
        )

    def got_in(self, count: int) -> bool:
        """Whether an INSERT of one row got it in, by the library's count of rows.

        Raises:
            Invalid: the library cannot tell, and that never means that a row is in the way.
        """
        if count not in (0, 1):
            raise Invalid(
                "connection",
                f"of {self.library} counts {count} rows for an INSERT of one, so whether it was done is not known",
                "hand in a connection that tells, outside of pipelines and batches",
            )
        return count == 1


class Driver(Connection, ABC):
    """A connection whose calls return when they are done.

    ``begin``, ``commit`` and ``rollback`` frame a transaction that the SDK leads itself; the barrier
    proper only needs ``insert`` and ``read``, inside a transaction of the user's.
    """

    def refuse_autocommit(self) -> None:
        """Refuse a connection on which the barrier's row would be committed alone, before the work.

        Raises:
            NoLocalTransaction: it commits each statement by itself and has no transaction open.
        """
        if not self.transactional():
            self.no_transaction(self.remedy)

    @abstractmethod
    def insert(self, row: Row, table: str) -> bool:
        """Insert a row of the barrier unless one has its place; whether it got in.

        Where the database reports a row in the way as an error, that error is raised.
        """

    @abstractmethod
    def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        """The row that has this one's place: its key and its reason; None if there is none."""

    def place(self, table: str) -> object:
        """``address``, if need be with the help of the database."""
        return self.address(table)

    def asked_inside(self) -> bool | None:
        """``inside``, if need be with the help of the database."""
        return self.inside()

    def begin(self) -> None:
        """Begin a transaction. If this raises, none is left open that was not open before.

        Raises:
            LocalTransactionOpen: one is open already.
        """
        if self.asked_inside():
            self.already_open()
        try:
            self.start()
        except BaseException:
            # Interrupted, or without an answer in time: the database may have begun all the same.
            with contextlib.suppress(Exception):
                self.rollback()
            raise

    @abstractmethod
    def start(self) -> None:
        """Begin a transaction where none is open."""

    def commit(self) -> None:
        """Commit it. If this raises, whether it is committed is not known."""
        self.connection.commit()

    def rollback(self) -> None:
        """Roll it back."""
        self.connection.rollback()


class SqlDriver(Driver):
    """A driver of an SQL database: it runs statements."""

    placeholder: ClassVar[Placeholder]

    def insert(self, row: Row, table: str) -> bool:
        return self.got_in(self.execute(statement("insert", self.database, self.placeholder, table), row.values))

    def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        return self.fetch(statement("read", self.database, self.placeholder, table), row.key)

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[str]) -> int:
        """Run a statement; how many rows it changed."""

    @abstractmethod
    def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        """The first row of a query, or None."""


class AsyncDriver(Connection, ABC):
    """A connection whose calls are awaited; the methods are those of ``Driver``."""

    async def refuse_autocommit(self) -> None:
        """Refuse a connection on which the barrier's row would be committed alone, before the work.

        Raises:
            NoLocalTransaction: it commits each statement by itself and has no transaction open.
        """
        if not self.transactional():
            self.no_transaction(self.remedy)

    @abstractmethod
    async def insert(self, row: Row, table: str) -> bool:
        """Insert a row of the barrier unless one has its place; whether it got in.

        Where the database reports a row in the way as an error, that error is raised.
        """

    @abstractmethod
    async def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        """The row that has this one's place: its key and its reason; None if there is none."""

    async def place(self, table: str) -> object:
        """``address``, if need be with the help of the database."""
        return self.address(table)

    async def begin(self) -> None:
        """Begin a transaction. If this raises, none is left open that was not open before.

        Raises:
            LocalTransactionOpen: one is open already.
        """
        if self.inside():
            self.already_open()
        try:
            await self.start()
        except BaseException:
            # Interrupted, or without an answer in time: the database may have begun all the same.
            with contextlib.suppress(Exception):
                await self.rollback()
            raise

    @abstractmethod
    async def start(self) -> None:
        """Begin a transaction where none is open."""

    async def commit(self) -> None:
        """Commit it. If this raises, whether it is committed is not known."""
        await self.connection.commit()

    async def rollback(self) -> None:
        """Roll it back."""
        await self.connection.rollback()


class AsyncSqlDriver(AsyncDriver):
    """A driver of an SQL database whose calls are awaited: it runs statements."""

    placeholder: ClassVar[Placeholder]

    async def insert(self, row: Row, table: str) -> bool:
        insert = statement("insert", self.database, self.placeholder, table)
        return self.got_in(await self.execute(insert, row.values))

    async def read(self, row: Row, table: str) -> tuple[str, ...] | None:
        return await self.fetch(statement("read", self.database, self.placeholder, table), row.key)

    @abstractmethod
    async def execute(self, statement: str, parameters: Sequence[str]) -> int:
        """Run a statement; how many rows it changed."""

    @abstractmethod
    async def fetch(self, statement: str, parameters: Sequence[str]) -> tuple[str, ...] | None:
        """The first row of a query, or None."""


def plain(row: Any) -> tuple[str, ...] | None:
    """A driver's row as a tuple of texts: the user's row factory may have made anything of it."""
    if row is None:
        return None
    values = row.values() if isinstance(row, Mapping) else row
    return tuple(value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values)
