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
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Self

import msgspec

from reefknot.errors import Invalid, ReefknotError
from reefknot.model import Op

#: The operation that an operation undoes.
ORIGINS = {Op.CANCEL: "try", Op.COMPENSATE: Op.ACTION, Op.ROLLBACK: Op.ACTION}
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


class BarrierMissing(ReefknotError):
    """The barrier's table does not exist in this database."""

    def __init__(self, table: str, branch: Branch, schema: str) -> None:
        super().__init__(
            f"table {table} does not exist in this database; "
            f"needed by: {branch.trans_type} {branch.gid} branch {branch.branch_id} op {branch.op}; "
            f"create it with the statements of reefknot/barrier/tables/{schema}"
        )


class NoLocalTransaction(ReefknotError):
    """The connection commits every statement at once, so the barrier could not protect anything."""


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
        return cls(**{name: _checked(name, query.get(name, "")) for name in COLUMN_LENGTHS})

    @property
    def origin(self) -> str:
        """The operation that this one undoes; empty if it undoes none."""
        return ORIGINS.get(Op(self.op), "") if self.op in ORIGINS else ""


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


def _checked(name: str, value: str) -> str:
    if not value:
        raise Invalid(name, "is missing in the query", "the server appends it to every branch call")
    if len(value) > (most := COLUMN_LENGTHS[name]):
        raise Invalid(name, f"is {len(value)} characters long", f"the barrier's column holds {most}")
    if _UNFIT.search(value):
        raise Invalid(name, "contains a control character or ';'", "DTM's clients delete these: choose another")
    return value
