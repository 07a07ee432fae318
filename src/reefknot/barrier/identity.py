"""What the sync and the async barrier have in common: which operation they are asked about."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgspec

from reefknot.barrier.core import Branch, LocalTransactionOpen, Reason, asking_failed, checked_table
from reefknot.barrier.statements import DEFAULT_TABLES, Database
from reefknot.model import Op


class Place(msgspec.Struct, frozen=True):
    """Where a number of the barrier was used.

    Args:
        connection: gives the connection, or None if that is gone.
        address: of its database; None if that cannot be told.
    """

    connection: Callable[[], object]
    address: object

    @classmethod
    def of(cls, connection: object, address: object) -> Self:
        """The place of a connection, which is not kept alive for this where that can be helped."""
        try:
            return cls(weakref.ref(connection), address)
        except TypeError:
            return cls(lambda: connection, address)

    def has(self, other: Place) -> bool:
        """Whether the other is known to be on the same database."""
        if self.address is not None and other.address is not None:
            return bool(self.address == other.address)
        return self.connection() is other.connection() is not None


#: In Redis there is nothing to roll back.
REDIS = Place(lambda: None, None)


class BranchCall:
    """One call of one branch operation.

    Args:
        trans_type: the transaction's mode on the wire: saga, tcc, msg, xa or workflow.
        gid: the transaction.
        branch_id: the branch, for example ``01``.
        op: the operation, for example ``action``.
        table: the barrier's table; if empty, ``dtm_barrier.barrier``, and ``barrier`` on SQLite.

    Raises:
        Invalid: one of them is missing, longer than its column or has a character that some client of
            DTM deletes; or the table's name cannot stand in a statement.
    """

    def __init__(self, trans_type: str, gid: str, branch_id: str, op: str, *, table: str = "") -> None:
        self.branch: Branch = Branch.checked(trans_type, gid, branch_id, op)
        #: What the barrier said last; None before it was asked.
        self.reason: Reason | None = None
        self._table = checked_table(table) if table else ""
        # Where each number was used, from the first.
        self._used: list[Place] = []

    @classmethod
    def from_query(cls, query: Mapping[str, str], *, table: str = "") -> Self:
        """The barrier of a call over HTTP.

        Args:
            query: the query parameters that the server appends to a branch's URL: ``trans_type``, ``gid``,
                ``branch_id`` and ``op``. Any mapping of a web framework will do.
            table: as for the class.

        Raises:
            Invalid: one is missing or unfit.
        """
        return cls._of(Branch.from_query(query), table)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | Iterable[tuple[str, Any]], *, table: str = "") -> Self:
        """The barrier of a call over gRPC.

        Args:
            metadata: ``context.invocation_metadata()``, which has ``dtm-gid`` and the others.
            table: as for the class.

        Raises:
            Invalid: one is missing or unfit.
        """
        return cls._of(Branch.from_metadata(metadata), table)

    @classmethod
    def _of(cls, branch: Branch, table: str) -> Self:
        return cls(branch.trans_type, branch.gid, branch.branch_id, branch.op, table=table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.branch}: {self.reason or 'not asked yet'}>"

    def _table_of(self, database: Database) -> str:
        return self._table or DEFAULT_TABLES[database]

    def _note(self, reason: Reason) -> None:
        """Note an answer to the server's question, which is no call of the operation."""
        self.reason = reason

    @property
    def _next(self) -> int:
        """The number of the next call."""
        return len(self._used) + 1

    def _numbers_at(self, place: Place) -> list[int]:
        """The numbers that were used on the same database."""
        return [number for number, used in enumerate(self._used, 1) if used.has(place)]

    def _begin_at(self, number: int, place: Place, inside: Callable[[Any], bool]) -> None:
        """Go back to a number whose row was rolled back, if that is so.

        Args:
            number: of the next call.
            place: where that is.
            inside: whether a connection is inside a transaction.

        Raises:
            LocalTransactionOpen: the row may be in the open transaction of another connection.
        """
        for used in self._used[number - 1 :]:
            other = used.connection()
            if used.has(place) and other is not None and other is not place.connection() and inside(other):
                raise LocalTransactionOpen(
                    "this barrier was asked on another connection to the same database, which is still inside a "
                    "transaction, and its row cannot be seen here",
                    gid=self.branch.gid,
                    branch_id=self.branch.branch_id,
                    advice="ask it in one transaction after the other, and make a new barrier for each attempt",
                )
        del self._used[number - 1 :]

    def _said(self, reason: Reason, place: Place) -> bool:
        """Note an answer; whether the operation runs."""
        self._used.append(place)
        self.reason = reason
        return reason is Reason.RUN

    def _take_back(self) -> None:
        """Give the number of the last call back: its row was rolled back, or must be found if it was not."""
        self._used.pop()

    def _refuse_late_message(self) -> None:
        """Refuse a message whose local work was declared dead by the server's question: it must not be sent.

        Raises:
            Failure: it was, and the next call is told the same.
        """
        if self.branch.op == Op.MSG and self.reason is Reason.TOO_LATE:
            self._take_back()
            raise asking_failed(self.branch)
