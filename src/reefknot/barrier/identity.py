"""What the sync and the async barrier have in common: which operation they are asked about."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgspec

from reefknot.barrier.core import Branch, LocalTransactionOpen, Reason, asking_failed, checked_table
from reefknot.barrier.statements import DEFAULT_TABLES, Database
from reefknot.errors import Invalid
from reefknot.model import Op

#: The barrier's column has two digits.
MOST_PARTS = 99


class Place(msgspec.Struct, frozen=True):
    """Where the barrier was asked.

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

    def same(self, other: Place) -> bool | None:
        """Whether the other is on the same database; None if that cannot be told."""
        if self.address is not None and other.address is not None:
            return bool(self.address == other.address)
        return True if self.connection() is other.connection() is not None else None


class Asked(msgspec.Struct, frozen=True):
    """A question whose transaction may be committed, rolled back or still open.

    Args:
        number: of its row.
        place: where that was written.
        ran: whether the answer was to do the work.
    """

    number: int
    place: Place
    ran: bool


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
        # The last number that was counted here, and those that were given as parts.
        self._last = 0
        self._parts: set[int] = set()
        # The last question in each database, where it is not known here how its transaction ended.
        self._open: list[Asked] = []
        # Where the numbers are counted: the database of the last ``call``, or the Redis of the last script.
        self._counted: Place | None = None

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

    def _number(self, part: int | None) -> int:
        """The number of the next row: that of the part, or of a question that may have been rolled back.

        Raises:
            Invalid: the part is no number from 1 to 99, or is missing where others have one.
        """
        if part is not None:
            if part not in range(1, MOST_PARTS + 1):
                raise Invalid("part", f"is {part!r}", f"number the pieces of work from 1 to {MOST_PARTS}")
            return part
        number = self._open[-1].number if self._open else self._last + 1
        if number in self._parts:
            raise Invalid("part", "is missing: this handler gives its pieces of work numbers", "give one each time")
        return number

    def _refuse_elsewhere(self, place: Place, *, counting: bool) -> None:
        """Refuse to go on in another database with numbers that are counted in one.

        In another order, an undo would look for the numbers in the wrong databases and find nothing to undo.

        Args:
            place: where the barrier is asked now.
            counting: whether a number is counted there, as ``call`` and the scripts of Redis do.

        Raises:
            Invalid: the barrier counts elsewhere; or it is to count here and was asked elsewhere.
        """
        others = [earlier.place for earlier in self._open] if counting else []
        if self._counted is not None:
            others.append(self._counted)
        if not all(other.same(place) for other in others):
            raise Invalid(
                "part",
                f"is missing: branch {self.branch.branch_id} of {self.branch.gid} has asked this barrier in another "
                "database or Redis, as far as the connections tell",
                "name each piece of work, by the same number in the operation that undoes it: part=1, part=2",
            )

    def _refuse_another(self, place: Place, inside: Callable[[Any], bool]) -> None:
        """Refuse to wait for a row that another connection of this program has not committed.

        Raises:
            LocalTransactionOpen: it is inside its transaction still.
        """
        for earlier in self._open:
            other = earlier.place.connection()
            if other is None or other is place.connection() or not earlier.place.same(place):
                continue
            if inside(other):
                raise LocalTransactionOpen(
                    "this barrier was asked on another connection to the same database, which is still inside a "
                    "transaction, and its row cannot be seen here",
                    gid=self.branch.gid,
                    branch_id=self.branch.branch_id,
                    advice="finish that one first; a second piece of work has a number: passes(connection, part=2)",
                )

    def _said_of_part(self, part: int, reason: Reason) -> bool:
        """Note the answer for a part; whether it runs."""
        self._parts.add(part)
        self.reason = reason
        return reason is Reason.RUN

    def _number_in_redis(self, place: Place, part: int | None) -> int:
        """The number of the next script.

        Raises:
            Invalid: as ``_refuse_elsewhere`` and ``_number``.
        """
        if part is None:
            self._refuse_elsewhere(place, counting=True)
        return self._number(part)

    def _said_by_redis(self, place: Place, part: int | None, reason: Reason) -> bool:
        """Note an answer that nothing takes back; whether the operation runs."""
        if part is not None:
            return self._said_of_part(part, reason)
        self._last += 1
        self._counted = place
        self.reason = reason
        return reason is Reason.RUN

    def _said_in(self, place: Place, number: int, reason: Reason) -> bool:
        """Note an answer in a transaction that is not ended yet; whether the operation runs.

        Raises:
            Invalid: the row is there, and nobody can say whether by this handler, for which this is another
                piece of work then, or by a copy of the call that came in between, after a rollback.
        """
        ran = any(earlier.ran and earlier.place.same(place) is not False for earlier in self._open)
        if ran and reason is Reason.REPEATED:
            raise Invalid(
                "part",
                f"is missing: branch {self.branch.branch_id} of {self.branch.gid} has asked this barrier before, and "
                "its row is there",
                "number a second piece of work, passes(connection, part=2); for another attempt make a new barrier",
            )
        self._forget(place)
        self._open.append(Asked(number, place, reason is Reason.RUN))
        # What follows in this attempt has the numbers that it had in the last one.
        self._last = number
        self.reason = reason
        return reason is Reason.RUN

    def _settled(self, part: int | None) -> None:
        """The transaction of the last question is committed."""
        if part is None:
            self._counted = self._open[-1].place
            self._forget(self._counted)

    def _take_back(self, part: int | None) -> None:
        """Give the number of the last question back: its row was rolled back, or must be found if it was not."""
        if part is None:
            self._last -= 1
            if self._open:
                self._forget(self._open[-1].place)

    def _forget(self, place: Place) -> None:
        self._open = [earlier for earlier in self._open if not earlier.place.same(place)]

    def _refuse_late_message(self, part: int | None = None) -> None:
        """Refuse a message whose local work was declared dead by the server's question: it must not be sent.

        Raises:
            Failure: it was, and the next call is told the same.
        """
        if self.branch.op == Op.MSG and self.reason is Reason.TOO_LATE:
            self._take_back(part)
            raise asking_failed(self.branch)
