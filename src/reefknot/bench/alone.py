"""A store without a server, in a process of its own: its group-commit ceiling, and filling it.

The ceiling is what simulated drivers get that do nothing but the three durable steps of a saga of
two branches: create, the first branch's result, the second one's with the final status.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time

import msgspec
import uvloop

from reefknot.bench.processes import Usage, usage
from reefknot.clock import SystemClock
from reefknot.failpoints import Failpoints
from reefknot.ids import gid_maker
from reefknot.model import Body, OpProgress, Status
from reefknot.store import open_store
from reefknot.store.base import Created, NewTransaction, Store, Write

_OWNER = "benchmark:1:0123456789ab"
_LEASE_MS = 8_000
#: Creations under way while filling.
_FILL_BATCH = 2_000


class Task(msgspec.Struct, frozen=True):
    """What to do with the store: drive for ``seconds``, or store ``fill`` finished transactions."""

    url: str
    drivers: int = 64
    seconds: float = 0.0
    fill: int = 0


class Done(msgspec.Struct, frozen=True):
    """What came of it. ``used`` covers the driving or filling only, with the store's own processes."""

    transactions: int
    seconds: float
    used: Usage


def _body() -> bytes:
    url = "http://127.0.0.1:12345"
    step = {"action": f"{url}/TransOut", "compensate": f"{url}/TransOutRevert"}
    payload = b'{"amount":30,"transInResult":"","transOutResult":""}'
    return msgspec.msgpack.encode(Body(steps=(step, step), payloads=(payload, payload)))


def _progress(now_ms: int, *positions: int) -> bytes:
    return msgspec.msgpack.encode({position: OpProgress(Status.SUCCEED, 1, "", now_ms) for position in positions})


class _Drivers:
    """Simulated drivers over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new_gid = gid_maker(SystemClock(), random.Random().getrandbits)  # noqa: S311 - unique is enough
        self._body = _body()
        self._hash = bytes(16)
        self.finished = 0

    async def drive_until(self, end: float) -> None:
        """Store and finish one transaction after the other until the monotonic clock says ``end``."""
        while time.monotonic() < end:
            await self._drive()

    async def _drive(self) -> None:
        store, gid = self._store, self._new_gid()
        new = NewTransaction(
            gid, "saga", Status.SUBMITTED, self._body, self._hash, _OWNER, lease_ms=_LEASE_MS, due_in_ms=_LEASE_MS
        )
        created = await store.create(new)
        if not isinstance(created, Created):
            raise RuntimeError(f"the gid {gid} exists already")  # noqa: TRY004 - no wrong type, a wrong result
        now = store.now_ms()
        first = Write(
            gid, _OWNER, 1, Status.SUBMITTED, Status.SUBMITTED, _progress(now, 1), lease_ms=_LEASE_MS, due_in_ms=-1
        )
        last = Write(gid, _OWNER, 1, Status.SUBMITTED, Status.SUCCEED, _progress(now, 1, 3))
        if not (await store.write(first) and await store.write(last)):
            raise RuntimeError(f"a write of {gid} was refused")
        self.finished += 1

    async def fill(self, count: int) -> None:
        """Store finished transactions as the retention keeps them."""
        # ``create`` takes no progress; its bytes are added to the body, so that the rows have their size.
        body = self._body + _progress(0, 1, 3)
        for start in range(0, count, _FILL_BATCH):
            size = min(_FILL_BATCH, count - start)
            news = [NewTransaction(self._new_gid(), "saga", Status.SUCCEED, body, self._hash) for _ in range(size)]
            await asyncio.gather(*(self._store.create(new) for new in news))
            self.finished += size


async def _main(task: Task) -> Done:
    store = await open_store(task.url, clock=SystemClock(), failpoints=Failpoints())
    try:
        drivers = _Drivers(store)
        started, before = time.monotonic(), usage(os.getpid())
        if task.fill:
            await drivers.fill(task.fill)
        else:
            end = started + task.seconds
            await asyncio.gather(*(drivers.drive_until(end) for _ in range(task.drivers)))
        return Done(drivers.finished, time.monotonic() - started, usage(os.getpid()).since(before))
    finally:
        await store.close()


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_main(asked))) + b"\n")
