"""Several nodes over one PostgreSQL: registrations against decisions, claims against claims, deadlocks."""

import asyncio
import re
import secrets

import asyncpg
import pytest

from reefknot.errors import StoreUnavailable
from reefknot.store.base import Filter
from reefknot.testing.conformance.store.building import create, due, finish, new, prepared, record, row, step, submit

pytestmark = pytest.mark.anyio

LOCK = re.compile(r"UPDATE (\S+reefknot_tx) t SET .*?(WHERE .*?)RETURNING t\.gid\n\), added", re.DOTALL)

WAITED_FOR = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"


async def race(gid, client, decider):
    """Register six branches while another node decides; returns acknowledged and not seen by the decision."""
    await create(client, prepared(gid))
    calls = [client.register(gid, "tcc", (row(str(number)),)) for number in range(6)]
    *answers, decided = await asyncio.gather(*calls[:3], *calls[3:], decider.decide(submit(gid)))
    acknowledged = {branch.branch_id for answer in answers if answer for branch in answer}
    assert decided is not None
    seen = {branch.branch_id for branch in decided.branches}
    assert seen <= {branch.branch_id for branch in (await record(client, gid)).branches}
    return acknowledged - seen


async def races(client, decider, count, name):
    async def some(part):
        return [len(await race(f"{name}-{part}-{number}", client, decider)) for number in range(count // 10)]

    return [unseen for found in await asyncio.gather(*map(some, range(10))) for unseen in found]


async def test_no_acknowledged_branch_is_unseen_by_the_decision(nodes):
    unseen = await races(await nodes(), await nodes(), 2_000, "locked")
    assert len(unseen) == 2_000
    assert sum(unseen) == 0


@pytest.mark.parametrize("locked", [True, False])
async def test_the_lock_is_what_decides_the_race(nodes, locked):
    """Shows that the test above can fail: registrations that take 5 ms, with and without the lock."""
    client, decider = await nodes(), await nodes()
    slow = client._sql["register"].replace("SELECT now_ms FROM", "SELECT now_ms, pg_sleep(0.005) FROM")
    assert "pg_sleep" in slow
    unlocked, replaced = LOCK.subn(
        r"SELECT t.gid, $9::bigint AS unused FROM \1 t \2), added", slow.replace("FROM clock\n    WHERE", "WHERE")
    )
    assert replaced == 1
    client._sql["register"] = slow if locked else unlocked
    assert (sum(await races(client, decider, 200, "slow")) == 0) is locked


async def test_two_nodes_never_claim_the_same_epoch(nodes):
    stores = [await nodes(), await nodes()]
    await asyncio.gather(*(stores[0].create(due(f"g{number}")) for number in range(2_000)))
    claimed = []

    async def claiming(store, name):
        while found := await store.claim(name, 37, 150):
            claimed.extend((one.record.gid, one.record.epoch, name) for one in found)

    for _ in range(3):
        await asyncio.gather(*(claiming(store, f"n{n}-{i}") for n, store in enumerate(stores) for i in range(3)))
        await asyncio.sleep(0.2)
    pairs = [(gid, epoch) for gid, epoch, _ in claimed]
    assert len(pairs) == len(set(pairs)) >= 6_000
    assert {gid for gid, _ in pairs} == {f"g{number}" for number in range(2_000)}
    assert {name[:2] for _, _, name in claimed} == {"n0", "n1"}
    last = {gid: (epoch, name) for gid, epoch, name in sorted(claimed, key=lambda found: found[1])}
    for gid in ("g0", "g999"):
        stored = await record(stores[1], gid)
        assert (stored.epoch, stored.owner) == last[gid]


async def test_same_gids_created_by_two_nodes(nodes):
    stores = [await nodes(), await nodes()]
    names = [f"g{number}" for number in range(300)]
    calls = [store.create(new(gid, owner=f"n{n}")) for n, store in enumerate(stores) for gid in names[:: 1 - 2 * n]]
    answers = await asyncio.gather(*calls)
    owners = [answer.owner for answer in answers if hasattr(answer, "owner")]
    assert len(owners) == 300
    assert len(answers) == 600


async def test_a_deadlock_is_repeated(nodes, postgres, schema):
    store = await nodes()
    await create(store, new("a"), new("b"))
    other = await asyncpg.connect(postgres.url.replace("postgres://", "postgresql://"))
    touch = f'UPDATE "{schema}".reefknot_tx SET mode = mode WHERE gid = $1'

    async def cross():
        """Let the store and another session each wait for a row of the other; tells whose statement went on."""
        try:
            async with other.transaction():
                await other.execute(touch, "b")
                waking = asyncio.ensure_future(store.wake(("a", "b")))
                while not await other.fetchval(WAITED_FOR):
                    await asyncio.sleep(0.01)
                await other.execute(touch, "a")
        except asyncpg.DeadlockDetectedError:
            return "the store's", await waking
        return "the other's", await waking

    try:
        # The server ends the statement that has waited for a second: the store's, which began to wait first,
        # unless the machine stands still for that long between the two.
        ends = [await cross() for _ in range(3)]
        assert ("the other's", 2) in ends
        assert {count for _, count in ends} == {2}
    finally:
        await other.close()
    assert (await other_deadlocks(postgres)) >= 1


async def other_deadlocks(postgres):
    connection = await asyncpg.connect(postgres.url.replace("postgres://", "postgresql://"))
    try:
        for _ in range(50):
            count = await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = 'test'")
            if count:
                return count
            await asyncio.sleep(0.1)
        return 0
    finally:
        await connection.close()


async def test_cancelled_callers_leave_no_wrong_answers(nodes):
    store = await nodes("&connections=3")
    await create(store, *(new(f"g{number}") for number in range(20)))
    for number in range(200):
        call = asyncio.ensure_future(store.get(f"g{number % 20}"))
        await asyncio.sleep(0.0002 * (number % 7))
        call.cancel()
    assert [(await record(store, f"g{number}")).gid for number in range(20)] == [f"g{number}" for number in range(20)]


async def test_one_value_that_cannot_be_stored_fails_alone(nodes):
    store = await nodes()
    gids = [f"g{number}" for number in range(30)] + ["lone \ud800", secrets.token_hex(10_000)]
    answers = await asyncio.gather(*(store.create(new(gid, owner="")) for gid in gids), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["Created"] * 30 + ["ValueError"] * 2
    assert len((await store.list(Filter(), 100)).records) == 30


async def test_more_writes_of_one_gid_than_a_batch_has_rounds(nodes):
    store = await nodes()
    await create(store, new("a"), new("b"))
    answers = await asyncio.gather(*(store.write(step(gid)) for gid in "ab" * 20), store.write(finish("a")))
    assert answers == [True] * 41
    assert ((await record(store, "a")).version, (await record(store, "b")).version) == (22, 21)


async def test_every_connection_busy(nodes):
    store = await nodes("&connections=1&timeout=0.5")
    held = asyncio.ensure_future(store._connections.fetch("SELECT pg_sleep(5)", seconds=1.5))
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailable, match="every connection is busy"):
        await store.get("a")
    with pytest.raises(StoreUnavailable):
        await held
    assert await store.get("a") is None
