"""The rule of the barrier, without any database.

Theory of operation. Each operation inserts a row for itself; an operation that undoes another
one first inserts the row of the other, as if that had run. The unique key decides:

* the undoing operation got the other's row in: the other never took effect here, so there is
  nothing to undo, and if it arrives later its own row is in the way;
* an operation did not get its own row in: it ran before (the row names the operation itself) or
  was undone before it arrived (the row names the undoing operation);
* otherwise it is the first and may run.

All rows and the business's changes commit together or not at all. The rows are those of DTM's
clients, so that programs in several languages share one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

import msgspec

from reefknot.errors import BarrierMissing, Failure, Invalid, ReefknotError
from reefknot.model import Op

#: The operation that an operation undoes.
ORIGINS: Mapping[str, str] = {Op.CANCEL: "try", Op.COMPENSATE: Op.ACTION, Op.ROLLBACK: Op.ACTION}
#: The widths of the table's columns, in characters.
COLUMN_LENGTHS = {"trans_type": 45, "gid": 128, "branch_id": 128, "op": 45}
#: Where a message leaves its row: the branch, the operation and the number of the call.
MESSAGE_BRANCH = "00"
FIRST_CALL = 1
#: What stands as reason in the row of a message that can no longer commit.
BLOCKED = "rollback"
MOST_CALLS = 99

_UNFIT = re.compile(r"[\x00-\x1f\x7f;]")
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")


class NoLocalTransaction(ReefknotError):
    """The connection commits every statement at once, so the barrier could not protect anything."""

    code = "RK212"


class LocalTransactionOpen(ReefknotError):
    """The connection is inside a transaction already, where one of the barrier's own is needed."""

    code = "RK213"


class BarrierCollision(ReefknotError):
    """The table takes this operation's row for that of another one: its columns compare too generously.

    Args:
        table: its name.
        branch: the operation.
        stored: what has its place: gid, branch id, operation, number and reason; empty if nothing has.
    """

    code = "RK214"

    def __init__(self, table: str, branch: Branch, stored: Sequence[object]) -> None:
        super().__init__(
            f"table {table} keeps the row of {branch} out and does not have it either; in its place: {tuple(stored)}",
            gid=branch.gid,
            branch_id=branch.branch_id,
            advice=f"nothing was done; reefknot barrier check --table {table} says what to change",
        )


class TransactionLost(ReefknotError):
    """The work ended or broke the transaction that the barrier's row is in, so the two cannot be committed together."""

    code = "RK216"


def missing(table: str, branch: Branch, database: str) -> BarrierMissing:
    """The error for a table that does not exist.

    Args:
        table: its name, with its schema if it has one.
        branch: the operation that asked for it.
        database: ``sqlite``, ``postgres`` or ``mysql``: what the table can be printed for.
    """
    return BarrierMissing(
        f"table {table} does not exist in this database; needed by {branch}",
        gid=branch.gid,
        branch_id=branch.branch_id,
        advice=f"create it; the statements: reefknot barrier sql --db {database} --table {table}",
    )


def asking_failed(branch: Branch) -> Failure:
    """The answer to a check-back of a message whose local transaction did not commit and never can."""
    return Failure(f"the local transaction of {branch.gid} did not commit and cannot any more")


class Reason(StrEnum):
    """Why an operation may run, or need not."""

    RUN = "run"
    REPEATED = "repeated"
    NOTHING_TO_UNDO = "nothing to undo"
    TOO_LATE = "too late"


