"""Transactions of the database that are not collected in batches: leases, waking, retention.

Each function is the work of one transaction: it may run several times, the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from reefknot.store.base import NEVER_MS, Claimed
from reefknot.store.mysql.batches import Locked, Statements
from reefknot.store.mysql.rows import branches_by_id, record_of
from reefknot.store.mysql.session import Session

Item = TypeVar("Item")

#: The column of ``find_due`` after those of a record.
_NOW = 20

#: This many ids stand in one statement.
_SLICE = 1_000


async def claim(session: Session, statements: Statements, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
    """Take over what is due and not leased."""
    (due,) = await statements.start(session, (statements.sql["find_due"], (limit,)))
    if not due.rows:
        return ()
    now_ms: int = due.rows[0][_NOW]
    ids = [row[0] for row in due.rows]
    take = statements.listed("take", ids, owner.encode(), lease_ms, lease_ms)
    _, found = await session.script((take, statements.listed("get_branches", ids)))
    branches = branches_by_id(found.rows)
    until = now_ms + lease_ms
    claimed = []
    for row in due.rows:
        old = record_of(row, branches.get(row[0], ()))
        taken = replace(
            old,
            owner=owner,
            epoch=old.epoch + 1,
            version=old.version + 1,
            lease_until_ms=until,
            due_ms=until,
            updated_ms=now_ms,
        )
        claimed.append(Claimed(taken, old.lease_until_ms if old.owner else 0))
    return tuple(claimed)


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


async def purge(session: Session, statements: Statements, older_than_ms: int, limit: int) -> int:
    """Delete some finished transactions with their branches, those that ended first."""
    (last,) = await statements.start(session, (statements.sql["find_last_old"], (older_than_ms, limit - 1)))
    last_ms = last.rows[0][0] if last.rows else NEVER_MS
    found = await session.rows(statements.sql["find_old"], (older_than_ms, last_ms, limit))
    return await _delete(session, statements, [row[0] for row in found])


async def delete_some(session: Session, statements: Statements, limit: int) -> int:
    """Delete some transactions, whatever their status."""
    found = await session.rows(statements.sql["find_some"], (limit,))
    return await _delete(session, statements, [row[0] for row in found])


async def _delete(session: Session, statements: Statements, ids: list[int]) -> int:
    if ids:
        await session.script((statements.listed("delete_branches", ids), statements.listed("delete_transactions", ids)))
    return len(ids)


def _slices(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _SLICE] for start in range(0, len(items), _SLICE)]
