"""Stores: the rows of DTM's own store tests, on the store of this run, without a server."""

import pytest

from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import (
    LEASE_MS,
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

pytestmark = pytest.mark.anyio
SECOND = 1000


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def store(new_store_url, tmp_path, clock):
    opened = await open_store(new_store_url(tmp_path), clock=clock, failpoints=disarmed())
    yield opened
    await opened.close()


async def locked(store, clock, look_ahead):
    """What one node gets of what is due within so many seconds, with its lease, as DTM locks a transaction."""
    clock.jump_wall(look_ahead)
    claimed = await store.claim(OWNER, 1, LEASE_MS)
    clock.jump_wall(-look_ahead)
    return [one.record for one in claimed]


@pytest.mark.conformance("TestStoreSave", differs="a write that is refused says so instead of raising 'not found'")
async def test_store_save(store):
    await create(store, prepared("a"))
    assert await store.register("a", "tcc", (row("01"),)) is not None
    assert await store.register("a", "tcc", (row("02"),)) is not None
    assert [branch.branch_id for branch in (await record(store, "a")).branches] == ["01", "02"]
    assert await store.register("a", "saga", (row("03"),)) is None
    decided = await store.decide(submit("a"))
    assert await store.register("a", "tcc", (row("03"),)) is None
    report = step("a", owner=decided.owner, epoch=decided.epoch)
    assert not await store.write(step("a", owner=decided.owner, epoch=decided.epoch, expect=Status.ABORTING))
    assert (await record(store, "a")).version == decided.version
    assert await store.write(report)
    assert await store.write(finish("a", owner=decided.owner, epoch=decided.epoch))
    assert (await record(store, "a")).status is Status.SUCCEED
    assert [branch.branch_id for branch in (await record(store, "a")).branches] == ["01", "02"]


@pytest.mark.conformance("TestStoreChangeStatus", differs="a refused change says so instead of raising 'not found'")
async def test_store_change_status(store):
    await create(store, prepared("a"))
    assert await store.decide(submit("a", expect=(Status.ABORTING,))) is None
    assert (await record(store, "a")).status is Status.PREPARED
    decided = await store.decide(submit("a"))
    assert decided.status is Status.SUBMITTED
    assert await store.write(finish("a", owner=decided.owner, epoch=decided.epoch))
    ended = await record(store, "a")
    assert (ended.status, ended.finished_ms > 0) == (Status.SUCCEED, True)


@pytest.mark.conformance("TestStoreLockTrans")
async def test_store_lock_trans(store, clock):
    await create(store, due("a", due_in_ms=10 * SECOND))
    [taken] = await locked(store, clock, 20)
    assert taken.gid == "a"
    assert await locked(store, clock, 0) == []
    given_up = step("a", epoch=taken.epoch, lease_ms=0, due_in_ms=30 * SECOND)
    assert await store.write(given_up)
    assert await locked(store, clock, 20) == []
    [taken] = await locked(store, clock, 31)
    assert await store.write(step("a", epoch=taken.epoch, lease_ms=0, due_in_ms=10 * SECOND))
    [taken] = await locked(store, clock, 20)
    assert await store.write(finish("a", epoch=taken.epoch))
    assert await locked(store, clock, 3600) == []


@pytest.mark.conformance("TestStoreResetCronTime")
async def test_store_reset_cron_time(store, clock):
    for number in range(10):
        await create(store, due(f"late-{number}", due_in_ms=110 * SECOND))
    await create(store, due("early", due_in_ms=90 * SECOND))
    assert await locked(store, clock, 2) == []
    assert await store.wake_later(100 * SECOND, 9) == (9, True)
    taken = {(await locked(store, clock, 2))[0].gid for _ in range(9)}
    assert len(taken) == 9
    assert await locked(store, clock, 2) == []
    assert await store.wake_later(100 * SECOND, 10) == (1, False)
    assert len(await locked(store, clock, 2)) == 1
    assert await locked(store, clock, 2) == []
    assert await store.wake_later(88 * SECOND, 10) == (1, False)
    assert [one.gid for one in await locked(store, clock, 2)] == ["early"]
    assert await locked(store, clock, 2) == []
    assert await store.wake_later(88 * SECOND, 10) == (0, False)


@pytest.mark.conformance("TestUpdateBranches", differs="no store writes branches late: every write is durable at once")
async def test_update_branches(store):
    await create(store, new("a"))
    before = await record(store, "a")
    assert await store.write(step("a"))
    after = await record(store, "a")
    assert (after.progress, after.version) == (b"p1", before.version + 1)
    assert (await store.durability()).level in {"full", "crash", "process", "none"}


@pytest.mark.conformance("TestResetTransGlobalCronTime")
async def test_reset_trans_global_cron_time(store, clock):
    await create(store, due("a", due_in_ms=110 * SECOND))
    before = await record(store, "a")
    await clock.advance(5)
    assert await store.wake(("a",)) == 1
    after = await record(store, "a")
    assert after.due_ms == after.updated_ms == clock.now_ms()
    assert after.due_ms != before.due_ms
    assert after.updated_ms != before.updated_ms


async def test_the_store_of_this_run_takes_a_second_client(store):
    assert isinstance(await store.create(new("a")), Created)
    assert (await store.create(new("a", body=b"other"))).body == b"body"
