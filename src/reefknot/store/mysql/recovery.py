"""Transactions of the database that are not collected in batches: leases, waking, retention.

Each function is the work of one transaction: it may run several times, the last one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from reefknot.store.base import NEVER_MS, Claimed
from reefknot.store.mysql.batches import Statements
from reefknot.store.mysql.rows import record_of
from reefknot.store.mysql.session import Session

Item = TypeVar("Item")

#: The column of ``find_due`` after those of a record.
_NOW = 20

#: This many ids stand in one statement.
_SLICE = 1_000


async def claim(session: Session, statements: Statements, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
    """Take over what is due and not leased."""
    prefix, values = statements.clock()
    sent = statements.time.sent()
    rows = await session.rows_second(prefix + statements.sql["find_due"], [*values, limit])
    if not rows:
        return ()
    now_ms: int = rows[0][_NOW]
    statements.time.replied(sent, now_ms)
    ids = [row[0] for row in rows]
    await session.execute(statements.listed("take", ids), [owner.encode(), lease_ms, lease_ms, *ids])
    branches = await statements.branches(session, ids)
    until = now_ms + lease_ms
    claimed = []
    for row in rows:
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
    await statements.start(session)
    kept: set[str] = set()
    for part in _slices(sorted((gid.encode(), epoch) for gid, epoch in set(held))):
        text, values = statements.many("find_held", part)
        found = await session.rows(text, [*values, owner.encode()])
        if ids := [row[1] for row in found]:
            await session.execute(statements.listed("renew", ids), [lease_ms, lease_ms, *ids])
        kept.update(row[0].decode() for row in found)
    return frozenset(kept)


async def release(session: Session, statements: Statements, owner: str) -> int:
    """Give up every lease of an owner."""
    await statements.start(session)
    ids = [row[0] for row in await session.rows(statements.sql["find_owned"], (owner.encode(),))]
    count = 0
    for part in _slices(sorted(ids)):
        count += await session.execute(statements.listed("release", part), [owner.encode(), *part])
    return count


async def wake(session: Session, statements: Statements, gids: Sequence[str]) -> int:
    """Make transactions due."""
    await statements.start(session)
    count = 0
    for part in _slices(sorted(gid.encode() for gid in set(gids))):
        count += await session.execute(statements.listed("wake", part), part)
    return count


async def wake_later(session: Session, statements: Statements, later_than_ms: int, limit: int) -> tuple[int, bool]:
    """Make due what is due later."""
    await statements.start(session)
    found = await session.rows(statements.sql["find_later"], (later_than_ms, limit + 1))
    count = 0
    for part in _slices([row[0] for row in found[:limit]]):
        count += await session.execute(statements.listed("wake_later", part), [later_than_ms, *part])
    return count, len(found) > limit


async def purge(session: Session, statements: Statements, older_than_ms: int, limit: int) -> int:
    """Delete some finished transactions with their branches, those that ended first."""
    await statements.start(session)
    last = await session.rows(statements.sql["find_last_old"], (older_than_ms, limit - 1))
    last_ms = last[0][0] if last else NEVER_MS
    found = await session.rows(statements.sql["find_old"], (older_than_ms, last_ms, limit))
    return await _delete(session, statements, [row[0] for row in found])


async def delete_some(session: Session, statements: Statements, limit: int) -> int:
    """Delete some transactions, whatever their status."""
    found = await session.rows(statements.sql["find_some"], (limit,))
    return await _delete(session, statements, [row[0] for row in found])


async def _delete(session: Session, statements: Statements, ids: list[int]) -> int:
    if ids:
        await session.execute(statements.listed("delete_branches", ids), ids)
        await session.execute(statements.listed("delete_transactions", ids), ids)
    return len(ids)


def _slices(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _SLICE] for start in range(0, len(items), _SLICE)]
