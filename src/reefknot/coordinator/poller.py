"""Finds transactions that are due and drives them, many at once.

Every node polls; the store hands out disjoint sets. A full batch is followed by the next claim at
once, and no more is claimed than there are free slots, so a backlog drains as fast as the
participants allow and a slow one only fills its own slots.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from reefknot.clock import Clock
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.settings import Settings
from reefknot.coordinator.tasks import Spawn
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.observe import Observer
from reefknot.store.base import Claimed, Store

_log = logging.getLogger(__name__)

#: The poll interval varies by this part of it, so that nodes do not claim in step.
JITTER = 0.3


class Poller:
    """The recovery loop of this node.

    Args:
        drive: takes one claimed transaction as far as it goes; must not raise.
    """

    def __init__(
        self,
        *,
        store: Store,
        leases: Leases,
        drive: Callable[[Claimed, float], Coroutine[Any, Any, None]],
        spawn: Spawn,
        clock: Clock,
        settings: Settings,
        owner: str,
        random: Callable[[], float],
        observer: Observer,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._leases = leases
        self._drive = drive
        self._spawn = spawn
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._random = random
        self._observer = observer
        self._fail = failpoints
        self._active = 0
        #: So many active ones are few enough to claim more: a whole batch fits, or half of all slots are free.
        self._refill = max(settings.recovery_transactions - settings.claim_batch, settings.recovery_transactions // 2)
        self._kicked = asyncio.Event()
        self._stopping = False

    def kick(self) -> None:
        """Look for due transactions now instead of at the next interval."""
        self._kicked.set()

    def stop(self) -> None:
        """Let ``run`` end after the round that is under way: what it claims is driven, and no more is claimed."""
        self._stopping = True
        self._kicked.set()

    @property
    def active(self) -> int:
        """Recovered transactions that are being driven."""
        return self._active

    async def run(self) -> None:
        """Poll until ``stop``. Cut off inside a claim it would not know what that claim took."""
        while not self._stopping:
            try:
                full = await self.poll()
            except StoreUnavailable as error:
                _log.warning("store unavailable, no recovery now", extra={"error": str(error)})
                full = False
            except Exception:  # noqa: BLE001 - recovery goes on whatever one round does
                _log.exception("recovery poll failed")
                full = False
            if full:
                await asyncio.sleep(0)
            else:
                await self._rest()

    async def poll(self) -> bool:
        """Claim one batch and start driving it; whether there may be more that could start now."""
        free = self._settings.recovery_transactions - self._active
        wanted = min(free, self._settings.claim_batch)
        if wanted <= 0:
            return False
        if self._fail.armed:
            await self._fail.hit("claim.selected")
        deadline = self._leases.deadline()
        claimed = await self._store.claim(self._owner, wanted, self._leases.lease_ms)
        if self._fail.armed and claimed:
            await self._fail.hit("claim.committed_not_loaded")
        for one in claimed:
            self._active += 1
            _ = self._spawn(self._recover(one, deadline), f"recover:{one.record.gid}")
        if claimed:
            self._observer.transactions_claimed(len(claimed))
        return len(claimed) == wanted

    async def _recover(self, claimed: Claimed, deadline: float) -> None:
        try:
            if self._fail.armed:
                await self._fail.hit("claim.loaded")
            await self._drive(claimed, deadline)
        finally:
            self._active -= 1
            if self._active == self._refill:
                self.kick()

    async def _rest(self) -> None:
        seconds = self._settings.poll_seconds * (1 - JITTER + 2 * JITTER * self._random())
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        kicked = asyncio.ensure_future(self._kicked.wait())
        try:
            await asyncio.wait((pause, kicked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            kicked.cancel()
        self._kicked.clear()
