"""Cases of create, get, write and decide."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reefknot.model import Status
from reefknot.store.base import NEVER_MS, Created, Filter, Record, Store
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
    submit,
)

#: Gids of which no two may be taken for each other, and texts that must stay what they are.
DISTINCT_GIDS = (
    *("order-1", "order-10", "order-1-refund", "order-", "order-1 ", " order-1", "Order-1", "order-1\t"),
    *("órder-1", "o\u0301rder-1", "ORDER-1", "order_1", "order%1", "order?1", "order*", "'; DROP TABLE tx; --"),
    *(
        '"quoted"',
        "back\\slash",
        "😀",
        "😀😀",
        "x" * 128,
        "x" * 127,
        "é" * 64,
        "1",
        "01",
        "1.0",
        "null",
        "\u00df",
        "ss",
    ),
)


class TransactionCases:
    """What happens to one transaction."""

    async def test_create_returns_id_and_time(self, store: Store, clock: ManualClock) -> None:
        first = await store.create(new("a"))
        second = await store.create(new("b"))
        assert isinstance(first, Created)
        assert isinstance(second, Created)
        assert first.id != second.id
        assert first.created_ms == clock.now_ms()

    async def test_create_stores_every_field(self, store: Store, clock: ManualClock) -> None:
        now = clock.now_ms()
        (row_id,) = await create(store, new(mode="msg", due_in_ms=5_000))
        assert await store.get("order-1") == Record(
            id=row_id,
            gid="order-1",
            mode="msg",
            status=Status.SUBMITTED,
            body=b"body",
            progress=b"",
            owner=OWNER,
            epoch=1,
            version=1,
            lease_until_ms=now + LEASE_MS,
            due_ms=now + 5_000,
            attempts=0,
            parked="",
            reason="",
            result="",
            request_hash=b"hash",
            created_ms=now,
            updated_ms=now,
            decided_ms=0,
            finished_ms=0,
        )

    @pytest.mark.parametrize("changes", [{"owner": ""}, {"lease_ms": 0}])
    async def test_create_without_owner_or_lease_has_no_driver(self, store: Store, changes: dict[str, Any]) -> None:
        await create(store, new(**changes))
        stored = await record(store)
        assert (stored.owner, stored.lease_until_ms, stored.epoch) == ("", 0, 1)

    async def test_create_waits_for_ever_unless_told(self, store: Store) -> None:
        await create(store, prepared(due_in_ms=NEVER_MS))
        assert (await record(store)).due_ms == NEVER_MS

    async def test_create_with_a_final_status_is_finished(self, store: Store, clock: ManualClock) -> None:
        await create(store, new(status=Status.SUCCEED))
        stored = await record(store)
        assert (stored.finished_ms, stored.owner, stored.lease_until_ms) == (clock.now_ms(), "", 0)

    async def test_create_again_returns_what_exists(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared())
        await store.register("order-1", "tcc", (row(),))
        before = await record(store)
        await clock.advance(1)
        again = await store.create(new(body=b"other", mode="saga", request_hash=b"x"))
        assert again == before
        assert await store.get("order-1") == before

    async def test_create_again_after_the_end(self, store: Store) -> None:
        await create(store, new())
        await store.write(finish())
        again = await store.create(new())
        assert isinstance(again, Record)
        assert again.status is Status.SUCCEED

    async def test_concurrent_creates_of_one_gid(self, store: Store) -> None:
        found = await asyncio.gather(*(store.create(new(owner=f"n{i}", body=b"%d" % i)) for i in range(50)))
        created = [answer for answer in found if isinstance(answer, Created)]
        existing = {answer for answer in found if isinstance(answer, Record)}
        assert len(created) == 1
        assert existing == {await record(store)}

    async def test_concurrent_creates_of_many_gids(self, store: Store) -> None:
        found = await asyncio.gather(*(store.create(new(f"g{i % 100}")) for i in range(300)))
        assert sum(isinstance(answer, Created) for answer in found) == 100
        assert len({answer.id for answer in found}) == 100

    async def test_gids_compare_as_bytes(self, store: Store) -> None:
        await create(store, *(prepared(gid, body=gid.encode()) for gid in DISTINCT_GIDS))
        for gid in DISTINCT_GIDS:
            await store.register(gid, "tcc", (row(url=gid),))
        for gid in DISTINCT_GIDS:
            stored = await record(store, gid)
            assert (stored.gid, stored.body) == (gid, gid.encode())
            assert [branch.url for branch in stored.branches] == [gid]

    async def test_writing_one_gid_leaves_its_neighbours(self, store: Store) -> None:
        await create(store, *(new(gid) for gid in DISTINCT_GIDS))
        assert await store.write(finish("order-1"))
        unfinished = [gid for gid in DISTINCT_GIDS if not (await record(store, gid)).finished_ms]
        assert unfinished == [gid for gid in DISTINCT_GIDS if gid != "order-1"]

    async def test_large_content(self, store: Store) -> None:
        body, progress, text = bytes(range(256)) * 4096, b"\x00\xff" * 50_000, "ä😀" * 5_000
        await create(store, new("big", body=body))
        assert await store.write(step("big", progress=progress, reason=text, parked=text))
        stored = await record(store, "big")
        assert (stored.body, stored.progress, stored.reason, stored.parked) == (body, progress, text, text)

    async def test_get_unknown(self, store: Store) -> None:
        assert await store.get("order-1") is None

    async def test_get_sees_what_was_acknowledged(self, store: Store) -> None:
        await create(store, new())
        for number in range(30):
            assert await store.write(step(progress=b"%d" % number))
            assert (await record(store)).progress == b"%d" % number

    async def test_write_stores_the_report(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        before = await record(store)
        await clock.advance(2)
        assert await store.write(step(attempts=3, reason="why", parked="look", lease_ms=5_000, due_in_ms=7_000))
        after = await record(store)
        assert (after.progress, after.attempts, after.reason, after.parked) == (b"p1", 3, "why", "look")
        assert (after.version, after.epoch, after.owner) == (before.version + 1, before.epoch, OWNER)
        assert (after.lease_until_ms, after.due_ms) == (clock.now_ms() + 5_000, clock.now_ms() + 7_000)
        assert (after.updated_ms, after.decided_ms, after.finished_ms) == (clock.now_ms(), 0, 0)
        assert (after.body, after.request_hash, after.created_ms) == (b"body", b"hash", before.created_ms)

    async def test_write_can_leave_the_due_time(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        before = await record(store)
        await clock.advance(2)
        assert await store.write(step(due_in_ms=-1))
        assert (await record(store)).due_ms == before.due_ms

    async def test_write_replaces_attempts_and_parked_but_keeps_the_reason(self, store: Store) -> None:
        await create(store, new())
        await store.write(step(attempts=3, reason="why", parked="look"))
        await store.write(step())
        stored = await record(store)
        assert (stored.attempts, stored.parked, stored.reason) == (0, "", "why")

    async def test_write_gives_up_with_lease_zero(self, store: Store) -> None:
        await create(store, new())
        assert await store.write(step(lease_ms=0, due_in_ms=1_000))
        stored = await record(store)
        assert (stored.owner, stored.lease_until_ms) == ("", 0)
        assert not await store.write(step())
        assert not await store.write(step(owner=""))

    async def test_write_of_another_status_is_dated(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        await clock.advance(1)
        assert await store.write(step(status=Status.ABORTING, due_in_ms=-1))
        stored = await record(store)
        assert (stored.status, stored.decided_ms, stored.finished_ms) == (Status.ABORTING, clock.now_ms(), 0)
        await clock.advance(1)
        assert await store.write(step(expect=Status.ABORTING, status=Status.ABORTING))
        assert (await record(store)).decided_ms == clock.now_ms() - 1_000

    @pytest.mark.parametrize("status", [Status.SUCCEED, Status.FAILED])
    async def test_write_of_a_final_status(self, store: Store, clock: ManualClock, status: Status) -> None:
        await create(store, new())
        before = await record(store)
        await clock.advance(1)
        assert await store.write(finish(status=status, due_in_ms=99))
        after = await record(store)
        assert (after.status, after.progress, after.owner, after.lease_until_ms) == (status, b"end", "", 0)
        assert (after.decided_ms, after.finished_ms) == (clock.now_ms(), clock.now_ms())
        assert after.due_ms == before.due_ms

    @pytest.mark.parametrize(
        "changes",
        [
            {"gid": "order-10"},
            {"gid": "Order-1"},
            {"owner": OTHER},
            {"owner": OWNER.upper()},
            {"owner": ""},
            {"epoch": 0},
            {"epoch": 2},
            {"expect": Status.PREPARED},
            {"expect": Status.ABORTING, "status": Status.FAILED},
        ],
    )
    async def test_write_is_refused(self, store: Store, changes: dict[str, Any]) -> None:
        await create(store, new())
        before = await record(store)
        assert await store.write(step(due_in_ms=1, **{"status": Status.ABORTING, **changes})) is False
        assert await store.get("order-1") == before

    async def test_write_of_an_older_version_is_refused(self, store: Store) -> None:
        await store.create(new())
        late = step(version=1, progress=b"late")
        assert await store.write(step(version=1, progress=b"repeated"))
        before = await record(store)

        assert not await store.write(late)

        assert await record(store) == before
        assert not await store.write(finish(version=1))
        assert await store.write(finish(version=2))

    async def test_write_after_the_end_is_refused(self, store: Store) -> None:
        await create(store, new())
        await store.write(finish())
        before = await record(store)
        for owner in (OWNER, ""):
            assert not await store.write(finish(owner=owner, expect=Status.SUCCEED, status=Status.FAILED))
            assert not await store.write(finish(owner=owner, expect=Status.SUBMITTED))
        assert await store.get("order-1") == before

    async def test_concurrent_writes_form_one_chain(self, store: Store) -> None:
        await create(store, new())
        ends = (finish(progress=b"%d" % number) for number in range(20))
        assert sum(await asyncio.gather(*map(store.write, ends))) == 1
        assert (await record(store)).version == 2

    async def test_decide_applies(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared())
        await clock.advance(1)
        after = await store.decide(submit(body=b"new", request_hash=b"h2", reason="r", result="ok", due_in_ms=3_000))
        assert after == await record(store)
        assert after is not None
        assert (after.status, after.body, after.request_hash) == (Status.SUBMITTED, b"new", b"h2")
        assert (after.reason, after.result, after.epoch, after.version) == ("r", "ok", 2, 2)
        assert (after.owner, after.lease_until_ms) == (OTHER, clock.now_ms() + LEASE_MS)
        assert (after.due_ms, after.decided_ms, after.updated_ms) == (clock.now_ms() + 3_000, *[clock.now_ms()] * 2)

    async def test_decide_keeps_what_is_empty(self, store: Store) -> None:
        await create(store, prepared())
        await store.decide(submit(expect=(Status.PREPARED,), status=Status.PREPARED, reason="r", result="s"))
        after = await store.decide(submit())
        assert after is not None
        assert (after.body, after.request_hash, after.reason, after.result) == (b"body", b"hash", "r", "s")

    @pytest.mark.parametrize("sizes", [(10, 100_000), (100_000, 10), (100_000, 90_000)])
    async def test_decide_replaces_a_body_of_any_size(self, store: Store, sizes: tuple[int, int]) -> None:
        await create(store, prepared(body=b"a" * sizes[0]))
        after = await store.decide(submit(body=b"b" * sizes[1]))
        assert after is not None
        assert after.body == b"b" * sizes[1]
        assert (await record(store)).body == after.body

    async def test_decide_fences_the_driver(self, store: Store) -> None:
        await create(store, new())
        await store.write(step(attempts=4, parked="look"))
        after = await store.decide(submit(expect=(Status.SUBMITTED,), status=Status.ABORTING, owner=""))
        assert after is not None
        assert (after.owner, after.lease_until_ms, after.attempts, after.parked) == ("", 0, 0, "")
        assert after.progress == b"p1"
        assert not await store.write(step())
        assert not await store.write(step(expect=Status.ABORTING, status=Status.ABORTING))

    async def test_decide_final(self, store: Store, clock: ManualClock) -> None:
        await create(store, new())
        before = await record(store)
        after = await store.decide(submit(expect=(Status.SUBMITTED,), status=Status.FAILED, reason="stopped"))
        assert after is not None
        assert (after.finished_ms, after.owner, after.lease_until_ms) == (clock.now_ms(), "", 0)
        assert (after.due_ms, after.reason) == (before.due_ms, "stopped")

    async def test_decide_is_refused(self, store: Store) -> None:
        await create(store, prepared(), new("driven"))
        before = await record(store)
        assert await store.decide(submit("order-10")) is None
        assert await store.decide(submit(expect=(Status.SUBMITTED, Status.ABORTING))) is None
        assert await store.decide(submit(expect=())) is None
        assert await store.decide(submit("driven")) is None
        assert await store.decide(submit(mode="workflow")) is None
        assert await store.decide(submit(mode="workflow", status=Status.SUCCEED)) is None
        assert await store.get("order-1") == before

    async def test_decide_of_the_same_mode_applies(self, store: Store) -> None:
        await create(store, prepared())
        after = await store.decide(submit(mode="tcc"))
        assert after is not None
        assert (after.mode, after.status) == ("tcc", Status.SUBMITTED)

    async def test_decide_never_changes_the_finished(self, store: Store) -> None:
        await create(store, new())
        await store.write(finish())
        before = await record(store)
        assert await store.decide(submit(expect=tuple(Status), status=Status.FAILED)) is None
        assert await store.get("order-1") == before

    async def test_one_of_many_decisions_wins(self, store: Store) -> None:
        await create(store, prepared())
        wishes = [submit(status=status, owner="") for status in (Status.SUBMITTED, Status.ABORTING) for _ in range(20)]
        made = [answer for answer in await asyncio.gather(*map(store.decide, wishes)) if answer]
        assert len(made) == 1
        assert await store.get("order-1") == made[0]
        assert made[0].epoch == 2

    async def test_decision_against_writes(self, store: Store) -> None:
        await create(store, *(new(f"g{i}") for i in range(50)))

        async def both(gid: str) -> None:
            stop = submit(gid, expect=(Status.SUBMITTED,), status=Status.FAILED, reason="stopped")
            wrote, decided = await asyncio.gather(store.write(finish(gid)), store.decide(stop))
            stored = await record(store, gid)
            assert wrote is (decided is None)
            assert stored.status is (Status.SUCCEED if wrote else Status.FAILED)

        await asyncio.gather(*(both(f"g{i}") for i in range(50)))

    async def test_times_follow_a_wall_clock_that_jumps_back(self, store: Store, clock: ManualClock) -> None:
        await create(store, due("a"))
        clock.jump_wall(-3_600)
        assert await store.claim(OTHER, 10, LEASE_MS) == ()
        await create(store, due("b"))
        assert [claimed.record.gid for claimed in await store.claim(OTHER, 10, LEASE_MS)] == ["b"]
        assert [found.gid for found in (await store.list(Filter(), 10)).records] == ["a", "b"]
