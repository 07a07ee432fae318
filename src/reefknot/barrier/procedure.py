"""What the barrier does to the table, step by step, without any database.

The steps are generators: they yield what to do next and are sent what came of it. So the sync and the
async barrier do the same, and neither decides anything.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from enum import Enum, auto

import msgspec

from reefknot.barrier.core import BarrierCollision, Branch, Reason, Row, asking_row, decide, rows
from reefknot.barrier.statements import Database


class Do(Enum):
    """What to do with a row."""

    INSERT = auto()
    READ = auto()


class Step(msgspec.Struct, frozen=True):
    """One statement for one row.

    The answer to INSERT is whether the row got in; the answer to READ is the row that has its place:
    gid, branch id, operation, number and reason, or None if there is none.
    """

    do: Do
    row: Row


#: The answer to a step.
Answer = bool | tuple[str, ...] | None
Steps = Generator[Step, Answer, Reason]


def passing(branch: Branch, call: int, table: str, database: Database) -> Steps:
    """Whether an operation may run.

    Args:
        branch: the operation.
        call: how often the handler has asked its barrier, from 1.
        table: the table's name, for errors.
        database: decides in which order the rows are inserted.

    Raises:
        Invalid: the barrier was asked too often in one call.
        BarrierCollision: a row that is not the operation's has its place.
    """
    planned = rows(branch, call)
    inserted: dict[Row, bool] = {}
    for row in _insert_order(planned, database):
        inserted[row] = bool((yield Step(Do.INSERT, row)))
    stored_reason = ""
    for row in planned:
        if not inserted[row]:
            stored_reason = yield from _reason_in_place_of(row, branch, table)
    return decide([inserted[row] for row in planned], own_reason=stored_reason == branch.op)


def asking(branch: Branch, table: str) -> Steps:
    """Whether a message's local transaction committed; if it did not by now, it never can.

    Returns:
        ``REPEATED`` if it committed, ``TOO_LATE`` if it cannot any more.
    """
    row = asking_row(branch)
    if (yield Step(Do.INSERT, row)):
        return Reason.TOO_LATE
    reason = yield from _reason_in_place_of(row, branch, table)
    return Reason.TOO_LATE if reason == row.reason else Reason.REPEATED


def _insert_order(planned: Sequence[Row], database: Database) -> Sequence[Row]:
    """The rows in the order in which concurrent calls of one branch cannot wait for each other in a circle.

    A call of MySQL that waits for a row also keeps others from inserting into the gap before that row
    in the index. In the index's order nobody inserts into the gap before a row it has asked for: so
    ``cancel``, whose row stands before that of ``try``, comes first there. Elsewhere any fixed order
    will do, and DTM's clients insert the origin's row first.
    """
    return sorted(planned, key=lambda row: row.key) if database is Database.MYSQL else planned


def _reason_in_place_of(row: Row, branch: Branch, table: str) -> Generator[Step, Answer, str]:
    """The reason of the row that kept this one out.

    Raises:
        BarrierCollision: that row belongs to another operation, or is gone.
    """
    stored = yield Step(Do.READ, row)
    found = stored if isinstance(stored, tuple) else ()
    if found[:-1] != row.key:
        raise BarrierCollision(table, branch, found)
    return found[-1]
