"""A store without a server, in a process of its own: its group-commit ceiling, filling and emptying it.

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

from reefknot.bench.processes import Usage, cpu_us, usage
from reefknot.clock import SystemClock
from reefknot.coordinator.topics import CATEGORY
from reefknot.failpoints import Failpoints
from reefknot.ids import gid_maker
from reefknot.model import Body, OpProgress, Status
from reefknot.store import open_store
from reefknot.store.base import Created, Filter, NewTransaction, Store, Write

_OWNER = "benchmark:1:0123456789ab"
_LEASE_MS = 8_000
#: Creations under way while filling.
_FILL_BATCH = 2_000


class Task(msgspec.Struct, frozen=True):
    """What to do with the store.

    Args:
        url: the store.
        empty: whether to delete everything in it first.
        fill: so many finished transactions to store.
        due: so many transactions to store that are due and that nobody drives.
        seconds: how long to drive if there is nothing to store.
        drivers: how many drivers there are.
        pids: the database server's processes.
    """

    url: str
    empty: bool = False
    fill: int = 0
    due: int = 0
    seconds: float = 0.0
    drivers: int = 64
    pids: tuple[int, ...] = ()


class Done(msgspec.Struct, frozen=True):
    """What came of it.

    ``occupied`` says whether the store held anything when it was opened, ``durability`` what it
    says about its settings. The rest covers the driving or filling only: ``used`` by this process
    and its children, ``database_us`` of CPU by each of the database server's processes.
    """

    occupied: bool
    durability: str
    transactions: int
    seconds: float
    used: Usage
    database_us: tuple[float, ...]


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

    async def fill(self, count: int, status: Status) -> None:
        """Store transactions as the retention keeps them, or due ones as a crash leaves them."""
        # ``create`` takes no progress; its bytes are added to the body, so that the rows have their size.
        body = self._body + _progress(0, 1, 3)
        for start in range(0, count, _FILL_BATCH):
            size = min(_FILL_BATCH, count - start)
            news = [NewTransaction(self._new_gid(), "saga", status, body, self._hash, due_in_ms=0) for _ in range(size)]
            await asyncio.gather(*(self._store.create(new) for new in news))
            self.finished += size


async def _occupied(store: Store) -> bool:
    found = await store.list(Filter(), 1)
    return bool(found.records or (await store.kv_list(CATEGORY, 1)).entries)


async def _main(task: Task) -> Done:
    store = await open_store(task.url, clock=SystemClock(), failpoints=Failpoints())
    try:
        occupied, durability = await _occupied(store), await store.durability()
        if task.empty:
            await store.reset()
        drivers = _Drivers(store)
        started, before, database = time.monotonic(), usage(os.getpid()), [cpu_us(pid) for pid in task.pids]
        if task.fill or task.due:
            await drivers.fill(task.fill or task.due, Status.SUCCEED if task.fill else Status.SUBMITTED)
        else:
            end = started + task.seconds
            await asyncio.gather(*(drivers.drive_until(end) for _ in range(task.drivers)))
        return Done(
            occupied,
            f"{durability.level}: {durability.detail}",
            drivers.finished,
            time.monotonic() - started,
            usage(os.getpid()).since(before),
            tuple(cpu_us(pid) - then for pid, then in zip(task.pids, database, strict=True)),
        )
    finally:
        await store.close()


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_main(asked))) + b"\n")
