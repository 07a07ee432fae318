import asyncio

import pytest

from reefknot.testing.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_time_stands_still_until_moved():
    clock = ManualClock(start_ms=1_000)
    await asyncio.sleep(0.01)
    assert (clock.now_ms(), clock.monotonic()) == (1_000, 0.0)
    await clock.advance(1.5)
    assert (clock.now_ms(), clock.monotonic()) == (2_500, 1.5)


async def test_wall_jumps_alone():
    clock = ManualClock(start_ms=1_000_000)
    sleeper = asyncio.ensure_future(clock.sleep(5))
    await asyncio.sleep(0)
    clock.jump_wall(-60)
    assert (clock.now_ms(), clock.monotonic()) == (940_000, 0.0)
    clock.jump_wall(3_600)
    await asyncio.sleep(0)
    assert not sleeper.done()
    await clock.advance(5)
    assert sleeper.done()


async def test_sleepers_wake_in_order_at_their_moments():
    clock = ManualClock(start_ms=0)
    seen = []

    async def wake(name, seconds):
        await clock.sleep(seconds)
        seen.append((name, clock.now_ms()))

    tasks = [asyncio.ensure_future(wake(*pair)) for pair in [("c", 3), ("a", 1), ("b", 2), ("late", 9), ("a2", 1)]]
    await asyncio.sleep(0)
    await clock.advance(5)
    assert seen == [("a", 1_000), ("a2", 1_000), ("b", 2_000), ("c", 3_000)]
    assert clock.sleepers == 1
    await clock.advance(4)
    await asyncio.gather(*tasks)
    assert seen[-1] == ("late", 9_000)


async def test_a_loop_of_sleeps_runs_as_often_as_in_real_time():
    clock = ManualClock(start_ms=0)
    ticks = []

    async def tick():
        while True:
            await clock.sleep(1)
            ticks.append(clock.now_ms())

    task = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    await clock.advance(3.5)
    assert ticks == [1_000, 2_000, 3_000]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.sleepers == 0


async def test_sleeping_for_nothing_returns():
    await asyncio.wait_for(ManualClock().sleep(0), 1)
    await asyncio.wait_for(ManualClock().sleep(-1), 1)
