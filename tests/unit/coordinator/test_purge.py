"""Old transactions are deleted in batches, with pauses that grow with what a batch takes."""

from __future__ import annotations

import asyncio
import time

from reefknot.config import schema
from reefknot.model import Status
from reefknot.node import PURGE_PAUSES, purge_pauses
from reefknot.store.base import Filter, Store
from reefknot.testing.conformance.store.building import create, new
from reefknot.testing.server import PATIENCE_SECONDS, LocalServer


class SlowPurge:
    """The store's purge, of which each batch takes so many seconds longer; remembers when each began and ended."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._purge = store.purge
        self._seconds = seconds
        self.batches: list[tuple[float, float, int]] = []
        store.purge = self  # type: ignore[method-assign]  # the real one is called by this one

    async def __call__(self, older_than_ms: int, limit: int) -> int:
        began = time.monotonic()
        await asyncio.sleep(self._seconds)
        deleted = await self._purge(older_than_ms, limit)
        self.batches.append((began, time.monotonic(), deleted))
        return deleted


def test_the_purge_takes_a_bounded_part_of_the_time() -> None:
    with LocalServer(store=schema.Store(finished_data_expire=60), purge_interval=1) as server:
        slow = SlowPurge(server.store, 0.05)
        server.run(create(server.store, *(new(f"g{number}", status=Status.SUCCEED) for number in range(450)), new()))
        server.clock.shift(120.0)
        until = time.monotonic() + PATIENCE_SECONDS
        while sum(deleted for *_, deleted in slow.batches) < 450:
            assert time.monotonic() < until, slow.batches
            time.sleep(0.01)
        (first, after_first, _), (second, after_second, _), (third, _, _) = slow.batches[-3:]
        assert [deleted for *_, deleted in slow.batches[-3:]] == [200, 200, 50]
        # A little less: the longer it takes, the shorter the pauses.
        assert second - after_first >= 8.9 * (after_first - first) >= 0.44
        assert third - after_second >= 8.9 * (after_second - second) >= 0.44
        left = server.run(server.store.list(Filter(), 500)).records
        assert [record.gid for record in left] == ["order-1"]
        assert b"\nreefknot_purged_total 450.0\n" in server.send("GET", "/api/metrics").body


def test_a_purge_that_falls_behind_takes_a_larger_part() -> None:
    """Otherwise a store would grow for ever where more is finished than a tenth of the time can delete."""
    pauses = [purge_pauses(minutes * 60.0) for minutes in (0, 5, 10, 60, 600)]
    assert pauses == [PURGE_PAUSES, PURGE_PAUSES / 2, PURGE_PAUSES / 3, PURGE_PAUSES / 13, PURGE_PAUSES / 121]
