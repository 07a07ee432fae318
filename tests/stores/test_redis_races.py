"""Several nodes over one Redis, alone and as a cluster: registrations against decisions, claims against claims."""

import asyncio
import secrets

import pytest

from reefknot.clock import SystemClock
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.store.base import Filter
from reefknot.store.redis.scripts import Script
from reefknot.testing.conformance.store.building import create, due, finish, new, prepared, record, row, step, submit
from reefknot.testing.databases.redis import RedisCluster, RedisServer, find_program
from reefknot.testing.redis_indexes import index_problems

pytestmark = pytest.mark.anyio

if find_program() is None:
    pytest.skip("no Redis on this machine: apt-get install redis-server", allow_module_level=True)


@pytest.fixture(scope="module", params=["alone", "cluster"])
def redis(request):
    with RedisServer("everysec") if request.param == "alone" else RedisCluster(3, "everysec") as redis:
        yield redis


@pytest.fixture
def servers(redis):
    return getattr(redis, "servers", [redis])


@pytest.fixture
def prefix():
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
async def nodes(redis, prefix):
    """Opens any number of stores over one prefix, as many nodes would."""
    stores = []

    async def opened(options=""):
        url = f"{redis.url}?prefix={prefix}{options}"
        stores.append(await open_store(url, clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


async def race(gid, client, decider):
    """Register six branches while another node decides; returns how many were acknowledged and not seen by it."""
    await create(client, prepared(gid))
    calls = [client.register(gid, "tcc", (row(str(number)),)) for number in range(6)]
    *answers, decided = await asyncio.gather(*calls[:3], *calls[3:], decider.decide(submit(gid)))
    acknowledged = {branch.branch_id for answer in answers if answer for branch in answer}
    assert decided is not None
    return len(acknowledged - {branch.branch_id for branch in decided.branches})


async def races(client, decider, count):
    async def some(part):
        return [await race(f"{part}-{number}", client, decider) for number in range(count // 10)]

    return [unseen for found in await asyncio.gather(*map(some, range(10))) for unseen in found]


async def test_no_acknowledged_branch_is_unseen_by_the_decision(nodes):
    unseen = await races(await nodes(), await nodes(), 2_000)
    assert len(unseen) == 2_000
    assert sum(unseen) == 0


async def test_the_race_is_lost_if_the_status_is_not_compared(nodes):
    """Shows that the test above can fail."""
    client, decider = await nodes(), await nodes()
    scripts = client._buckets._scripts
    loose = scripts["register"].text.replace("or old[2] ~= 'prepared'", "")
    assert loose != scripts["register"].text
    scripts["register"] = Script("register", loose)
    assert sum(await races(client, decider, 200)) > 0


async def test_two_nodes_never_claim_the_same_epoch(nodes, servers, prefix):
    stores = [await nodes(), await nodes()]
    await asyncio.gather(*(stores[0].create(due(f"g{number}")) for number in range(3_000)))

    async def claiming(store, name):
        found = []
        for _ in range(6):
            while batch := await store.claim(name, 50, 1):
                found += [(claimed.record.gid, claimed.record.epoch) for claimed in batch]
                if len(found) > 6_000:
                    return found
        return found

    parts = await asyncio.gather(*(claiming(store, f"n{number}") for number, store in enumerate(stores * 2)))
    pairs = [pair for part in parts for pair in part]
    assert len(pairs) == len(set(pairs)) >= 3_000
    assert all(parts)
    assert index_problems(servers, prefix) == []


async def test_one_of_many_creations_over_two_nodes(nodes):
    stores = [await nodes(), await nodes()]
    gids = [f"g{number}" for number in range(200)]
    answers = await asyncio.gather(*(store.create(new(gid)) for gid in gids for store in stores * 2))
    ids = {answer.id for answer in answers}
    assert len(ids) == 200
    assert [found.gid for found in (await stores[0].list(Filter(), 500)).records] == [
        found.gid for found in (await stores[1].list(Filter(), 500)).records
    ]


async def test_indexes_follow_every_change(nodes, servers, prefix):
    store = await nodes()
    await asyncio.gather(*(store.create(new(f"g{number}")) for number in range(60)))
    await create(store, prepared("p"), prepared("q"), due("d"), due("e"))
    await asyncio.gather(*(store.write(finish(f"g{number}")) for number in range(20)))
    await store.write(step("g21", lease_ms=0, parked="look"))
    await store.register("p", "tcc", (row("01"), row("02")))
    await store.register("q", "tcc", (row("01"),), 60_000)
    await store.decide(submit("p"))
    await store.claim("n", 1, 1_000)
    await store.wake(("g1", "g30"))
    await store.wake_later(0, 10)
    await store.release("node-a:1")
    await asyncio.sleep(0.002)
    assert index_problems(servers, prefix) == []
    assert await store.purge(0, 7) == 7
    assert index_problems(servers, prefix) == []


async def test_the_checker_sees_what_is_wrong(nodes, servers, prefix):
    store = await nodes()
    await create(store, new("a"), new("b"), prepared("c"))
    await store.register("c", "tcc", (row(),))
    start = store._servers._starts[store._buckets.of("a")]
    (server,) = [one for one in servers if _holds(one, f"{start}t:a")]
    server.command("PEXPIRE", f"{start}t:a", 1_000_000)
    assert ["time to live" in problem for problem in index_problems(servers, prefix)] == [True]
    server.command("ZREMRANGEBYRANK", f"{start}due", 0, -1)
    assert any("due' lacks" in problem for problem in index_problems(servers, prefix))
    server.command("DEL", f"{start}t:a")
    assert any("too much" in problem for problem in index_problems(servers, prefix))


def _holds(server, key):
    try:
        return server.command("EXISTS", key) == 1
    except RuntimeError:
        return False


async def test_due_entry_without_transaction_is_removed_and_reported(nodes, servers, prefix, caplog):
    store = await nodes()
    await create(store, due("lost"), due("kept"))
    start = store._servers._starts[store._buckets.of("lost")]
    (server,) = [one for one in servers if _holds(one, f"{start}t:lost")]
    server.command("DEL", f"{start}t:lost")
    await asyncio.sleep(0.002)
    found = []
    for _ in range(2):
        found += [claimed.record.gid for claimed in await store.claim("n", 10, 60_000)]
    assert found == ["kept"]
    assert "without a transaction" in caplog.text
    assert (await store.stats()).unfinished == {("saga", "submitted"): 1}
    assert index_problems(servers, prefix) == []


async def test_many_leased_entries_do_not_hide_the_others(nodes):
    """More than one script looks at stand before the one that can be taken."""
    store = await nodes()
    await asyncio.gather(*(store.create(new(f"g{number}", due_in_ms=0)) for number in range(700)))
    await create(store, due("free"))
    await asyncio.sleep(0.002)
    assert [claimed.record.gid for claimed in await store.claim("n", 10, 60_000)] == ["free"]
    assert (await store.stats()).due == 0


async def test_reset_leaves_the_keys_of_others(nodes, redis, servers, prefix):
    store = await nodes()
    other = await open_store(f"{redis.url}?prefix={prefix}x", clock=SystemClock(), failpoints=disarmed())
    await create(store, *(new(f"g{number}") for number in range(50)))
    await create(other, *(new(f"g{number}") for number in range(50)))
    foreign = f"{prefix}{{someone}}:t:else"
    owner = next(server for server in servers if _writes(server, foreign))
    assert await store.reset() == 50
    assert await store.get("g1") is None
    assert (await record(other, "g1")).gid == "g1"
    assert owner.command("GET", foreign) == b"1"
    await other.reset()
    await other.close()


def _writes(server, key):
    try:
        return server.command("SET", key, "1") == b"OK"
    except RuntimeError:
        return False
