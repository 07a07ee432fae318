"""The recovery loop: a backlog drains as fast as its transactions are driven, not one batch an interval."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from reefknot.clock import SystemClock
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.poller import Poller
from reefknot.coordinator.settings import Settings
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.observe import Observer
from reefknot.store import open_store
from reefknot.store.base import Claimed, NewTransaction

pytestmark = pytest.mark.anyio

BACKLOG = 500


class NoInterval(SystemClock):
    """No pause between two polls ever ends."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("slots", [1, 20, 99, 100, 150, 256, 1_000])
async def test_a_backlog_needs_no_second_interval(slots: int) -> None:
    store = await open_store("memory://", clock=SystemClock(), failpoints=disarmed())
    for number in range(BACKLOG):
        await store.create(NewTransaction(f"g{number}", "saga", Status.SUBMITTED, b"", b"", due_in_ms=0))
    driven: set[str] = set()
    tasks: set[asyncio.Task[None]] = set()
    most = 0
    everything = asyncio.Event()

    async def drive(claimed: Claimed, _: float) -> None:
        nonlocal most
        most = max(most, poller.active)
        await asyncio.sleep(0.001)
        driven.add(claimed.record.gid)
        if len(driven) == BACKLOG:
            everything.set()

    def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        tasks.add(task)
        return task

    clock, settings = NoInterval(), Settings(recovery_transactions=slots)
    leases = Leases(store, clock, settings, "node", disarmed())
    poller = Poller(
        store=store,
        leases=leases,
        drive=drive,
        spawn=spawn,
        clock=clock,
        settings=settings,
        owner="node",
        random=random.Random(1).random,
        observer=Observer(),
        failpoints=disarmed(),
    )
    running = asyncio.ensure_future(poller.run())
    await asyncio.wait_for(everything.wait(), 60)
    poller.stop()
    await running
    await asyncio.gather(*tasks)

    assert most <= slots
