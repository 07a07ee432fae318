"""Cases of opening, closing and what a store says about itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import signature

import pytest

from reefknot.errors import StoreUnavailable
from reefknot.model import Status
from reefknot.store.base import Decision, Filter, Store
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import (
    LEASE_MS,
    OTHER,
    create,
    finish,
    new,
    prepared,
    record,
    row,
    step,
)

OpenStore = Callable[[], Awaitable[Store]]


class LifecycleCases:
    """The store as a whole."""

    async def test_it_has_a_name(self, store: Store) -> None:
        assert store.name

    async def test_missing_methods_say_so(self, open_store: OpenStore) -> None:
        store = await open_store()
        for name in store.missing:
            method = getattr(store, name)
            required = [p for p in signature(method).parameters.values() if p.default is p.empty]
            with pytest.raises(NotImplementedError):
                await method(*[None] * len(required))
        await store.close()

    async def test_clock(self, store: Store, clock: ManualClock) -> None:
        before = store.now_ms()
        await clock.advance(5)
        assert store.now_ms() - before == 5_000

    async def test_ping(self, store: Store) -> None:
        await store.ping()
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.ping()

    async def test_durability_has_a_level_and_a_reason(self, store: Store) -> None:
        durability = await store.durability()
        assert durability.level in {"full", "crash", "process", "none"}
        assert durability.detail

    async def test_closed_store_refuses(self, store: Store) -> None:
        await create(store, new())
        await store.close()
        await store.close()
        calls = (
            *(store.create(new("b")), store.write(step()), store.decide(_stop()), store.get("order-1")),
            *(store.register("order-1", "saga", ()), store.list(Filter(), 1), store.claim(OTHER, 1, 1)),
            *(store.renew(OTHER, (), 1), store.release(OTHER), store.wake(()), store.wake_later(0, 1)),
            *(store.purge(0, 1), store.reset(), store.stats(), store.kv_get("c", "k"), store.kv_list("c", 1)),
            *(store.kv_put("c", "k", "v", 0), store.kv_delete("c", "k")),
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * len(calls)

    async def test_close_finishes_what_was_accepted(self, open_store: OpenStore) -> None:
        store = await open_store()
        accepted = [asyncio.ensure_future(store.create(new(f"g{number}"))) for number in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert len({answer.id for answer in await asyncio.gather(*accepted)}) == 50

    async def test_content_survives_closing(self, open_store: OpenStore, clock: ManualClock) -> None:
        store = await open_store()
        if (await store.durability()).level == "none":
            await store.close()
            pytest.skip("the store keeps nothing by design")
        await create(store, prepared("tcc"), new("done"), new("big", body=b"x" * 1_000_000, owner=""))
        await store.register("tcc", "tcc", (row("02"), row("01")))
        await store.write(finish("done", Status.FAILED, reason="why"))
        await store.kv_put("topics", "t", "v", 0)
        gids = ("tcc", "done", "big")
        before = [await record(store, gid) for gid in gids]
        entry = await store.kv_get("topics", "t")
        await store.close()
        await clock.advance(100)
        store = await open_store()
        assert [await record(store, gid) for gid in gids] == before
        assert await store.kv_get("topics", "t") == entry
        assert [found.gid for found in (await store.list(Filter(), 9)).records] == ["big", "done", "tcc"]
        (first,) = await create(store, new("next"))
        assert first > max(found.id for found in before)
        await store.close()

    async def test_leases_survive_or_end_at_opening(self, open_store: OpenStore, clock: ManualClock) -> None:
        """A driver of before the opening is fenced by the next claim, at the latest when its lease ends."""
        store = await open_store()
        if (await store.durability()).level == "none":
            await store.close()
            pytest.skip("the store keeps nothing by design")
        await create(store, new())
        await store.close()
        store = await open_store()
        if not (claimed := await store.claim(OTHER, 1, LEASE_MS)):
            await clock.advance(LEASE_MS / 1000)
            claimed = await store.claim(OTHER, 1, LEASE_MS)
        assert [found.record.gid for found in claimed] == ["order-1"]
        assert 0 < claimed[0].abandoned_ms <= clock.now_ms()
        assert not await store.write(step())
        await store.close()


def _stop() -> Decision:
    return Decision("order-1", (Status.SUBMITTED,), Status.FAILED)
