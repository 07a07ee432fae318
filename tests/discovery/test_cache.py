"""The memory between registries and branch calls: short, shared, and good for an outage."""

import asyncio

import pytest

from reefknot.callers.base import DiscoveryError
from reefknot.callers.resolve import cache as module
from reefknot.callers.resolve.base import RegistryUnavailable
from reefknot.callers.resolve.cache import AddressCache
from reefknot.testing.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = ("etcd://h/bank", "grpc")
ONE, TWO = (("10.0.0.1", 1),), (("10.0.0.2", 2),)


class Registry:
    """Answers what the test says, when the test lets it."""

    def __init__(self) -> None:
        self.answer: object = ONE
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def resolve(self):
        self.asked += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def parts():
    clock, registry = ManualClock(), Registry()
    cache = AddressCache(clock, lambda work, name: asyncio.get_running_loop().create_task(work, name=name))
    return clock, registry, lambda: cache.get(KEY, registry.resolve)


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_fresh_answer_is_not_asked_for_again(parts):
    clock, registry, get = parts
    assert await get() == ONE
    registry.answer = TWO
    await clock.advance(module.FRESH_SECONDS * 0.9)
    assert await get() == ONE
    assert registry.asked == 1


async def test_a_new_answer_is_used_if_it_comes_soon(parts):
    clock, registry, get = parts
    assert await get() == ONE
    registry.answer = TWO
    await clock.advance(module.FRESH_SECONDS)
    assert await get() == TWO
    assert registry.asked == 2


async def test_an_old_answer_is_used_while_the_registry_is_slow(parts):
    clock, registry, get = parts
    assert await get() == ONE
    registry.answer = TWO
    registry.open.clear()
    await clock.advance(module.FRESH_SECONDS)
    assert await asyncio.gather(*(asyncio.wait_for(get(), 2) for _ in range(5))) == [ONE] * 5
    registry.open.set()
    await settle()
    assert await get() == TWO
    assert registry.asked == 2


async def test_many_callers_ask_once_and_one_that_gives_up_spoils_nothing(parts):
    _, registry, get = parts
    registry.open.clear()
    waiting = [asyncio.create_task(get()) for _ in range(10)]
    await settle()
    waiting[0].cancel()
    await settle()
    registry.open.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [ONE] * 9
    assert registry.asked == 1


async def test_a_registry_that_is_away_does_not_stop_calls_while_addresses_are_known(parts):
    clock, registry, get = parts
    assert await get() == ONE
    registry.answer = RegistryUnavailable("away")
    await clock.advance(3600)
    assert await get() == ONE  # this one waited, and then used what was known
    # From now on nobody waits, even if the registry does not even refuse any more.
    registry.open.clear()
    await clock.advance(3600)
    assert await asyncio.wait_for(get(), 1) == ONE
    registry.answer = TWO
    registry.open.set()
    await settle()
    assert await get() == TWO


async def test_a_registry_that_is_away_is_not_asked_at_every_call(parts):
    clock, registry, get = parts
    registry.answer = RegistryUnavailable("away")
    for _ in range(20):
        with pytest.raises(DiscoveryError, match="away"):
            await get()
    assert registry.asked == 1
    await clock.advance(module.PAUSE_SECONDS)
    registry.answer = ONE
    assert await get() == ONE


async def test_nobody_registered_is_said_and_asked_for_again(parts):
    clock, registry, get = parts
    registry.answer = ()
    with pytest.raises(DiscoveryError, match="nobody is registered as etcd://h/bank for grpc"):
        await get()
    registry.answer = ONE
    await clock.advance(module.FRESH_SECONDS)
    assert await get() == ONE


async def test_what_is_remembered_is_bounded(parts, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_MOST", 3)
    _, registry, _ = parts
    cache = AddressCache(ManualClock(), lambda work, name: asyncio.get_running_loop().create_task(work, name=name))
    for service in ("a", "b", "c", "a", "d"):
        await cache.get((service, "grpc"), registry.resolve)
    assert [service for service, _ in cache._entries] == ["c", "a", "d"]
