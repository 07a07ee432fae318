"""The barrier for the standard library's ``sqlite3`` and connections that behave like it.

    with conn:                              # your transaction: commits, or rolls back on an error
        if barrier.passes(conn):            # writes the barrier's row in it
            conn.execute("UPDATE ...")      # first time and in order: do the work

False means that there is nothing to do: answer 200 all the same. ``barrier.reason`` says why.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Protocol, Self

from reefknot.barrier.core import (
    BarrierMissing,
    Branch,
    NoLocalTransaction,
    Reason,
    Row,
    asking_row,
    checked_table,
    decide,
    rows,
)

SCHEMA_FILE = "barrier.sqlite.sql"

_FOLDER = files("reefknot.barrier")
_INSERT = (_FOLDER / "statements" / "insert.sqlite.sql").read_text("utf-8")
_HAS_REASON = (_FOLDER / "statements" / "has_reason.sqlite.sql").read_text("utf-8")


class Cursor(Protocol):
    """What the barrier needs of a DB-API cursor (PEP 249, parameter style ``qmark``)."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""
        ...

    def execute(self, statement: str, parameters: Sequence[str], /) -> object:
        """Run one statement."""
        ...

    def fetchone(self) -> Any:
        """The next row of the result."""
        ...

    def close(self) -> None:
        """Give the cursor back."""
        ...


class Connection(Protocol):
    """What the barrier needs of a DB-API connection."""

    def cursor(self) -> Cursor:
        """A new cursor in the connection's transaction."""
        ...


class Barrier:
    """The barrier of one branch call. Never commits, never rolls back, never closes anything.

    Args:
        branch: the operation that is being called.
        table: the barrier's table, with its schema if it has one.

    Raises:
        Invalid: the table's name cannot stand in a statement.
    """

    def __init__(self, branch: Branch, *, table: str = "barrier") -> None:
        self.branch = branch
        self.reason: Reason | None = None
        self._table = checked_table(table)
        self._calls = 0

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, table: str = "barrier") -> Self:
        """The barrier of the call whose query parameters these are.

        Raises:
            Invalid: as ``Branch.from_query``.
        """
        return cls(Branch.from_query(query), table=table)

    def passes(self, connection: Connection) -> bool:
        """Whether this operation runs now, for the first time and in order.

        Writes the barrier's rows in the connection's transaction. Commit it in either case, and
        let an error of your own work roll it back: the rows vanish with the work. A second call
        in the same handler guards a second piece of work.

        Args:
            connection: with the transaction that the work is done in.

        Returns:
            True: do the work. False: it was done before, or there is nothing to undo, or it was
            undone before it arrived; ``reason`` says which.

        Raises:
            NoLocalTransaction: the connection commits by itself after each statement.
            BarrierMissing: the table does not exist.
        """
        _refuse_autocommit(connection)
        planned = rows(self.branch, self._calls + 1)
        with _Rows(connection, self._table, self.branch) as stored:
            inserted = [stored.insert(row) for row in planned]
            own_reason = inserted[-1] or stored.has(planned[-1])
        self._calls += 1
        self.reason = decide(inserted, own_reason=own_reason)
        return self.reason is Reason.RUN

    def asked(self, connection: Connection) -> bool:
        """Whether a message's local transaction committed: the answer to a check-back.

        If it has not committed by now, it never can: the row written here is in its way. So
        commit before you answer.

        Returns:
            True: it committed, answer 200. False: it cannot any more, answer 409.

        Raises:
            BarrierMissing: the table does not exist.
        """
        row = asking_row(self.branch)
        with _Rows(connection, self._table, self.branch) as stored:
            return not stored.insert(row) and not stored.has(row)


class _Rows:
    """The rows of the table, through one cursor."""

    def __init__(self, connection: Connection, table: str, branch: Branch) -> None:
        self._cursor = connection.cursor()
        self._table = table
        self._branch = branch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def insert(self, row: Row) -> bool:
        """Insert the row unless one has its place; whether it got in."""
        self._execute(_INSERT, row.values)
        return self._cursor.rowcount == 1

    def has(self, row: Row) -> bool:
        """Whether the row in this one's place has the same reason."""
        self._execute(_HAS_REASON, (row.gid, row.branch_id, row.op, row.barrier_id, row.reason))
        # A row factory of the connection decides whether this is a tuple, a dict or a Row.
        found = self._cursor.fetchone()
        (count,) = found.values() if isinstance(found, dict) else found
        return bool(count)

    def _execute(self, statement: str, parameters: Sequence[str]) -> None:
        try:
            self._cursor.execute(statement.format(table=self._table), parameters)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise BarrierMissing(self._table, self._branch, SCHEMA_FILE) from error
            raise


def create_table(connection: sqlite3.Connection) -> None:
    """Create the table ``barrier`` unless it exists; commits whatever transaction is open."""
    connection.executescript((_FOLDER / "tables" / SCHEMA_FILE).read_text("utf-8"))


def _refuse_autocommit(connection: object) -> None:
    """In the autocommit mode of ``sqlite3`` the row would be committed alone, before the work."""
    if getattr(connection, "in_transaction", True):
        return
    # Python 3.12 has `autocommit`; its value -1 says that isolation_level decides, as before.
    autocommit = getattr(connection, "autocommit", -1)
    if autocommit is True or (autocommit == -1 and getattr(connection, "isolation_level", "") is None):
        raise NoLocalTransaction(
            "the connection is in autocommit mode and has no transaction open; execute BEGIN first, or connect with "
            "the default isolation_level"
        )
