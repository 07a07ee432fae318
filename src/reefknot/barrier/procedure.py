"""What the barrier does to the table, step by step, without any database.

The steps are generators: they yield what to do next and are sent what came of it. So the sync and the
async barrier do the same, and neither decides anything.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from enum import Enum, auto
from typing import TypeVar

import msgspec

from reefknot.barrier.core import BarrierCollision, Branch, Reason, Row, asking_row, decide, rows
from reefknot.barrier.statements import Database


class Do(Enum):
    """What to do with a row."""

    INSERT = auto()
    READ = auto()
    HOLD = auto()


class Step(msgspec.Struct, frozen=True):
    """One statement for one row.

    The answer to INSERT is whether the row got in; the answer to READ is the row that has its place:
    gid, branch id, operation, number and reason, or None if there is none. HOLD makes sure that the
    transaction may write, and has no answer.
    """

    do: Do
    row: Row


#: The answer to a step.
Answer = bool | tuple[str, ...] | None
Said = TypeVar("Said")
#: What is done step by step to come to an answer.
Steps = Generator[Step, Answer, Said]


def passing(branch: Branch, call: int, table: str, database: Database) -> Steps[Reason]:
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


def numbering(branch: Branch, asked: int, here: Sequence[int]) -> Steps[int]:
    """The number of the next call: one more, or again that of the first call that was rolled back.

    A handler that begins a transaction again asks the same barrier again; with a number of its own, the work
    would not be known when the server repeats or undoes the call.

    Args:
        branch: the operation.
        asked: how often the handler has asked its barrier so far.
        here: the numbers of the calls whose rows would be in this database, in their order.
    """
    number = asked + 1
    if here:
        yield Step(Do.HOLD, rows(branch, here[-1])[-1])
    for call in reversed(here):
        if (yield Step(Do.READ, rows(branch, call)[-1])):
            break
        number = call
    return number


def asking(branch: Branch, table: str) -> Steps[Reason]:
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


def _reason_in_place_of(row: Row, branch: Branch, table: str) -> Steps[str]:
    """The reason of the row that kept this one out.

    Raises:
        BarrierCollision: that row belongs to another operation, or is gone.
    """
    stored = yield Step(Do.READ, row)
    found = stored if isinstance(stored, tuple) else ()
    if found[:-1] != row.key:
        raise BarrierCollision(table, branch, found)
    return found[-1]
