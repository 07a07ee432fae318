"""Transactions of the database that are not collected in batches: leases, waking, retention.

Each function is the work of one transaction: it may run several times, the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from reefknot.store.base import BranchRow, Claimed
from reefknot.store.mysql.batches import Locked, Statements
from reefknot.store.mysql.rows import branches_by_id, record_of
from reefknot.store.mysql.session import Row, Session

Item = TypeVar("Item")

#: The columns of ``find_due`` after those of a record.
_NOW, _FIRST_MS, _FIRST_ID = 20, 21, 22

#: A transaction that was committed late can be due before the place where claims start. So they start at
#: the beginning of the index again when that is so long ago, milliseconds, or when they find too few.
_REREAD_MS = 1_000

#: Every finished transaction ended at or after this time; 0 stands for those that are not finished.
_EVER_FINISHED = 1

#: This many ids stand in one statement.
_SLICE = 1_000


class _Start(NamedTuple):
    """A place in the index of what is due: nothing unfinished is before it, as was seen at ``read_ms``."""

    read_ms: int
    due_ms: int = 0
    id: int = 0


class Claims:
    """Takes over what is due, and remembers where in the index that starts.

    Args:
        statements: the named statements.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._start = _Start(0)

    async def claim(self, session: Session, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        """Take over what is due and not leased; a whole transaction with its commit."""
        asked_ms = self._statements.time.now_ms()
        start = self._start
        if not start.read_ms <= asked_ms < start.read_ms + _REREAD_MS:
            start = _Start(asked_ms)
        rows = await self._find(session, start, limit)
        if len(rows) < limit and start.due_ms:
            rows = await self._find(session, _Start(asked_ms), limit)
        self._start = _Start(asked_ms)
        if len(rows) == limit > 0:
            self._start = _Start(start.read_ms, rows[0][_FIRST_MS], rows[0][_FIRST_ID])
        if not rows:
            return ()
        now_ms: int = rows[0][_NOW]
        ids = [row[0] for row in rows]
        take = self._statements.listed("take", ids, owner.encode(), lease_ms, lease_ms)
        _, found = await session.script((take, self._statements.listed("get_branches", ids)), commit=True)
        branches = branches_by_id(found.rows)
        return tuple([_claimed(row, branches.get(row[0], ()), owner, now_ms, now_ms + lease_ms) for row in rows])

    async def _find(self, session: Session, start: _Start, limit: int) -> Sequence[Row]:
        sql = self._statements.sql
        first = (sql["find_first_due"], (start.due_ms, start.due_ms, start.id))
        _, due = await self._statements.start(session, first, (sql["find_due"], (limit,)))
        return due.rows


def _claimed(row: Row, branches: tuple[BranchRow, ...], owner: str, now_ms: int, until: int) -> Claimed:
    """What ``take`` makes of a row of ``find_due``."""
    record = record_of(
        (*row[:6], owner.encode(), row[7] + 1, row[8] + 1, until, until, *row[11:17], now_ms, *row[18:20]), branches
    )
    return Claimed(record, row[9] if row[6] else 0)


async def renew(
    session: Session, statements: Statements, owner: str, held: Sequence[tuple[str, int]], lease_ms: int
) -> frozenset[str]:
    """Extend leases; the gids that are still held."""
    epochs = {(gid.encode(), epoch) for gid, epoch in held}
    await statements.start(session)
    kept: set[str] = set()
    for part in _slices(sorted({gid for gid, _ in epochs})):
        rows = [Locked(row) for row in await session.rows(*statements.listed("lock", part))]
        mine = [row for row in rows if (row.gid, row.epoch) in epochs and row.owner == owner and not row.finished]
        if mine:
            await session.execute(*statements.listed("renew", [row.id for row in mine], lease_ms, lease_ms))
        kept.update(row.gid.decode() for row in mine)
    return frozenset(kept)


async def release(session: Session, statements: Statements, owner: str) -> int:
    """Give up every lease of an owner."""
    (owned,) = await statements.start(session, (statements.sql["find_owned"], (owner.encode(),)))
    count = 0
    for part in _slices(sorted(row[0] for row in owned.rows)):
        count += await session.execute(*statements.listed("release", part, owner.encode()))
    return count


async def wake(session: Session, statements: Statements, gids: Sequence[str]) -> int:
    """Make transactions due."""
    await statements.start(session)
    count = 0
    for part in _slices(sorted(gid.encode() for gid in set(gids))):
        count += await session.execute(*statements.listed("wake", part))
    return count


async def wake_later(session: Session, statements: Statements, later_than_ms: int, limit: int) -> tuple[int, bool]:
    """Make due what is due later."""
    (found,) = await statements.start(session, (statements.sql["find_later"], (later_than_ms, limit + 1)))
    count = 0
    for part in _slices([row[0] for row in found.rows[:limit]]):
        count += await session.execute(*statements.listed("wake_later", part, later_than_ms))
    return count, len(found.rows) > limit


class Purge:
    """Deletes what is finished, and remembers how far it came.

    Args:
        statements: the named statements.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._read_ms = 0
        self._finished_ms = _EVER_FINISHED

    async def some(self, session: Session, older_than_ms: int, limit: int) -> int:
        """Delete some finished transactions with their branches; a whole transaction with its commit."""
        read_ms, finished_ms = self._read_ms, self._finished_ms
        asked_ms = self._statements.time.now_ms()
        if not read_ms <= asked_ms < read_ms + _REREAD_MS:
            read_ms, finished_ms = asked_ms, _EVER_FINISHED
        rows = await self._find(session, finished_ms, older_than_ms, limit)
        if len(rows) < limit and finished_ms > _EVER_FINISHED:
            rows = await self._find(session, _EVER_FINISHED, older_than_ms, limit)
        enough = len(rows) == limit > 0
        self._read_ms, self._finished_ms = (read_ms, rows[-1][1]) if enough else (0, _EVER_FINISHED)
        return await _delete(session, self._statements, [row[0] for row in rows])

    async def _find(self, session: Session, finished_ms: int, older_than_ms: int, limit: int) -> Sequence[Row]:
        find = (self._statements.sql["find_old"], (finished_ms, older_than_ms, limit))
        (old,) = await self._statements.start(session, find)
        return old.rows


async def delete_some(session: Session, statements: Statements, limit: int) -> int:
    """Delete some transactions, whatever their status."""
    found = await session.rows(statements.sql["find_some"], (limit,))
    return await _delete(session, statements, [row[0] for row in found])


async def _delete(session: Session, statements: Statements, ids: list[int]) -> int:
    if ids:
        branches, transactions = (statements.listed(name, ids) for name in ("delete_branches", "delete_transactions"))
        await session.script((branches, transactions), commit=True)
    return len(ids)


def _slices(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _SLICE] for start in range(0, len(items), _SLICE)]
