"""Cases of register: branches that clients add to a prepared transaction."""

from __future__ import annotations

import asyncio

import pytest

from reefknot.model import Status
from reefknot.store.base import NEVER_MS, BranchRow, Store
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import create, new, prepared, record, row, submit


class RegistrationCases:
    """Branch rows of one transaction."""

    async def test_register_stores_rows_with_the_stores_time(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared())
        await clock.advance(1)
        wanted = BranchRow("01", "confirm", "http://bank/in?a=ä", b"\x00\xff", Status.SUCCEED, 12345)
        kept = BranchRow("01", "confirm", "http://bank/in?a=ä", b"\x00\xff", Status.SUCCEED, clock.now_ms())
        assert await store.register("order-1", "tcc", (wanted,)) == (kept,)
        stored = await record(store)
        assert stored.branches == (kept,)
        assert (stored.updated_ms, stored.epoch, stored.version) == (clock.now_ms(), 1, 1)

    async def test_branches_keep_the_order_of_registration(self, store: Store) -> None:
        await create(store, prepared())
        pairs = [("02", "confirm"), ("02", "cancel"), ("01", "confirm"), ("10", "a"), ("1", "a"), ("01", "Confirm")]
        for pair in pairs:
            await store.register("order-1", "tcc", (row(*pair),))
        assert [(branch.branch_id, branch.op) for branch in (await record(store)).branches] == pairs

    async def test_register_several_at_once(self, store: Store) -> None:
        await create(store, prepared())
        wanted = (row("01", "cancel"), row("01", "confirm"), row("02", "cancel"))
        added = await store.register("order-1", "tcc", wanted)
        assert added is not None
        assert [(branch.branch_id, branch.op) for branch in added] == [(b.branch_id, b.op) for b in wanted]
        assert (await record(store)).branches == added

    async def test_register_nothing(self, store: Store) -> None:
        await create(store, prepared())
        assert await store.register("order-1", "tcc", ()) == ()
        assert await store.register("order-2", "tcc", ()) is None

    async def test_register_again_returns_the_original(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared())
        first = await store.register("order-1", "tcc", (row(),))
        before = await record(store)
        await clock.advance(1)
        assert await store.register("order-1", "tcc", (row(url="http://other", payload=b"x"),), 60_000) == first
        assert await store.get("order-1") == before

    async def test_register_is_all_or_none(self, store: Store) -> None:
        await create(store, prepared())
        first = await store.register("order-1", "tcc", (row("02"),))
        assert await store.register("order-1", "tcc", (row("01"), row("02"), row("03"))) == first
        assert (await record(store)).branches == first

    async def test_existing_rows_come_in_the_order_asked(self, store: Store) -> None:
        await create(store, prepared())
        await store.register("order-1", "tcc", (row("01"), row("02"), row("03")))
        found = await store.register("order-1", "tcc", (row("03"), row("04"), row("01")))
        assert found is not None
        assert [branch.branch_id for branch in found] == ["03", "01"]

    async def test_register_a_pair_twice_in_one_call(self, store: Store) -> None:
        await create(store, prepared())
        with pytest.raises(ValueError, match="twice"):
            await store.register("order-1", "tcc", (row("01"), row("02"), row("01")))
        assert (await record(store)).branches == ()

    async def test_register_needs_a_prepared_transaction_of_the_mode(self, store: Store) -> None:
        await create(store, prepared(), new("submitted", mode="tcc"), prepared("aborted"))
        await store.decide(submit("aborted", status=Status.ABORTING))
        assert await store.register("order-1", "xa", (row(),)) is None
        assert await store.register("order-2", "tcc", (row(),)) is None
        assert await store.register("Order-1", "tcc", (row(),)) is None
        assert await store.register("submitted", "tcc", (row(),)) is None
        assert await store.register("aborted", "tcc", (row(),)) is None
        assert (await record(store)).branches == ()

    async def test_register_moves_the_due_time_only_later(self, store: Store, clock: ManualClock) -> None:
        await create(store, prepared(due_in_ms=10_000))
        start = clock.now_ms()
        for number, (due_in_ms, expected) in enumerate([(-1, 10_000), (5_000, 10_000), (20_000, 20_000)]):
            await store.register("order-1", "tcc", (row(str(number)),), due_in_ms)
            assert (await record(store)).due_ms == start + expected
        await store.register("order-1", "tcc", (row("never"),), NEVER_MS)
        assert (await record(store)).due_ms == NEVER_MS

    async def test_registered_rows_come_with_decisions_and_claims(self, store: Store) -> None:
        await create(store, prepared(), prepared("order-10", due_in_ms=0), prepared("order-1-refund"))
        for gid in ("order-1", "order-10", "order-1-refund"):
            await store.register(gid, "tcc", tuple(row(f"{number:02}", url=gid) for number in range(4)))
        decided = await store.decide(submit("order-1"))
        (claimed,) = await store.claim("node-c", 5, 1_000)
        assert decided is not None
        assert [branch.url for branch in decided.branches] == ["order-1"] * 4
        assert [branch.url for branch in claimed.record.branches] == ["order-10"] * 4

    async def test_thousand_branches(self, store: Store) -> None:
        await create(store, prepared())
        for start in range(0, 1_000, 100):
            await store.register("order-1", "tcc", tuple(row(f"{start + number}") for number in range(100)))
        ids = [branch.branch_id for branch in (await record(store)).branches]
        assert ids == [str(number) for number in range(1_000)]

    async def test_concurrent_registration_of_one_pair(self, store: Store) -> None:
        await create(store, prepared())
        found = await asyncio.gather(*(store.register("order-1", "tcc", (row(payload=b"%d" % i),)) for i in range(30)))
        stored = (await record(store)).branches
        assert len(stored) == 1
        assert set(found) == {stored}

    async def test_registration_against_decision(self, store: Store) -> None:
        """Whatever was acknowledged is in the record of the decision, and nothing else ever is."""
        for number in range(30):
            gid = f"race-{number}"
            await create(store, prepared(gid))
            branches = [row(str(i)) for i in range(6)]
            early = [asyncio.ensure_future(store.register(gid, "tcc", (branch,))) for branch in branches[:3]]
            decision = asyncio.ensure_future(store.decide(submit(gid)))
            late = [asyncio.ensure_future(store.register(gid, "tcc", (branch,))) for branch in branches[3:]]
            answers = await asyncio.gather(*early, *late)
            decided = await decision
            acknowledged = {branch.branch_id for answer in answers if answer for branch in answer}
            assert decided is not None
            assert {branch.branch_id for branch in decided.branches} == acknowledged
            assert (await record(store, gid)).branches == decided.branches
