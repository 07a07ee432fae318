"""Cases of claim, renew, release, wake and wake_later."""

from __future__ import annotations

import asyncio

import pytest

from reefknot.model import Status
from reefknot.store.base import NEVER_MS, Store
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import (
    LEASE_MS,
    OTHER,
    OWNER,
    create,
    due,
    finish,
    new,
    prepared,
    record,
    step,
)


async def claimed_gids(store: Store, limit: int = 100, owner: str = OTHER) -> list[str]:
    """Claim, and name what was got."""
    return [claimed.record.gid for claimed in await store.claim(owner, limit, LEASE_MS)]


class LeaseCases:
    """Who may drive which transaction, and when."""

    async def test_claim_takes_over(self, store: Store, clock: ManualClock) -> None:
        await create(store, due())
        before = await record(store)
        await clock.advance(1)
        (claimed,) = await store.claim(OTHER, 10, 5_000)
        after = claimed.record
        assert after == await record(store)
        assert (after.owner, after.epoch, after.version) == (OTHER, before.epoch + 1, before.version + 1)
        assert (after.lease_until_ms, after.due_ms) == (clock.now_ms() + 5_000, clock.now_ms() + 5_000)
        assert (after.status, after.body, after.updated_ms) == (before.status, before.body, clock.now_ms())
        assert claimed.abandoned_ms == 0

    async def test_claim_takes_the_longest_due_first(self, store: Store, clock: ManualClock) -> None:
        for gid, due_in_ms in (("c", 300), ("a", 100), ("d", 400), ("b", 200)):
            await create(store, due(gid, due_in_ms=due_in_ms))
        await clock.advance(1)
        assert await claimed_gids(store, 3) == ["a", "b", "c"]
        assert await claimed_gids(store, 3) == ["d"]
        assert await claimed_gids(store, 3) == []

    async def test_order_holds_for_those_whose_lease_ended(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("long", due_in_ms=10, lease_ms=5_000), due("short", due_in_ms=20))
        await clock.advance(1)
        assert await claimed_gids(store, 0) == []
        await create(store, due("late", due_in_ms=30))
        await clock.advance(5)
        assert await claimed_gids(store) == ["long", "short", "late"]

    @pytest.mark.parametrize("status", [Status.PREPARED, Status.SUBMITTED, Status.ABORTING])
    async def test_claim_takes_every_unfinished_status(self, store: Store, status: Status) -> None:
        await create(store, due(status=status))
        assert await claimed_gids(store) == ["order-1"]

    async def test_claim_leaves_what_is_not_due(self, store: Store, clock: ManualClock) -> None:
        await create(store, due("later", due_in_ms=1_000), due("never", due_in_ms=NEVER_MS), new("done"))
        await store.write(finish("done"))
        await clock.advance(0.999)
        assert await claimed_gids(store) == []
        await clock.advance(0.001)
        assert await claimed_gids(store) == ["later"]
        await clock.advance(1_000_000)
        assert await claimed_gids(store) == ["later"]

    async def test_claim_respects_a_live_lease(self, store: Store, clock: ManualClock) -> None:
        await create(store, new(due_in_ms=0))
        await clock.advance(LEASE_MS / 1000 - 0.001)
        assert await claimed_gids(store) == []
        await clock.advance(0.001)
        assert await claimed_gids(store) == ["order-1"]

    async def test_claim_tells_when_the_lease_was_abandoned(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        ended = clock.now_ms() + LEASE_MS
        await clock.advance(60)
        (first,) = await store.claim(OTHER, 1, LEASE_MS)
        assert first.abandoned_ms == ended
        await store.write(step(owner=OTHER, epoch=2, lease_ms=0, due_in_ms=0))
        (second,) = await store.claim(OWNER, 1, LEASE_MS)
        assert second.abandoned_ms == 0

    async def test_claim_fences_the_old_driver(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        await clock.advance(60)
        await claimed_gids(store)
        assert not await store.write(step())
        assert not await store.write(finish())
        assert not await store.write(step(owner=OTHER))
        assert await store.write(step(owner=OTHER, epoch=2))

    async def test_an_expired_lease_still_writes_until_claimed(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        await clock.advance(60)
        assert await store.write(step())
        assert await claimed_gids(store) == []
        assert (await record(store)).lease_until_ms == clock.now_ms() + LEASE_MS

    async def test_claims_do_not_overlap(self, store: Store, clock: ManualClock) -> None:
        await create(store, *(due(f"g{number}") for number in range(200)))
        for _ in range(3):
            found = await asyncio.gather(*(store.claim(f"n{number}", 15, LEASE_MS) for number in range(20)))
            pairs = [(claimed.record.gid, claimed.record.epoch) for batch in found for claimed in batch]
            assert len(pairs) == len(set(pairs)) == 200
            await clock.advance(LEASE_MS / 1000)

    async def test_claim_never_exceeds_the_limit(self, store: Store) -> None:
        await create(store, *(due(f"g{number}") for number in range(30)))
        assert len(await claimed_gids(store, 7)) == 7
        assert await claimed_gids(store, 0) == []
        assert (await store.stats()).due == 23

    async def test_claim_needs_an_owner_and_a_lease(self, store: Store) -> None:
        with pytest.raises(ValueError, match="owner"):
            await store.claim("", 1, LEASE_MS)
        with pytest.raises(ValueError, match="lease_ms"):
            await store.claim(OTHER, 1, 0)

    async def test_renew_extends_lease_and_due_time(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        await clock.advance(5)
        assert await store.renew(OWNER, (("order-1", 1),), 9_000) == {"order-1"}
        stored = await record(store)
        assert (stored.lease_until_ms, stored.due_ms) == (clock.now_ms() + 9_000, clock.now_ms() + 9_000)
        assert (stored.version, stored.epoch) == (1, 1)
        await clock.advance(8.999)
        assert await claimed_gids(store) == []

    async def test_renew_returns_only_what_is_held(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("mine"), new("done"), new("lost", due_in_ms=0, lease_ms=1_000), due("free"))
        await store.write(finish("done"))
        await clock.advance(2)
        assert sorted(await claimed_gids(store)) == ["free", "lost"]
        held = tuple((gid, 1) for gid in ("mine", "done", "lost", "free", "unknown", "Mine"))
        assert await store.renew(OWNER, held, LEASE_MS) == {"mine"}
        assert await store.renew(OWNER, (("mine", 2),), LEASE_MS) == frozenset()
        assert await store.renew("", (("mine", 1), ("free", 2)), LEASE_MS) == frozenset()
        assert await store.renew(OWNER, (), LEASE_MS) == frozenset()

    async def test_release_gives_up_all_of_one_owner(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("a"), new("b"), new("done"), new("theirs", owner=OTHER), due("free", due_in_ms=99))
        await store.write(finish("done"))
        assert await store.release(OWNER) == 2
        assert await store.release(OWNER) == 0
        assert await store.release("") == 0
        stored = await record(store, "a")
        assert (stored.owner, stored.lease_until_ms, stored.due_ms) == ("", 0, clock.now_ms())
        assert not await store.write(step("a"))
        found = await store.claim(OTHER, 10, LEASE_MS)
        assert [(claimed.record.gid, claimed.abandoned_ms) for claimed in found] == [("a", 0), ("b", 0)]

    async def test_release_of_one_that_was_woken_before(self, store: Store) -> None:
        await create(store, new())
        await store.wake(("order-1",))
        assert await claimed_gids(store) == []
        await store.release(OWNER)
        assert await claimed_gids(store) == ["order-1"]

    async def test_giving_up_one_that_was_woken_before(self, store: Store) -> None:
        await create(store, new())
        await store.wake(("order-1",))
        assert await claimed_gids(store) == []
        await store.write(step(lease_ms=0, due_in_ms=-1))
        assert await claimed_gids(store) == ["order-1"]

    async def test_wake_makes_due_and_unparks(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("parked"), prepared("waiting", due_in_ms=NEVER_MS), new("other"))
        await store.write(step("parked", lease_ms=0, due_in_ms=NEVER_MS, parked="look", attempts=3))
        await clock.advance(1)
        assert await store.wake(("parked", "waiting", "unknown", "Parked")) == 2
        stored = await record(store, "parked")
        assert (stored.parked, stored.due_ms, stored.updated_ms) == ("", clock.now_ms(), clock.now_ms())
        assert (stored.attempts, stored.version, stored.epoch) == (3, 2, 1)
        assert await claimed_gids(store) == ["parked", "waiting"]

    async def test_wake_leaves_a_live_lease(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        before = await record(store)
        assert await store.wake(("order-1", "order-1")) == 1
        stored = await record(store)
        assert (stored.owner, stored.lease_until_ms) == (OWNER, before.lease_until_ms)
        assert stored.due_ms == clock.now_ms()
        assert await claimed_gids(store) == []
        assert await store.write(step())

    async def test_wake_of_a_finished_one(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        await store.write(finish(parked="p"))
        before = await record(store)
        await clock.advance(1)
        assert await store.wake(("order-1",)) == 1
        after = await record(store)
        assert (after.due_ms, after.updated_ms) == (clock.now_ms(), clock.now_ms())
        assert (after.status, after.parked, after.finished_ms) == (before.status, before.parked, before.finished_ms)
        assert await claimed_gids(store) == []

    async def test_wake_nothing(self, store: Store) -> None:
        assert await store.wake(()) == 0

    async def test_wake_later(self, store: Store) -> None:
        """DTM's TestStoreResetCronTime: ten due in 110 s, one in 90 s."""
        await create(store, *(due(f"late{number}", due_in_ms=110_000) for number in range(10)))
        await create(store, due("soon", due_in_ms=90_000))
        assert await claimed_gids(store) == []
        assert await store.wake_later(100_000, 9) == (9, True)
        assert len(await claimed_gids(store)) == 9
        assert await store.wake_later(100_000, 10) == (1, False)
        assert len(await claimed_gids(store)) == 1
        assert await store.wake_later(88_000, 10) == (1, False)
        assert await claimed_gids(store) == ["soon"]
        assert await store.wake_later(88_000, 10) == (0, False)

    async def test_wake_later_knows_exactly_whether_more_remain(self, store: Store) -> None:
        await create(store, *(due(f"g{number}", due_in_ms=10_000) for number in range(4)))
        assert await store.wake_later(1_000, 0) == (0, True)
        assert await store.wake_later(10_000, 9) == (0, False)
        assert await store.wake_later(9_999, 2) == (2, True)
        assert await store.wake_later(9_999, 2) == (2, False)

    async def test_wake_later_leaves_the_parked_waiting_and_finished(self, store: Store, clock: ManualClock) -> None:
        await create(
            store, new("parked"), new("done"), prepared("never", due_in_ms=NEVER_MS), due("x", due_in_ms=9_000)
        )
        await store.write(step("parked", lease_ms=0, due_in_ms=50_000, parked="look"))
        await store.write(finish("done"))
        await clock.advance(1)
        assert await store.wake_later(0, 10) == (1, False)
        stored = await record(store, "x")
        assert (stored.due_ms, stored.updated_ms, stored.version) == (clock.now_ms(), clock.now_ms(), 1)
        assert await claimed_gids(store) == ["x"]

    async def test_touch_then_claim(self, store: Store, clock: ManualClock) -> None:
        """DTM's TestStoreLockTrans: found when due, not when moved away, never when finished."""
        await create(store, due(due_in_ms=10_000))
        await clock.advance(20)
        (claimed,) = await store.claim(OTHER, 1, LEASE_MS)
        assert await store.write(step(owner=OTHER, epoch=claimed.record.epoch, lease_ms=0, due_in_ms=30_000))
        assert await claimed_gids(store) == []
        await store.wake(("order-1",))
        (claimed,) = await store.claim(OTHER, 1, LEASE_MS)
        assert await store.write(finish(owner=OTHER, epoch=claimed.record.epoch))
        await clock.advance(60)
        assert await claimed_gids(store) == []
