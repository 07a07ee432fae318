"""A look into the store from beside the nodes: who drives what, and how soon somebody else does."""

import asyncio
import threading
import time
from contextlib import suppress

from reefknot.clock import SystemClock
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.model import UNFINISHED
from reefknot.store import open_store
from reefknot.store.base import NEVER_MS, Filter

LOOK_SECONDS = 0.1
#: A takeover that is not seen after this time is taken for none.
MOST_SECONDS = 40.0


class StoreWatch:
    """Reads the store on a loop of its own; use it as a context manager."""

    def __init__(self, url):
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._watching = []
        #: (gid, seconds from the death of its driver until somebody else had it or it had ended).
        self.takeovers = []

    def __enter__(self):
        self._thread.start()
        self._store = self.run(open_store(self._url, clock=SystemClock(), failpoints=disarmed()))
        return self

    def __exit__(self, *_):
        for future in self._watching:
            future.cancel()
        self.run(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def unfinished(self):
        """Every record that is not finished, up to a thousand of each status."""
        return self.run(self._unfinished())

    async def _unfinished(self):
        pages = [await self._store.list(Filter(status=status), 1_000) for status in sorted(UNFINISHED)]
        return [record for page in pages for record in page.records]

    def record(self, gid):
        return self.run(self._store.get(gid))

    def stats(self):
        return self.run(self._store.stats())

    def held_by(self, pid):
        """Unfinished transactions on which this process has a lease."""
        return [record for record in self.unfinished() if driver(record) == pid]

    def forgotten(self):
        """Unfinished transactions that nobody would ever look at again."""
        return [record.gid for record in self.unfinished() if record.due_ms >= NEVER_MS and not record.parked]

    def driver_died(self, pid, at):
        """Measure from ``at`` (monotonic) how long what this process drives stays without a driver."""
        self._watching.append(asyncio.run_coroutine_threadsafe(self._follow(pid, at), self._loop))

    async def _follow(self, pid, at):
        waiting = {record.gid: record.epoch for record in await self._unfinished() if driver(record) == pid}
        while waiting and time.monotonic() - at < MOST_SECONDS:
            for gid, epoch in list(waiting.items()):
                with suppress(StoreUnavailable):
                    found = await self._store.get(gid)
                    if found.finished_ms or found.epoch != epoch:
                        self.takeovers.append((gid, time.monotonic() - at))
                        del waiting[gid]
            await asyncio.sleep(LOOK_SECONDS)
        self.takeovers += [(gid, float("inf")) for gid in waiting]


def driver(record):
    """The process that has the lease; 0 if nobody has. An owner is ``host:pid:nonce``."""
    return int(record.owner.rsplit(":", 2)[1]) if record.owner else 0
