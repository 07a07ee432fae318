"""A node that only claims, a process of its own: takes whatever is due, one batch after the other.

It opens the store and says so. On the word to start it claims and tells what it got; on the next
word, when no other claims any more, it gives everything up again and says so.
"""

from __future__ import annotations

import sys
import time

import msgspec
import uvloop

from reefknot.clock import SystemClock
from reefknot.failpoints import Failpoints
from reefknot.store import open_store

#: As many as a node asks for at once.
BATCH = 100
#: Longer than any measurement: what was claimed is not due again.
_LEASE_MS = 600_000


class Order(msgspec.Struct, frozen=True):
    """Where to claim, and in whose name."""

    url: str
    owner: str


class Taken(msgspec.Struct, frozen=True):
    """What it got, and from when to when by the monotonic clock, in seconds."""

    gids: tuple[str, ...]
    started: float
    ended: float


async def _main(order: Order) -> None:
    store = await open_store(order.url, clock=SystemClock(), failpoints=Failpoints())
    try:
        _tell("ready")
        sys.stdin.buffer.readline()
        gids: list[str] = []
        started = ended = time.monotonic()
        while claimed := await store.claim(order.owner, BATCH, _LEASE_MS):
            gids += [one.record.gid for one in claimed]
            ended = time.monotonic()
        _tell(Taken(tuple(gids), started, ended))
        sys.stdin.buffer.readline()
        await store.release(order.owner)
        _tell("released")
    finally:
        await store.close()


def _tell(message: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_main(msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)))
