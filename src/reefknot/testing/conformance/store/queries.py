"""Cases of list, stats, purge and the keys."""

from __future__ import annotations

import asyncio

import pytest

from reefknot.model import Status
from reefknot.store.base import Decision, Filter, Page, Stats, Store
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
    row,
    step,
)


async def all_gids(store: Store, wanted: Filter | None = None, limit: int = 3) -> list[str]:
    """Page through a listing."""
    gids: list[str] = []
    position = ""
    while True:
        page = await store.list(wanted or Filter(), limit, position)
        assert len(page.records) <= limit
        gids += [found.gid for found in page.records]
        position = page.position
        if not position:
            return gids


async def finished(store: Store, *gids: str, status: Status = Status.SUCCEED) -> None:
    """Create transactions and finish them."""
    await create(store, *(new(gid) for gid in gids))
    for gid in gids:
        assert await store.write(finish(gid, status))


class QueryCases:
    """What the store tells about many transactions, and what it forgets."""

    async def test_list_newest_first(self, store: Store, clock: ManualClock) -> None:
        for number in range(8):
            await create(store, new(f"g{number}"))
            await clock.advance(0.001 * (number % 3))
        assert await all_gids(store) == [f"g{number}" for number in range(7, -1, -1)]

    async def test_list_of_nothing(self, store: Store) -> None:
        assert await store.list(Filter(), 10) == Page((), "")

    async def test_list_has_no_branches(self, store: Store) -> None:
        await create(store, prepared())
        await store.register("order-1", "tcc", (row(),))
        (found,) = (await store.list(Filter(), 10)).records
        stored = await record(store)
        assert found.branches == ()
        assert (found.gid, found.body, found.due_ms) == (stored.gid, stored.body, stored.due_ms)

    @pytest.mark.parametrize("count", [1, 3, 4, 6])
    async def test_position_is_empty_exactly_at_the_end(self, store: Store, count: int) -> None:
        await create(store, *(new(f"g{number}") for number in range(count)))
        assert bool((await store.list(Filter(), 3)).position) is (count > 3)

    async def test_list_under_inserts_and_purge(self, store: Store, clock: ManualClock) -> None:
        await finished(store, *(f"old{number}" for number in range(10)))
        await create(store, *(new(f"live{number}") for number in range(10)))
        first = await store.list(Filter(), 5)
        await clock.advance(10)
        await create(store, *(new(f"newer{number}") for number in range(5)))
        assert await store.purge(1, 4) == 4
        second = await store.list(Filter(), 5, first.position)
        third = await store.list(Filter(), 50, second.position)
        found = [entry.gid for page in (first, second, third) for entry in page.records]
        assert found == [f"live{n}" for n in range(9, -1, -1)] + [f"old{n}" for n in range(9, 3, -1)]

    async def test_position_outlives_its_row(self, store: Store, clock: ManualClock) -> None:
        await finished(store, "a", "b", "c", "d")
        first = await store.list(Filter(), 2)
        await clock.advance(10)
        await create(store, new("e"))
        await store.purge(0, 100)
        assert (await store.list(Filter(), 2, first.position)).records == ()

    @pytest.mark.parametrize(
        "position", ["x", "1", "1.", ".1", "1.2.3", "-1.2", "1.2 ", "'", "9" * 30 + ".1", "\u0661.\u0662"]
    )
    async def test_unknown_position(self, store: Store, position: str) -> None:
        with pytest.raises(ValueError, match="position"):
            await store.list(Filter(), 10, position)

    async def test_filters(self, store: Store, clock: ManualClock) -> None:
        await finished(store, "s1", "s2")
        await finished(store, "f1", "f2", "f3", "f4", status=Status.FAILED)
        await create(
            store, new("sub"), prepared("pre1"), prepared("pre2", mode="xa"), due("ab", status=Status.ABORTING)
        )
        assert await all_gids(store, Filter(status="succeed")) == ["s2", "s1"]
        assert await all_gids(store, Filter(status="failed")) == ["f4", "f3", "f2", "f1"]
        assert await all_gids(store, Filter(status="submitted")) == ["sub"]
        assert await all_gids(store, Filter(status="aborting")) == ["ab"]
        assert await all_gids(store, Filter(status="prepared"), 1) == ["pre2", "pre1"]
        assert await all_gids(store, Filter(mode="xa")) == ["pre2"]
        assert await all_gids(store, Filter(mode="tcc", status="prepared")) == ["pre1"]
        assert await all_gids(store, Filter(mode="tcc", status="failed")) == []
        assert await all_gids(store, Filter(status="%")) == []
        assert await all_gids(store, Filter(mode="SAGA")) == []

    @pytest.mark.parametrize("status", ["", "failed", "submitted"])
    async def test_creation_times_are_inclusive(self, store: Store, clock: ManualClock, status: str) -> None:
        start = clock.now_ms()
        for number in range(5):
            await create(store, new(f"g{number}"))
            if status == "failed":
                await store.write(finish(f"g{number}", Status.FAILED))
            await clock.advance(1)
        between = Filter(status=status, created_from_ms=start + 1_000, created_to_ms=start + 3_000)
        assert await all_gids(store, between) == ["g3", "g2", "g1"]
        assert await all_gids(store, between, 1) == ["g3", "g2", "g1"]
        assert await all_gids(store, Filter(status=status, created_from_ms=start + 3_001)) == ["g4"]
        assert await all_gids(store, Filter(status=status, created_to_ms=start + 999)) == ["g0"]

    async def test_stats(self, store: Store, clock: ManualClock) -> None:
        assert await store.stats() == Stats({}, 0, 0, 0)
        await finished(store, "done")
        await clock.advance(1)
        oldest = clock.now_ms()
        await create(store, new("a"), prepared("b"), prepared("c", mode="xa"), due("d"), due("e", due_in_ms=1_000))
        await store.write(step("a", lease_ms=0, parked="look"))
        await create(store, new("leased", due_in_ms=0))
        await clock.advance(0.5)
        found = await store.stats()
        assert found.unfinished == {("saga", "submitted"): 4, ("tcc", "prepared"): 1, ("xa", "prepared"): 1}
        assert (found.oldest_unfinished_ms, found.parked, found.due) == (oldest, 1, 1)

    async def test_purge_deletes_the_finished_with_their_branches(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared())
        await store.register("order-1", "tcc", (row(),))
        await store.decide(_fail("order-1"))
        await clock.advance(10)
        assert await store.purge(10_000, 10) == 0
        await clock.advance(0.001)
        assert await store.purge(10_000, 10) == 1
        assert await store.get("order-1") is None
        await create(store, prepared(body=b"again"))
        stored = await record(store)
        assert (stored.branches, stored.body) == ((), b"again")

    async def test_purge_never_touches_the_unfinished(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("a"), prepared("b"), due("c", status=Status.ABORTING), new("parked"))
        await store.write(step("parked", lease_ms=0, parked="look"))
        await clock.advance(1_000_000)
        assert await store.purge(0, 100) == 0
        assert await all_gids(store) == ["parked", "c", "b", "a"]

    async def test_purge_goes_by_the_time_of_the_end(self, store: Store, clock: ManualClock) -> None:
        await create(store, new("slow"))
        await finished(store, "quick")
        await clock.advance(100)
        await store.write(finish("slow"))
        await clock.advance(50)
        assert await store.purge(60_000, 10) == 1
        assert await all_gids(store) == ["slow"]

    async def test_purge_keeps_to_the_limit(self, store: Store, clock: ManualClock) -> None:
        await finished(store, *(f"g{number}" for number in range(7)))
        await clock.advance(1)
        assert [await store.purge(0, limit) for limit in (0, 3, 3, 3, 3)] == [0, 3, 3, 1, 0]

    async def test_purge_of_large_bodies_and_reuse_of_the_gid(self, store: Store, clock: ManualClock) -> None:
        await create(store, new(body=b"x" * 100_000))
        await store.write(finish())
        await clock.advance(1)
        assert await store.purge(0, 1) == 1
        await create(store, new(body=b"small"))
        assert (await record(store)).body == b"small"
        assert await store.write(step())

    async def test_reset_deletes_everything(self, store: Store) -> None:
        await finished(store, "a", "b")
        await create(store, prepared("c", body=b"x" * 100_000), due("d"))
        await store.register("c", "tcc", (row(),))
        await store.kv_put("topics", "k", "v", 0)
        assert await store.reset() == 4
        assert await all_gids(store) == []
        assert await store.kv_get("topics", "k") is None
        assert await store.claim(OTHER, 10, LEASE_MS) == ()
        assert await store.stats() == Stats({}, 0, 0, 0)
        await create(store, prepared("c", body=b"y"))
        stored = await record(store, "c")
        assert (stored.body, stored.branches) == (b"y", ())
        assert await store.renew(OWNER, (("a", 1),), LEASE_MS) == frozenset()

    async def test_key_lifecycle(self, store: Store, clock: ManualClock) -> None:
        start = clock.now_ms()
        assert await store.kv_get("topics", "t") is None
        assert await store.kv_put("topics", "t", "1", 0)
        assert not await store.kv_put("topics", "t", "x", 0)
        await clock.advance(1)
        assert await store.kv_put("topics", "t", "ä😀", 1)
        assert not await store.kv_put("topics", "t", "x", 1)
        assert not await store.kv_put("topics", "t", "x", 3)
        entry = await store.kv_get("topics", "t")
        assert entry is not None
        assert (entry.category, entry.key, entry.value, entry.version) == ("topics", "t", "ä😀", 2)
        assert (entry.created_ms, entry.updated_ms) == (start, start + 1_000)
        assert await store.kv_delete("topics", "t")
        assert not await store.kv_delete("topics", "t")
        assert not await store.kv_put("topics", "t", "x", 2)
        assert await store.kv_put("topics", "t", "new", 0)
        again = await store.kv_get("topics", "t")
        assert again is not None
        assert again.version == 1

    async def test_keys_compare_as_bytes(self, store: Store) -> None:
        keys = ["", " ", "'; --", "A", "Z", "a", "a ", "a%", "ab", "z", "é", "\u1234", "\uffee", "😀"]
        for key in reversed(keys):
            assert await store.kv_put("topics", key, key, 0)
            assert await store.kv_put("Topics", key, "other", 0)
        found: list[str] = []
        position = ""
        while len(found) < 50:
            page = await store.kv_list("topics", 3, position)
            found += [entry.value for entry in page.entries]
            position = page.position
            if not position:
                break
        assert found == keys

    async def test_key_listing_ends(self, store: Store) -> None:
        assert await store.kv_list("topics", 5) == await store.kv_list("other", 5)
        for key in "abc":
            await store.kv_put("topics", key, "v", 0)
        assert not (await store.kv_list("topics", 3)).position
        assert (await store.kv_list("topics", 2)).position
        with pytest.raises(ValueError, match="position"):
            await store.kv_list("topics", 2, "a")

    async def test_one_of_many_key_writers_wins(self, store: Store) -> None:
        for version in range(3):
            done = await asyncio.gather(*(store.kv_put("c", "k", f"{version}.{i}", version) for i in range(20)))
            assert sum(done) == 1
        entry = await store.kv_get("c", "k")
        assert entry is not None
        assert entry.version == 3


def _fail(gid: str) -> Decision:
    return Decision(gid, (Status.PREPARED,), Status.FAILED)
