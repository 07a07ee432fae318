"""A Redis that is killed, frozen, emptied of scripts, moved or replaced while it is used."""

import asyncio
import secrets
import time
from itertools import count

import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created, Filter
from reefknot.store.redis.servers import slot_of
from reefknot.testing.conformance.store.building import create, due, finish, new, prepared, record, row, step, submit
from reefknot.testing.databases.processes import free_port
from reefknot.testing.databases.redis import RedisCluster, RedisServer, find_program
from reefknot.testing.databases.sentinel import RedisSentinel
from reefknot.testing.redis_indexes import index_problems

pytestmark = pytest.mark.anyio

if find_program() is None:
    pytest.skip("no Redis on this machine: apt-get install redis-server", allow_module_level=True)


@pytest.fixture(scope="module")
def server():
    """A server to be treated badly."""
    with RedisServer("always") as server:
        yield server


@pytest.fixture(scope="module")
def cluster():
    with RedisCluster(3, "always") as cluster:
        yield cluster


@pytest.fixture
def prefix():
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
async def opened(prefix):
    stores = []

    async def opened(server, options=""):
        url = f"{server.url}?prefix={prefix}&{options}".rstrip("&")
        stores.append(await open_store(url, clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


async def drive(store, name, stop, acknowledged, errors, wanted=lambda _: True):
    """Sagas one after the other; notes the version of every acknowledged write."""
    gids = (gid for number in count(1) if wanted(gid := f"{name}-{number}"))
    while not stop.is_set():
        gid = next(gids)
        try:
            if isinstance(await store.create(new(gid)), Created):
                acknowledged[gid] = 1
            for write in (step(gid), finish(gid)):
                assert await store.write(write)
                acknowledged[gid] += 1
        except StoreUnavailable as error:
            errors.append(error)
            await asyncio.sleep(0.02)


async def killed_under_load(store, servers, prefix, whole=lambda: None):
    acknowledged, errors, stop = {}, [], asyncio.Event()
    drivers = [asyncio.create_task(drive(store, f"d{n}", stop, acknowledged, errors)) for n in range(16)]
    for victim in servers:
        await asyncio.sleep(1)
        before = len(errors)
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(victim.start)
        assert len(errors) > before
        count = len(acknowledged)
        restarted = time.monotonic()
        while len(acknowledged) < count + 100:
            await asyncio.sleep(0.02)
            assert time.monotonic() - restarted < 5
    stop.set()
    await asyncio.gather(*drivers)
    await asyncio.to_thread(whole)
    assert len(acknowledged) > 500
    for gid, version in acknowledged.items():
        stored = await record(store, gid)
        assert stored.version >= version, gid
        assert stored.status is (Status.SUCCEED if stored.version == 3 else Status.SUBMITTED)
    assert await asyncio.to_thread(index_problems, list(dict.fromkeys(servers)), prefix) == []


async def test_killed_under_load_loses_nothing_and_nobody_restarts_us(server, opened, prefix):
    await killed_under_load(await opened(server), [server] * 3, prefix)


async def test_masters_killed_under_load_lose_nothing(cluster, opened, prefix):
    await killed_under_load(await opened(cluster), cluster.servers, prefix, cluster.wait_until_whole)


async def test_frozen_server_hangs_nobody(server, opened):
    store = await opened(server, "timeout=1")
    await create(store, new("before"), new("b"))
    server.freeze()
    started = time.monotonic()
    try:
        answers = await asyncio.gather(
            *(store.create(new(f"g{number}")) for number in range(600)),
            *(store.write(step("before")), store.get("before"), store.claim("n", 10, 1_000), store.list(Filter(), 5)),
            *(store.stats(), store.kv_get("a", "b"), store.ping(), store.durability(), store.purge(0, 10)),
            return_exceptions=True,
        )
        assert time.monotonic() - started < 3
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        again = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port} did not answer for 1 s"):
            await store.get("before")
        assert time.monotonic() - again < 3
    finally:
        server.thaw()
    await asyncio.sleep(0.3)
    assert isinstance(await store.create(new("after")), Created)
    assert (await record(store, "before")).version in (1, 2)
    assert await store.write(step("b"))


async def test_one_frozen_master_stops_only_its_part(cluster, opened):
    store = await opened(cluster, "timeout=1")
    gids = [f"g{number}" for number in range(90)]
    await create(store, *map(new, gids))
    cluster.servers[1].freeze()
    try:
        answers = await asyncio.gather(*(store.write(step(gid)) for gid in gids), return_exceptions=True)
        kinds = [type(answer) for answer in answers]
        assert set(kinds) == {bool, StoreUnavailable}
        assert 15 <= kinds.count(StoreUnavailable) <= 45
        alive = gids[kinds.index(bool)]
        started = time.monotonic()
        assert (await record(store, alive)).version == 2
        assert time.monotonic() - started < 0.5
    finally:
        cluster.servers[1].thaw()
    await asyncio.sleep(0.3)
    assert all([await store.write(step(gid)) for gid in gids])


@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_recovery_and_purge_go_on_where_masters_answer(cluster, opened, caplog, how):
    for server in cluster.servers:
        server.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
    store = await opened(cluster, "timeout=1")
    names = [f"{kind}{number}" for kind in ("due", "later", "done", "held") for number in range(60)]
    lost = {gid for gid in names if store._servers._places[store._buckets.of(gid)][1] == cluster.servers[2].port}
    there = {kind: {gid for gid in names if gid.startswith(kind)} - lost for kind in ("due", "later", "done", "held")}
    assert 40 < len(lost) < 120
    await asyncio.gather(
        *(store.create(due(gid)) for gid in names if gid.startswith("due")),
        *(store.create(due(gid, due_in_ms=1_200_000)) for gid in names if gid.startswith("later")),
        *(store.create(new(gid, status=Status.SUCCEED)) for gid in names if gid.startswith("done")),
        *(store.create(new(gid, lease_ms=600_000, due_in_ms=600_000)) for gid in names if gid.startswith("held")),
    )
    held = tuple((gid, 1) for gid in names if gid.startswith("held"))
    (cluster.servers[2].freeze if how == "freeze" else cluster.servers[2].kill)()
    try:
        assert {one.record.gid for one in await store.claim("n", 300, 600_000)} == there["due"]
        assert await store.claim("n", 300, 600_000) == ()
        assert await store.wake_later(900_000, 300) == (len(there["later"]), True)
        assert await store.wake(tuple(names)) == len(names) - len(lost)
        with pytest.raises(StoreUnavailable):
            await store.wake((min(lost),))
        assert await store.purge(-1_000, 300) == len(there["done"])
        assert await store.release("node-a:1") == len(there["held"])
        for answer in (store.renew("n", held, 1_000), store.ping(), store.stats(), store.list(Filter(), 300)):
            with pytest.raises(StoreUnavailable):
                await answer
        assert caplog.text.count("are left out of recovery and purge") == 1
    finally:
        if how == "freeze":
            cluster.servers[2].thaw()
        else:
            await asyncio.to_thread(cluster.servers[2].start)
    for server in cluster.servers:
        server.command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    await asyncio.to_thread(cluster.wait_until_whole)
    until = time.monotonic() + 30
    found = set()
    while not found >= {gid for gid in lost if gid.startswith("due")}:
        found |= {one.record.gid for one in await store.claim("n", 300, 600_000)}
        assert time.monotonic() < until
    assert await store.purge(-1_000, 300) == len([gid for gid in lost if gid.startswith("done")])


async def test_lost_connections_are_replaced(server, opened):
    store = await opened(server)
    await create(store, new())
    server.command("CLIENT", "KILL", "TYPE", "normal")
    await asyncio.sleep(0.05)
    assert await store.write(step())


async def test_forgotten_scripts_are_sent_again(server, opened):
    store = await opened(server)
    await create(store, new())
    server.command("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(store.write(step(progress=b"%d" % n)) for n in range(20))) == [True] * 20
    server.command("SCRIPT", "FLUSH")
    assert len(await store.claim("n", 10, 1_000)) == 0
    assert (await store.stats()).unfinished == {("saga", "submitted"): 1}


async def test_a_cancelled_caller_disturbs_nobody(server, opened):
    store = await opened(server)
    tasks = [asyncio.create_task(store.create(new(f"g{number}"))) for number in range(200)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in answers[1::2]} == {Created}
    for number in range(1, 200, 2):
        assert (await record(store, f"g{number}")).id == answers[number].id


async def test_full_server_refuses_and_changes_nothing(server, opened):
    store = await opened(server)
    await create(store, new())
    before = await record(store)
    server.command("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await store.write(step())
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await store.ping()
        assert await record(store) == before
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")
    assert await store.write(step())


async def test_opening_waits_for_the_server(opened, caplog):
    with RedisServer("off") as server:
        await asyncio.to_thread(server.kill)
        opening = asyncio.create_task(opened(server, "wait=20"))
        await asyncio.sleep(1.2)
        assert not opening.done()
        await asyncio.to_thread(server.start)
        await opening
        assert "waiting for Redis" in caplog.text
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port} cannot be reached"):
            await opened(server, "wait=0.1")


async def test_slots_that_move_are_followed(cluster, opened, prefix):
    """MOVED for what has moved, ASK and TRYAGAIN while it does, under load."""
    store = await opened(cluster)
    tags = store._servers._tags
    acknowledged, errors, stop = {}, [], asyncio.Event()
    moved = [lambda gid: store._buckets.of(gid) == 0] * 6 + [lambda _: True] * 2
    drivers = [
        asyncio.create_task(drive(store, f"d{n}", stop, acknowledged, errors, wanted)) for n, wanted in enumerate(moved)
    ]
    await asyncio.sleep(0.3)
    source, target = cluster.servers[:2]
    await asyncio.to_thread(move_slot, cluster, source, target, slot_of(tags[0]))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(move_slot, cluster, target, source, slot_of(tags[0]))
    stop.set()
    await asyncio.gather(*drivers)
    assert errors == []
    for gid, version in acknowledged.items():
        assert (await record(store, gid)).version == version == 3
    assert await asyncio.to_thread(index_problems, cluster.servers, prefix) == []


def move_slot(cluster, source, target, slot):
    """Move a slot as redis-cli does."""
    ids = {server.port: server.command("CLUSTER", "MYID") for server in (source, target)}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    login = ("AUTH", source.password)
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 20):
        # Slowly, so that commands meet a slot that is half here and half there.
        time.sleep(0.01)
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, *login, "KEYS", *keys)
    for server in (target, source, *cluster.servers):
        server.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])


