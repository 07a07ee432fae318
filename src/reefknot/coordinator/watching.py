"""Looking on until a transaction ends: notices of this node's drives, and the store for those of other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from reefknot.coordinator.drive import End
from reefknot.coordinator.waiting import Waiting
from reefknot.errors import NotFound, Unavailable
from reefknot.store.base import Record, Store

#: How often the store is asked whether another node has gone on with the transaction.
LOOK_SECONDS = 1.0


class Watching:
    """Who waits for a transaction that perhaps another node drives.

    Args:
        waiting: tells of the drives that end on this node.
    """

    def __init__(self, store: Store, waiting: Waiting) -> None:
        self._store = store
        self._waiting = waiting
        self._onlookers: set[asyncio.Future[End]] = set()
        self._stopping = False

    def stop(self) -> None:
        """The server stops: ``finished`` and ``changes`` return now. Who started a drive still waits for its end."""
        self._stopping = True
        for future in self._onlookers:
            future.cancel()

    async def end(self, gid: str, future: asyncio.Future[End], seconds: float) -> End | None:
        """The end of the drive that was started, or None after so many seconds."""
        left = seconds
        while left > 0:
            pause = min(left, LOOK_SECONDS)
            await asyncio.wait((future,), timeout=pause)
            if future.done():
                return future.result()
            left -= pause
            found = await self._store.get(gid)
            if found is not None and found.status.final:
                return End(found.status, found.reason)
        return None

    async def finished(self, gid: str, seconds: float) -> Record:
        """The record once its status is final, or as it is after so many seconds or when the server stops.

        Raises:
            NotFound: there is no such gid.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            with self._waiting.join(gid) as future:
                found = await self._record(gid)
                left = until - loop.time()
                if found.status.final or left <= 0 or self._stopping:
                    return found
                await self._pause(future, left)

    async def changes(self, gid: str) -> AsyncIterator[Record]:
        """The record now, and again after each change that is seen, until its status is final.

        Raises:
            NotFound: there is no such gid.
            Unavailable: the server stops.
        """
        seen: Record | None = None
        while True:
            with self._waiting.join(gid) as future:
                found = await self._record(gid)
                content = _without_lease(found)
                if content != seen:
                    yield found
                    seen = content
                if found.status.final:
                    return
                if self._stopping:
                    raise Unavailable("the server is stopping")
                await self._pause(future, LOOK_SECONDS)

    async def _pause(self, future: asyncio.Future[End], most_seconds: float) -> None:
        self._onlookers.add(future)
        try:
            await asyncio.wait((future,), timeout=min(most_seconds, LOOK_SECONDS))
        finally:
            self._onlookers.discard(future)

    async def _record(self, gid: str) -> Record:
        found = await self._store.get(gid)
        if found is None:
            raise NotFound(f"no TransGlobal with gid: {gid} found")
        return found


def _without_lease(record: Record) -> Record:
    """What can be seen of a record: that its driver is still there changes nothing."""
    return msgspec.structs.replace(record, lease_until_ms=0, due_ms=0, updated_ms=0, epoch=0, version=0)
