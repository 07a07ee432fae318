"""What the store reads from a Redis server, and which servers it refuses."""

import asyncio
from pathlib import Path

import pytest

import reefknot
from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.store.base import Created, Filter
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import create, due, new, record, step
from reefknot.testing.databases.redis import RedisCluster, RedisServer, find_program

pytestmark = pytest.mark.anyio

if find_program() is None:
    pytest.skip("no Redis on this machine: apt-get install redis-server", allow_module_level=True)


RIGHTS = ("+@all", "-@dangerous", "+info", "+role", "+cluster|slots")


def opened(url, clock=None):
    return open_store(url, clock=clock or SystemClock(), failpoints=disarmed())


@pytest.fixture(scope="module")
def server():
    with RedisServer("always") as server:
        yield server


async def test_durability_is_read_each_time(server):
    store = await opened(server.url)
    for settings, level, words in (
        ({"appendfsync": "always"}, "full", "appendfsync=always"),
        ({"appendfsync": "everysec"}, "crash", "last second"),
        ({"appendfsync": "no"}, "process", "one of the machine"),
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, "process", "set no-appendfsync-on-rewrite no"),
        ({"appendfsync": "everysec"}, "process", "no-appendfsync-on-rewrite=yes"),
        ({"appendfsync": "always", "no-appendfsync-on-rewrite": "no"}, "full", "no-appendfsync-on-rewrite=no"),
        ({"appendfsync": "always", "maxmemory-policy": "allkeys-lru"}, "none", "deletes transactions"),
        ({"maxmemory-policy": "noeviction", "appendonly": "no", "save": "60 1"}, "none", "since the last snapshot"),
        ({"save": ""}, "none", "since the start"),
        ({"appendonly": "yes"}, "full", "role=master"),
    ):
        for name, value in settings.items():
            server.command("CONFIG", "SET", name, value)
        found = await store.durability()
        assert (found.level, words in found.detail) == (level, True), found
    await store.close()


async def test_a_cluster_is_as_durable_as_its_weakest_master():
    with RedisCluster(3, "always") as cluster:
        store = await opened(cluster.url)
        assert (await store.durability()).level == "full"
        cluster.servers[2].command("CONFIG", "SET", "appendfsync", "everysec")
        found = await store.durability()
        assert (found.level, f":{cluster.servers[2].port}:" in found.detail) == ("crash", True)
        await store.close()


async def test_a_server_that_may_evict_is_refused():
    with RedisServer("off", {"maxmemory-policy": "volatile-lru"}) as server:
        with pytest.raises(ConfigError, match=r"maxmemory-policy volatile-lru.*allow-eviction=1"):
            await opened(server.url)
        store = await opened(f"{server.url}?allow-eviction=1")
        assert (await store.durability()).level == "none"
        await store.close()


async def test_a_user_with_few_rights(server):
    server.command("ACL", "SETUSER", "node", "on", ">pw", "~bank{*", *RIGHTS)
    host = f"127.0.0.1:{server.port}"
    store = await opened(f"redis://node:pw@{host}?prefix=bank")
    await create(store, new())
    assert await store.write(step())
    found = await store.durability()
    assert (found.level, "appendfsync=not readable" in found.detail) == ("process", True)
    await store.close()
    with pytest.raises((ConfigError, StoreUnavailable), match=r"NOPERM|No permissions|permission"):
        await opened(f"redis://node:pw@{host}?prefix=other&wait=0")
    server.command("ACL", "DELUSER", "node")


async def test_a_user_with_few_rights_in_a_cluster():
    with RedisCluster(2, "off") as cluster:
        for server in cluster.servers:
            server.command("ACL", "SETUSER", "node", "on", ">pw", "~bank{*", *RIGHTS)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
        store = await opened(f"redis+cluster://node:pw@{hosts}?prefix=bank")
        await create(store, new())
        assert await store.write(step())
        await store.close()


