"""The rows of DTM's own store tests (store_test.go), each under its name."""

import secrets

import pytest

from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Decision
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import create, due, finish, prepared, record, row, step, submit

pytestmark = pytest.mark.anyio
LEASE_MS = 2_000


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(
    params=[
        *("memory://", "sqlite:///{directory}/store.db", "{postgres}?schema={name}&clock=process"),
        "{mysql}?clock=process",
        *("{redis}?prefix={name}&clock=process", "{redis_cluster}?prefix={name}&clock=process"),
    ],
    ids=["memory", "sqlite", "postgres", "mysql", "redis", "redis cluster"],
)
async def store(request, tmp_path, clock):
    needed = [name for name in ("postgres", "mysql", "redis", "redis_cluster") if f"{{{name}}}" in request.param]
    servers = {name: request.getfixturevalue(name).url for name in needed}
    url = request.param.format(directory=tmp_path, name=f"dtm_{secrets.token_hex(6)}", **servers)
    store = await open_store(url, clock=clock, failpoints=disarmed())
    yield store
    await store.close()


async def claimed_gids(store, limit=1):
    return [claimed.record.gid for claimed in await store.claim("node-b", limit, LEASE_MS)]


async def test_store_save(store):
    await create(store, prepared())
    await store.register("order-1", "tcc", (row("01"),))
    await store.register("order-1", "tcc", (row("02"),))
    assert [branch.branch_id for branch in (await record(store)).branches] == ["01", "02"]
    wrong = Decision("order-1", (Status.SUBMITTED,), Status.SUCCEED)
    assert await store.decide(wrong) is None
    assert (await record(store)).status is Status.PREPARED
    done = await store.decide(Decision("order-1", (Status.PREPARED,), Status.SUCCEED))
    assert done is not None
    assert done == await record(store)
    assert done.status is Status.SUCCEED


async def test_store_change_status(store):
    await create(store, prepared())
    assert await store.decide(submit(expect=(Status.ABORTING,))) is None
    driven = await store.decide(submit())
    assert driven.status is Status.SUBMITTED
    holder = {"owner": driven.owner, "epoch": driven.epoch}
    assert not await store.write(finish(**holder, expect=Status.PREPARED))
    assert await store.write(finish(**holder))
    assert (await record(store)).status is Status.SUCCEED


async def test_store_lock_trans(store, clock):
    await create(store, due(due_in_ms=10_000))
    assert await claimed_gids(store) == []
    await clock.advance(20)
    (claimed,) = await store.claim("node-b", 1, LEASE_MS)
    holder = {"owner": "node-b", "epoch": claimed.record.epoch}
    assert await store.write(step(**holder, lease_ms=0, due_in_ms=30_000))
    await clock.advance(20)
    assert await claimed_gids(store) == []
    await clock.advance(10)
    (claimed,) = await store.claim("node-b", 1, LEASE_MS)
    assert await store.write(finish(owner="node-b", epoch=claimed.record.epoch))
    await clock.advance(3_600)
    assert await claimed_gids(store) == []


async def test_store_reset_cron_time(store):
    await create(store, *(due(f"late{number}", due_in_ms=110_000) for number in range(10)))
    await create(store, due("soon", due_in_ms=90_000))
    assert await claimed_gids(store) == []
    assert await store.wake_later(100_000, 9) == (9, True)
    assert [len(await claimed_gids(store)) for _ in range(10)] == [1] * 9 + [0]
    assert await store.wake_later(100_000, 10) == (1, False)
    assert [len(await claimed_gids(store)) for _ in range(2)] == [1, 0]
    assert await store.wake_later(88_000, 10) == (1, False)
    assert [await claimed_gids(store) for _ in range(2)] == [["soon"], []]
    assert await store.wake_later(88_000, 10) == (0, False)


async def test_update_branches(store):
    """DTM's stores without SQL do nothing here; ours keep a branch's outcome in the progress of its transaction."""
    await create(store, prepared())
    await store.register("order-1", "tcc", (row("01"),))
    driven = await store.decide(submit())
    assert await store.write(step(owner=driven.owner, epoch=driven.epoch, progress=b"branch 01 succeed"))
    stored = await record(store)
    assert stored.progress == b"branch 01 succeed"
    assert stored.branches == driven.branches


async def test_reset_trans_global_cron_time(store, clock):
    await create(store, due(due_in_ms=90_000))
    before = await record(store)
    await clock.advance(5)
    assert await store.wake(("order-1",)) == 1
    after = await record(store)
    assert after.due_ms == after.updated_ms == clock.now_ms()
    assert (after.due_ms, after.updated_ms) != (before.due_ms, before.updated_ms)
    assert await claimed_gids(store) == ["order-1"]
