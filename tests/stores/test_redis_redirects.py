"""Commands that a Redis cluster sends to a server without a connection: one is opened, however many they are."""

import asyncio
import itertools
import secrets
import time

import pytest

from reefknot.clock import SystemClock
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.store.base import Created
from reefknot.store.redis.servers import slot_of
from reefknot.testing.conformance.store.building import new
from reefknot.testing.databases.redis import RedisCluster, RedisServer, find_program

pytestmark = pytest.mark.anyio

if find_program() is None:
    pytest.skip("no Redis on this machine: apt-get install redis-server", allow_module_level=True)

CALLS = 100
PATIENCE_SECONDS = 30.0
SETTINGS = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no", "cluster-node-timeout": "2000"}


@pytest.fixture(scope="module")
def cluster():
    with RedisCluster(3, "off") as cluster:
        yield cluster


@pytest.fixture
async def store(cluster):
    url = f"{cluster.url}?prefix=test-{secrets.token_hex(6)}&timeout=5"
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    yield store
    await store.close()


async def until(holds):
    """Wait until something holds that the store or a server says."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


async def has_connections(server, count):
    """Wait until a server has so many clients, without the one that asks. Those that have asked go a little later."""
    found = []
    end = time.monotonic() + PATIENCE_SECONDS
    while found[-1:] != [count] and time.monotonic() < end:
        found.append(server.command("CLIENT", "LIST", "TYPE", "normal").count(b"\n") - 1)
        await asyncio.sleep(0.02)
    assert found[-1] == count


def gids_of(store, bucket):
    """As many gids as there are calls, all in one bucket."""
    gids = (f"g{number}" for number in itertools.count())
    return list(itertools.islice((gid for gid in gids if store._buckets.of(gid) == bucket), CALLS))


async def fail_over(cluster, master, replica):
    """Let the replica take the place of its master, which answers MOVED from then on."""
    name, own = master.command("CLUSTER", "MYID"), replica.command("CLUSTER", "MYID")
    replica.command("CLUSTER", "MEET", "127.0.0.1", master.port, master.cluster_port)
    await until(lambda: name in replica.command("CLUSTER", "NODES"))
    replica.command("CLUSTER", "REPLICATE", name)
    await until(lambda: all(own in server.command("CLUSTER", "NODES") for server in cluster.servers))
    await until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
    asked = 0.0

    def moved():
        nonlocal asked
        if replica.command("ROLE")[0] != b"master" and time.monotonic() > asked + 3:  # asked again it begins anew
            replica.command("CLUSTER", "FAILOVER")
            asked = time.monotonic()
        return (replica.command("ROLE")[0], master.command("ROLE")[0]) == (b"master", b"slave")

    await until(moved)


class Move:
    """A slot of the first master that goes to the second one, to which the store has no connection any more."""

    def __init__(self, cluster, store, bucket):
        self._slot = slot_of(store._servers._tags[bucket])
        self._servers = cluster.servers
        self._ids = [server.command("CLUSTER", "MYID") for server in cluster.servers]
        self._store = store

    async def begin(self):
        """From now on the first master answers ASK. No script runs in the slot until the end."""
        source, target, _ = self._servers
        target.command("CLUSTER", "SETSLOT", self._slot, "IMPORTING", self._ids[0])
        source.command("CLUSTER", "SETSLOT", self._slot, "MIGRATING", self._ids[1])
        await self.disconnect()

    def end(self):
        """From now on the first master answers MOVED. What the slot held is not needed."""
        source = self._servers[0]
        for key in source.command("CLUSTER", "GETKEYSINSLOT", self._slot, 100):
            source.command("DEL", key)
        for server in (self._servers[1], self._servers[0], self._servers[2]):
            server.command("CLUSTER", "SETSLOT", self._slot, "NODE", self._ids[1])

    @property
    def line(self):
        """The store's connection to the second master, or the last one that it had."""
        return self._store._servers._connections[("127.0.0.1", self._servers[1].port)]

    async def disconnect(self):
        """Close the store's connection to the second master."""
        self._servers[1].command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: self.line.lost)


async def test_a_failover_under_load_opens_one_connection_to_the_new_master(cluster):
    master = cluster.servers[2]  # as the others are needed as they are
    with RedisServer("off", SETTINGS, master.password) as replica:
        store = await open_store(cluster.url, clock=SystemClock(), failpoints=disarmed())
        await fail_over(cluster, master, replica)
        await has_connections(replica, 0)
        answers = await asyncio.gather(*(store.create(new(gid)) for gid in gids_of(store, 23)))
        assert {type(answer) for answer in answers} == {Created}
        await has_connections(replica, 1)
        await store.close()
        await has_connections(replica, 0)


async def test_a_slot_that_is_being_moved_opens_one_connection_to_where_it_goes(cluster, store):
    target = cluster.servers[1]
    move = Move(cluster, store, 1)
    await move.begin()
    calls = [asyncio.create_task(store.create(new(gid))) for gid in gids_of(store, 1)]
    await until(lambda: move.line.lost is None)
    move.end()
    assert {type(answer) for answer in await asyncio.gather(*calls)} == {Created}
    await has_connections(target, 1)


async def test_one_that_waits_no_longer_takes_the_connection_from_nobody(cluster, store):
    target = cluster.servers[1]
    move = Move(cluster, store, 2)
    move.end()
    await move.disconnect()
    target.freeze()
    calls = [asyncio.create_task(store.create(new(gid))) for gid in gids_of(store, 2)]
    await until(lambda: store._servers._attempts)
    for call in calls[::2]:
        call.cancel()
    await asyncio.wait(calls[::2])
    target.thaw()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers[::2]} == {asyncio.CancelledError}
    assert {type(answer) for answer in answers[1::2]} == {Created}
    await has_connections(target, 1)


async def test_a_store_that_is_closed_ends_the_attempt_that_nobody_waits_for(cluster, store):
    target = cluster.servers[1]
    move = Move(cluster, store, 3)
    move.end()
    await move.disconnect()
    target.freeze()
    call = asyncio.create_task(store.create(new(gids_of(store, 3)[0])))
    await until(lambda: store._servers._attempts)
    call.cancel()
    await store.close()
    assert store._servers._attempts == {}
    target.thaw()
    await has_connections(target, 0)


async def test_all_who_wait_for_a_connection_learn_that_it_failed(cluster, store):
    target = cluster.servers[1]
    move = Move(cluster, store, 4)
    move.end()
    await move.disconnect()
    await asyncio.to_thread(target.kill)
    try:
        calls = (store.create(new(gid)) for gid in gids_of(store, 4))
        answers = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        await asyncio.to_thread(target.start)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert f"127.0.0.1:{target.port} cannot be reached" in str(answers[0])
    assert len({id(answer) for answer in answers}) == CALLS, "each raises one of its own"
    assert store._servers._attempts == {}
