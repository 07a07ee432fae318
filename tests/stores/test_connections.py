"""How many connections a node has to a database server, and how long: Store.MaxOpenConns and its companions."""

import asyncio
import secrets
import time
from types import SimpleNamespace

import asyncmy
import asyncpg
import pytest

from reefknot.clock import SystemClock
from reefknot.config.schema import Store
from reefknot.config.secret import SecretUrl
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.store.mysql.location import parse_url
from reefknot.testing.conformance.store.building import create, new, record, step, submit
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import mysql as mysql_server

pytestmark = pytest.mark.anyio


async def on_postgres(server):
    """A URL with a user of its own, and its connections by their numbers."""
    name = f"test_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server.url.replace("postgres://", "postgresql://"))
    await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
    await admin.execute(f"GRANT CREATE ON DATABASE test TO {name}")

    async def connections():
        return {row["pid"] for row in await admin.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", name)}

    url = f"postgres://{name}:p@127.0.0.1:{server.port}/test?schema={name}"
    return SimpleNamespace(url=url, connections=connections, close=admin.close, lanes=2)


async def on_mysql(server):
    name = f"test_{secrets.token_hex(6)}"
    where = parse_url(server.create_database(name))
    admin = await asyncmy.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, autocommit=True
    )
    cursor = admin.cursor()
    await cursor.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
    await cursor.execute(f"GRANT ALL ON {name}.* TO {name}")

    async def connections():
        await cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s", (name,))
        return {number for (number,) in await cursor.fetchall()}

    url = f"mysql://{name}:p@127.0.0.1:{server.port}/{name}?ssl=off"
    return SimpleNamespace(url=url, connections=connections, close=admin.ensure_closed, lanes=3)


@pytest.fixture(scope="module")
def mysql():
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    kind = mysql_server.MySqlServer if mysql_server.find_program() else mariadb_server.MariaDbServer
    with kind() as server:
        yield server


@pytest.fixture(params=["postgres", "mysql"])
async def database(request):
    kinds = {"postgres": ("postgres", on_postgres), "mysql": ("mysql", on_mysql)}
    fixture, prepare = kinds[request.param]
    database = await prepare(request.getfixturevalue(fixture))
    yield database
    await database.close()


@pytest.fixture
async def opened(database):
    stores = []

    async def opened(**keys):
        """A store with these keys of the configuration."""
        url = Store(url=SecretUrl(database.url), **keys).location().reveal()
        stores.append(await open_store(url, clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


async def everything_at_once(store, name):
    """Work for every connection that there may be."""
    gids = [f"{name}-{number}" for number in range(60)]
    await asyncio.gather(*(store.create(new(gid)) for gid in gids))
    works = [store.write(step(gid)) for gid in gids]
    works += [store.get(gid) for gid in gids]
    works += [store.wake((gid,)) for gid in gids]
    works += [store.decide(submit(gid)) for gid in gids]
    works += [store.kv_put("topics", gid, "v", 0) for gid in gids]
    await asyncio.gather(*works)


async def watched(database, work):
    """The largest number of connections while something runs."""
    running = asyncio.ensure_future(work)
    most = 0
    while not running.done():
        most = max(most, len(await database.connections()))
        await asyncio.sleep(0.002)
    await running
    return most


async def test_usually_a_node_has_ten_or_eleven_although_more_are_allowed(database, opened):
    store = await opened()
    assert await watched(database, everything_at_once(store, "a")) <= 8 + database.lanes
    assert len(await database.connections()) > database.lanes


async def test_never_more_than_allowed(database, opened):
    store = await opened(max_open_conns=database.lanes + 3)
    for name in "abc":
        assert await watched(database, everything_at_once(store, name)) <= database.lanes + 3
    assert len(await database.connections()) == database.lanes + 3


async def test_no_more_than_wanted_stay_idle(database, opened):
    store = await opened(max_idle_conns=2)
    await everything_at_once(store, "a")
    await asyncio.sleep(0.1)
    assert len(await database.connections()) <= database.lanes + 2
    none = await opened(max_idle_conns=0)
    before = await database.connections()
    await create(none, new("b"))
    assert (await record(none, "b")).version == 1
    await asyncio.sleep(0.1)
    assert len(await database.connections() - before) == 1, "that of the lane of creates"


async def test_old_connections_are_replaced_and_nobody_notices(database):
    store = await open_store(f"{database.url}&lifetime=0.3", clock=SystemClock(), failpoints=disarmed())
    seen = []
    until = time.monotonic() + 1.5
    for number in range(1_000_000):
        if time.monotonic() > until:
            break
        await everything_at_once(store, f"n{number}")
        seen.append(await database.connections())
        assert len(seen[-1]) <= 8 + database.lanes
    await everything_at_once(store, "end")
    assert not seen[0] & await database.connections()
    await store.close()
    await asyncio.sleep(0.1)
    assert await database.connections() == set()
