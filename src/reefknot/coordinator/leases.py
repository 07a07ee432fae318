"""Keeps the leases of long drives alive, and stops drives that lost theirs.

A drive whose calls are short never needs this: each of its writes extends the lease. One
statement for the node renews the rest. A drive that cannot be renewed is cancelled, so that it
starts no further call; its deadline has stopped it anyway if the store is out of reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from reefknot.clock import Clock
from reefknot.coordinator.drive import Drive
from reefknot.coordinator.settings import Settings
from reefknot.failpoints import Failpoints
from reefknot.store.base import Store


class Leases:
    """The drives of this node."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, owner: str, failpoints: Failpoints) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._fail = failpoints
        self._drives: dict[str, Drive] = {}

    @property
    def drives(self) -> Iterable[Drive]:
        """What this node drives now."""
        return self._drives.values()

    def __len__(self) -> int:
        return len(self._drives)

    def deadline(self) -> float:
        """Until when a lease that is asked for now may be used, on the monotonic clock."""
        return self._clock.monotonic() + self._settings.lease_seconds - self._settings.lease_margin_seconds

    @property
    def lease_ms(self) -> int:
        """The length of a lease in milliseconds."""
        return round(self._settings.lease_seconds * 1000)

    def get(self, gid: str) -> Drive | None:
        """The drive of a gid, if this node has one."""
        return self._drives.get(gid)

    def add(self, drive: Drive) -> None:
        """Take a drive into care; an older one of the same gid has lost its lease and is stopped."""
        older = self._drives.get(drive.gid)
        if older is not None:
            stop(older)
        self._drives[drive.gid] = drive

    def remove(self, drive: Drive) -> None:
        """The drive has ended."""
        if self._drives.get(drive.gid) is drive:
            del self._drives[drive.gid]

    def drop(self, gid: str) -> None:
        """Somebody decided from outside: stop the local driver now instead of at its next write."""
        if drive := self._drives.pop(gid, None):
            stop(drive)

    async def stop_all(self) -> None:
        """The server stops: cancel every drive; each gives its transaction up and says what it had sent."""
        tasks = []
        for drive in list(self._drives.values()):
            drive.stopping = True
            stop(drive)
            if drive.task is not None:
                tasks.append(drive.task)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def renew(self) -> None:
        """Extend every lease that has been running for a while; stop the drives that lost theirs.

        Raises:
            StoreUnavailable: nothing is known; the drives stop at their deadlines.
        """
        fresh_until = self.deadline() - self._settings.renew_seconds
        aging = [drive for drive in self._drives.values() if drive.deadline < fresh_until]
        if not aging:
            return
        if self._fail.armed:
            await self._fail.hit("renew.before")
        deadline = self.deadline()
        held = tuple((drive.gid, drive.epoch) for drive in aging)
        kept = await self._store.renew(self._owner, held, self.lease_ms)
        if self._fail.armed:
            await self._fail.hit("renew.after")
        for drive in aging:
            if drive.gid in kept:
                drive.deadline = max(drive.deadline, deadline)
            elif self._drives.get(drive.gid) is drive:
                self.drop(drive.gid)


def stop(drive: Drive) -> None:
    """End a drive that may no longer act."""
    if drive.task is not None:
        drive.task.cancel()