async def test_sentinel_finds_the_new_master(prefix):
    with RedisServer("always") as master, RedisServer("always", password=master.password) as replica:
        replica.command("REPLICAOF", "127.0.0.1", master.port)
        with RedisSentinel(master) as sentinel:
            # The first of the two sentinels does not answer.
            url = sentinel.url.replace("@", f"@127.0.0.1:{free_port()},") + f"?prefix={prefix}"
            store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
            await create(store, new())
            until = time.monotonic() + 20
            while b"state=online" not in master.command("INFO", "replication") or sentinel.replicas() != 1:
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
            await asyncio.to_thread(master.kill)
            while True:
                try:
                    stored = await store.get("order-1")
                    break
                except StoreUnavailable:
                    assert time.monotonic() < until
                    await asyncio.sleep(0.1)
            assert stored is not None
            assert await store.write(step())
            assert f":{replica.port}:" in (await store.durability()).detail
            await store.close()


async def test_a_replica_takes_no_writes(opened):
    with RedisServer("off") as master, RedisServer("off", password=master.password) as replica:
        store = await opened(replica, "timeout=2")
        await create(store, due())
        replica.command("REPLICAOF", "127.0.0.1", master.port)
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await store.create(new("x"))
        with pytest.raises(StoreUnavailable, match="replica"):
            await store.create(new("x"))
        replica.command("REPLICAOF", "NO", "ONE")
        await asyncio.sleep(0.2)
        assert isinstance(await store.create(new("y")), Created)


async def test_branches_and_decisions_survive_a_kill(server, opened):
    store = await opened(server)
    await create(store, prepared())
    await store.register("order-1", "tcc", (row("01"), row("02")))
    decided = await store.decide(submit())
    await store.kv_put("topics", "t", "v", 0)
    await asyncio.to_thread(server.restart, kill=True)
    assert await record(store) == decided
    assert (await store.kv_get("topics", "t")).value == "v"


async def test_wrong_login_is_a_configuration_error(server):
    url = server.url.replace(server.password, "wrong-secret")
    with pytest.raises(ConfigError, match="WRONGPASS") as caught:
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="NOAUTH"):
        await open_store(f"redis://127.0.0.1:{server.port}", clock=SystemClock(), failpoints=disarmed())


async def test_finish_is_in_time_order(server, opened):
    store = await opened(server)
    await create(store, new("a"), new("b"))
    for gid in "ba":
        assert await store.write(finish(gid))
        await asyncio.sleep(0.003)
    assert await store.purge(0, 1) == 1
    assert await store.get("b") is None