def test_the_page_names_these_rights():
    page = Path(reefknot.__file__).parents[2] / "docs/stores/redis.md"
    assert " ".join((*RIGHTS[:-1], "+config|get", RIGHTS[-1])) in page.read_text("utf-8")


async def test_databases_and_prefixes_are_apart(server):
    plain = server.url.removesuffix("/0")
    stores = [await opened(url) for url in (f"{plain}/1?prefix=a", f"{plain}/2?prefix=a", f"{plain}/1?prefix=b")]
    for number, store in enumerate(stores):
        await create(store, new(body=b"%d" % number))
    assert [(await record(store)).body for store in stores] == [b"0", b"1", b"2"]
    assert await stores[0].reset() == 1
    assert [len((await store.list(Filter(), 9)).records) for store in stores] == [0, 1, 1]
    for store in stores:
        await store.close()


async def test_the_number_of_buckets_stays(server):
    store = await opened(f"{server.url}?prefix=five&buckets=5")
    await create(store, *(due(f"g{number}") for number in range(30)))
    await store.close()
    with pytest.raises(ConfigError, match="buckets=6, but the store has 5"):
        await opened(f"{server.url}?prefix=five&buckets=6")
    store = await opened(f"{server.url}?prefix=five")
    assert store._buckets.count == 5
    await asyncio.sleep(0.002)
    assert len(await store.claim("n", 100, 1_000)) == 30
    await store.reset()
    await store.close()
    with pytest.raises(ConfigError, match="has 5"):
        await opened(f"{server.url}?prefix=five&buckets=6")


async def test_keys_of_a_newer_version_are_left_alone(server):
    server.command("HSET", "newer{0}:meta", "layout", "2", "buckets", "1")
    with pytest.raises(ConfigError, match="layout 2; this version knows 1"):
        await opened(f"{server.url}?prefix=newer")


async def test_a_single_server_of_a_cluster_is_recognised():
    with RedisCluster(2, "off") as cluster:
        store = await opened(cluster.servers[0].url)
        assert store._buckets.count == 24
        answers = [await store.create(new(f"g{number}")) for number in range(20)]
        assert {type(answer) for answer in answers} == {Created}
        keys = [server.command("DBSIZE") for server in cluster.servers]
        assert min(keys) > 15
        await store.close()


async def test_time_is_the_servers(server):
    """The node's wall clock is years away; nothing stored shows it."""
    seconds, _ = server.command("TIME")
    store = await opened(f"{server.url}?prefix=time", ManualClock(1_000_000_000_000))
    created = await store.create(new())
    assert abs(created.created_ms / 1000 - int(seconds)) < 5
    assert abs(store.now_ms() / 1000 - int(seconds)) < 5
    stored = await record(store)
    assert stored.lease_until_ms - stored.created_ms == 8_000
    await store.close()


async def test_a_user_without_a_password_is_used(server):
    server.command("ACL", "SETUSER", "alice", "on", "nopass", "~alice{*", "+@all")
    host = f"127.0.0.1:{server.port}"
    store = await opened(f"redis://alice@{host}?prefix=alice")
    await create(store, new())
    assert b"user=alice" in server.command("CLIENT", "LIST")
    await store.close()
    with pytest.raises(ConfigError, match="WRONGPASS"):
        await opened(f"redis://nobody@{host}?prefix=alice&wait=0")
    server.command("ACL", "DELUSER", "alice")


async def test_reset_deletes_a_transaction_whatever_it_is_called(server):
    store = await opened(f"{server.url}?prefix=names&buckets=2")
    gids = ("meta", "a}:meta", "names{0}:meta", "}:t:x", "*")
    await create(store, *(due(gid) for gid in gids))
    assert await store.reset() == len(gids)
    assert [await store.get(gid) for gid in gids] == [None] * len(gids)
    await store.close()
    store = await opened(f"{server.url}?prefix=names")
    assert store._buckets.count == 2
    await create(store, *(due(gid) for gid in gids))
    assert len(await store.claim("n", 10, 60_000)) == len(gids)
    await store.close()
