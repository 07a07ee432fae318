"""Creates and reports of many callers, each kind in one statement per batch.

A lane is a connection of its own and a queue in front of it (see ``groupcommit``). The rows of a
batch are sorted by gid, so that the batches of two nodes never wait for each other in a circle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reefknot.failpoints import Failpoints
from reefknot.store.base import Created, NewTransaction, Write
from reefknot.store.groupcommit import GroupCommit
from reefknot.store.postgres.connections import Connections, Connector
from reefknot.store.postgres.rows import booleans, from_text, numbers, to_text
from reefknot.store.server_time import StoreTime


class CreateLane:
    """Inserts transactions that do not exist.

    Args:
        connector: opens the lane's connection.
        statement: the SQL that inserts many.
        time: the store's time.
        failpoints: those of ``GroupCommit``.
    """

    def __init__(self, connector: Connector, statement: str, time: StoreTime, failpoints: Failpoints) -> None:
        self._connections = Connections(connector, 1)
        self._statement = statement
        self._time = time
        self._group: GroupCommit[NewTransaction, Created | None] = GroupCommit(self._execute, failpoints=failpoints)

    def submit(self, new: NewTransaction) -> asyncio.Future[Created | None]:
        """Queue a transaction; the result is None if its gid exists."""
        return self._group.submit(new)

    async def close(self) -> None:
        """Finish what is queued and close the connection."""
        await self._group.close()
        await self._connections.close()

    async def _execute(self, batch: Sequence[NewTransaction]) -> list[Created | None]:
        first: dict[str, int] = {}
        for place, new in enumerate(batch):
            first.setdefault(new.gid, place)
        rows = []
        for gid in sorted(first):
            new = batch[first[gid]]
            leased = bool(new.owner) and new.lease_ms > 0 and not new.status.final
            rows.append(
                (
                    *(to_text(gid), to_text(new.mode), new.status, new.body, new.request_hash),
                    *(to_text(new.owner) if leased else "", new.lease_ms if leased else 0, new.due_in_ms),
                    new.status.final,
                )
            )
        *columns, lease_ms, due_in_ms, final = zip(*rows, strict=True)
        rest = (numbers(lease_ms), numbers(due_in_ms), booleans(final))
        sent = self._time.sent()
        found = await self._connections.fetch(self._statement, self._time.given, *columns, *rest)
        results: list[Created | None] = [None] * len(batch)
        for gid, row_id, created_ms in found:
            results[first[from_text(gid)]] = Created(row_id, created_ms)
        if found:
            self._time.replied(sent, found[0][2])
        return results


class WriteLane:
    """Applies drivers' reports whose fence still holds.

    Args:
        connector: opens the lane's connection.
        statement: the SQL that updates many, each gid at most once.
        time: the store's time.
        failpoints: those of ``GroupCommit``.
    """

    def __init__(self, connector: Connector, statement: str, time: StoreTime, failpoints: Failpoints) -> None:
        self._connections = Connections(connector, 1)
        self._statement = statement
        self._time = time
        self._group: GroupCommit[Write, bool] = GroupCommit(self._execute, failpoints=failpoints)

    def submit(self, write: Write) -> asyncio.Future[bool]:
        """Queue a report; the result says whether it was accepted."""
        return self._group.submit(write)

    async def close(self) -> None:
        """Finish what is queued and close the connection."""
        await self._group.close()
        await self._connections.close()

    async def _execute(self, batch: Sequence[Write]) -> list[bool]:
        rounds = _rounds(batch)
        given = self._time.given
        commands = [(self._statement, (given, *_columns([batch[place] for place in places]))) for places in rounds]
        sent = self._time.sent()
        found = await self._connections.transaction(commands)
        results = [False] * len(batch)
        for places, rows_found in zip(rounds, found, strict=True):
            accepted = {from_text(gid) for gid, _ in rows_found}
            for place in places:
                results[place] = batch[place].gid in accepted
        if found[-1]:
            self._time.replied(sent, found[-1][0][1])
        return results


def _rounds(batch: Sequence[Write]) -> list[list[int]]:
    """The places of a batch in as few rounds as possible, each gid once a round and in order."""
    rounds: list[list[int]] = []
    seen: dict[str, int] = {}
    for place, write in enumerate(batch):
        turn = seen.get(write.gid, 0)
        seen[write.gid] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(place)
    for places in rounds:
        places.sort(key=lambda place: batch[place].gid)
    return rounds


def _columns(writes: Sequence[Write]) -> tuple[object, ...]:
    """The parameters of many reports: an array per column."""
    final = [write.status.final for write in writes]
    leased = [write.lease_ms > 0 and not write.status.final for write in writes]
    owners = [to_text(write.owner) for write in writes]
    return (
        [to_text(write.gid) for write in writes],
        owners,
        numbers(write.epoch for write in writes),
        [write.expect for write in writes],
        [write.status for write in writes],
        [write.progress for write in writes],
        [owner if kept else "" for owner, kept in zip(owners, leased, strict=True)],
        numbers(write.lease_ms if kept else 0 for write, kept in zip(writes, leased, strict=True)),
        numbers(-1 if ended else write.due_in_ms for write, ended in zip(writes, final, strict=True)),
        numbers(write.attempts for write in writes),
        [to_text(write.parked) for write in writes],
        [to_text(write.reason) for write in writes],
        booleans(final),
        numbers(write.version for write in writes),
    )