class Branch(msgspec.Struct, frozen=True):
    """Which operation of which branch of which transaction a call is about."""

    trans_type: str
    gid: str
    branch_id: str
    op: str

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Read it from the query parameters that the server appends to a branch's URL.

        Args:
            query: has ``trans_type``, ``gid``, ``branch_id`` and ``op``; others are ignored.

        Raises:
            Invalid: one is missing, longer than its column, or has a character that some client
                of DTM deletes. Nothing is ever truncated: two long gids must not become one.
        """
        return cls(**{name: _checked(name, query.get(name, ""), "query") for name in COLUMN_LENGTHS})

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:
        """Read it from the metadata that the server sends with a branch call over gRPC.

        Args:
            metadata: has ``dtm-trans_type``, ``dtm-gid``, ``dtm-branch_id`` and ``dtm-op``; a mapping or
                pairs, as ``context.invocation_metadata()`` gives them. Others are ignored.

        Raises:
            Invalid: as ``from_query``.
        """
        pairs = dict(metadata)
        return cls(**{name: _checked(name, _text(pairs.get(f"dtm-{name}")), "metadata") for name in COLUMN_LENGTHS})

    @classmethod
    def checked(cls, trans_type: str, gid: str, branch_id: str, op: str) -> Self:
        """The operation that these name.

        Raises:
            Invalid: as ``from_query``.
        """
        parts = {"trans_type": trans_type, "gid": gid, "branch_id": branch_id, "op": op}
        return cls(**{name: _checked(name, value, "arguments") for name, value in parts.items()})

    def __str__(self) -> str:
        return f"{self.trans_type} {self.gid}, branch {self.branch_id}, op {self.op}"

    @property
    def origin(self) -> str:
        """The operation that this one undoes; empty if it undoes none."""
        return ORIGINS.get(self.op, "")


class Row(msgspec.Struct, frozen=True):
    """One row of the barrier's table."""

    trans_type: str
    gid: str
    branch_id: str
    op: str
    barrier_id: str
    reason: str

    @property
    def values(self) -> tuple[str, ...]:
        """The columns in the order of this class, as a statement's parameters."""
        return msgspec.structs.astuple(self)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that only one row can have, in the order of the table's unique key."""
        return self.gid, self.branch_id, self.op, self.barrier_id


def rows(branch: Branch, call: int) -> tuple[Row, ...]:
    """The rows to insert, in this order; the last one is the operation's own.

    Args:
        branch: the operation.
        call: how often the handler has asked its barrier, from 1.

    Raises:
        Invalid: more calls than the two digits of the column can number.
    """
    if not FIRST_CALL <= call <= MOST_CALLS:
        raise Invalid("barrier", f"was asked {call} times in one call", f"ask it at most {MOST_CALLS} times")
    return tuple(_row(branch, op, call, branch.op) for op in (branch.origin, branch.op) if op)


def asking_row(branch: Branch) -> Row:
    """The row by which a check-back asks whether the message's local transaction committed.

    If it gets in, the local transaction has not committed and now never can.
    """
    return _row(msgspec.structs.replace(branch, branch_id=MESSAGE_BRANCH), Op.MSG, FIRST_CALL, BLOCKED)


def decide(inserted: Sequence[bool], *, own_reason: bool) -> Reason:
    """Whether the operation may run.

    Args:
        inserted: for each of ``rows``, whether it got in.
        own_reason: whether the row that now stands in the last one's place names the operation
            itself as its reason.
    """
    *origin, own = inserted
    if any(origin):
        return Reason.NOTHING_TO_UNDO
    if own:
        return Reason.RUN
    return Reason.REPEATED if own_reason else Reason.TOO_LATE


def checked_table(table: str) -> str:
    """The name, if it can stand in a statement as it is.

    Raises:
        Invalid: it is not ``name`` or ``schema.name`` of plain letters, digits and underscores.
    """
    if not _TABLE.fullmatch(table):
        raise Invalid("table", f"{table!r} is no table name", "use letters, digits, '_' and one '.'")
    return table


def _row(branch: Branch, op: str, call: int, reason: str) -> Row:
    return Row(branch.trans_type, branch.gid, branch.branch_id, op, f"{call:02d}", reason)


def _text(value: object) -> str:
    """A value of gRPC metadata as text; a key may hold bytes or be missing."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _checked(name: str, value: str, place: str) -> str:
    if not value:
        raise Invalid(name, f"is missing in the {place}", "the server appends it to every branch call")
    if len(value) > (most := COLUMN_LENGTHS[name]):
        raise Invalid(name, f"is {len(value)} characters long", f"the barrier's column holds {most}")
    if _UNFIT.search(value):
        raise Invalid(name, "contains a control character or ';'", "DTM's clients delete these: choose another")
    return value
