"""A PostgreSQL that is killed, frozen, late or full: what callers get, and what is left afterwards."""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created, Filter
from reefknot.testing.conformance.store.building import create, finish, new, prepared, record, row, step
from reefknot.testing.databases.postgres import PostgresServer

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


@pytest.fixture(scope="module")
def server():
    """A server to be treated badly."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def opened(server, schema):
    """Opens stores over a new schema."""
    stores = []

    async def opened(options=""):
        url = f"{server.url}?schema={schema}&{options}"
        stores.append(await open_store(url, clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture
async def admin(server):
    connection = await asyncpg.connect(server.url.replace("postgres://", "postgresql://"))
    yield connection
    await connection.close()


async def drive(store, name, stop, acknowledged, errors):
    """Sagas one after the other; notes the version of every acknowledged write."""
    number = 0
    while not stop.is_set():
        number += 1
        gid = f"{name}-{number}"
        try:
            if isinstance(await store.create(new(gid)), Created):
                acknowledged[gid] = 1
            for write in (step(gid), finish(gid)):
                assert await store.write(write)
                acknowledged[gid] += 1
        except StoreUnavailable as error:
            errors.append(error)
            await asyncio.sleep(0.02)


async def test_killed_under_load_loses_nothing_and_nobody_restarts_us(server, opened):
    store = await opened()
    acknowledged, errors, stop = {}, [], asyncio.Event()
    drivers = [asyncio.create_task(drive(store, f"d{n}", stop, acknowledged, errors)) for n in range(16)]
    for _ in range(3):
        await asyncio.sleep(1)
        before = len(errors)
        await asyncio.to_thread(server.restart, kill=True)
        assert len(errors) > before
        count = len(acknowledged)
        restarted = time.monotonic()
        while len(acknowledged) < count + 100:
            await asyncio.sleep(0.02)
            assert time.monotonic() - restarted < 5
    stop.set()
    await asyncio.gather(*drivers)
    assert len(acknowledged) > 500
    for gid, version in acknowledged.items():
        stored = await record(store, gid)
        assert stored.version >= version, gid
        assert stored.status is (Status.SUCCEED if stored.version == 3 else Status.SUBMITTED)


async def test_frozen_server_hangs_nobody(server, opened):
    store = await opened("timeout=1")
    await create(store, new("before"), new("b"))
    server.freeze()
    started = time.monotonic()
    calls = (
        *(store.create(new(f"g{number}")) for number in range(600)),
        *(store.write(step("before")), store.get("before"), store.claim("n", 10, 1_000), store.list(Filter(), 5)),
        *(store.stats(), store.kv_get("a", "b"), store.ping()),
    )
    try:
        # A listing may take long; everything else is answered after the time of one command and one connect.
        quick = asyncio.gather(*calls[:603], store.kv_get("a", "b"), store.ping(), return_exceptions=True)
        for call in calls[603:]:
            call.close()
        answers = await quick
        assert time.monotonic() - started < 4
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        with pytest.raises(StoreUnavailable):
            await store.get("before")
    finally:
        server.thaw()
    await asyncio.sleep(0.5)
    assert isinstance(await store.create(new("after")), Created)
    assert (await record(store, "before")).version in (1, 2)
    assert await store.write(step("b"))


async def test_store_that_is_gone_says_so_and_returns(server, opened):
    store = await opened()
    await create(store, new())
    await asyncio.to_thread(server.kill)
    for call in (store.create(new("x")), store.write(step()), store.get("order-1"), store.ping(), store.stats()):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            await call
    await asyncio.to_thread(server.start)
    await asyncio.sleep(0.4)
    assert await store.write(step())
    assert isinstance(await store.create(new("x")), Created)


async def test_opening_waits_for_the_server(server, opened, caplog):
    await asyncio.to_thread(server.kill)
    opening = asyncio.create_task(opened("wait=20"))
    await asyncio.sleep(1.2)
    assert not opening.done()
    await asyncio.to_thread(server.start)
    await opening
    assert "waiting for PostgreSQL" in caplog.text
    await asyncio.to_thread(server.kill)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}/test"):
        await opened("wait=0.1")
    await asyncio.to_thread(server.start)


async def test_opening_waits_for_a_unix_socket_that_is_not_there_yet(schema, caplog):
    folder = Path(tempfile.mkdtemp(prefix="reefknot-socket-"))  # short: the path of a socket has at most 107 characters
    folder.chmod(0o777)
    try:
        with PostgresServer(settings={"unix_socket_directories": str(folder)}) as server:
            host = f"@{quote(str(folder), safe='')}:{server.port}/"
            url = server.url.replace(f"@127.0.0.1:{server.port}/", host) + f"?schema={schema}"
            await asyncio.to_thread(server.kill)
            for path in folder.iterdir():
                path.unlink()
            with pytest.raises(StoreUnavailable, match="No such file"):
                await open_store(f"{url}&wait=0", clock=SystemClock(), failpoints=disarmed())
            opening = asyncio.create_task(open_store(f"{url}&wait=120", clock=SystemClock(), failpoints=disarmed()))
            while "waiting for PostgreSQL" not in caplog.text:
                assert not opening.done(), opening
                await asyncio.sleep(0.05)
            await asyncio.to_thread(server.start)
            store = await opening
            await store.ping()
            await store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (":{port}/test", ":{port}/nothing", 'database "nothing" does not exist'),
        ("reefknot:", "nobody:", "password authentication failed"),
        (":{password}@", ":wrong-secret@", "password authentication failed"),
    ],
)
async def test_refused_by_the_server(postgres, old, new, words):
    names = {"port": postgres.port, "password": postgres._password}
    url = postgres.url.replace(old.format(**names), new.format(**names))
    started = time.monotonic()
    with pytest.raises(ConfigError, match=words) as caught:
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert time.monotonic() - started < 5
    assert "secret" not in str(caught.value)
    assert postgres._password not in str(caught.value)


async def test_tls_is_asked_for(postgres):
    with pytest.raises(StoreUnavailable, match="SSL"):
        await open_store(f"{postgres.url}?sslmode=require&wait=0", clock=SystemClock(), failpoints=disarmed())


async def test_too_many_connections(server, schema, admin):
    """The user may have four connections, one node takes three: what the other asks is refused and later served."""
    await admin.execute(f"CREATE ROLE {schema} LOGIN PASSWORD 'p' CONNECTION LIMIT 4")
    await admin.execute(f"GRANT CREATE ON DATABASE test TO {schema}")
    url = f"postgres://{schema}:p@127.0.0.1:{server.port}/test?schema={schema}&connections=1"
    first, second = [await open_store(url, clock=SystemClock(), failpoints=disarmed()) for _ in range(2)]
    await create(first, new("a"))
    assert await first.write(step("a"))
    with pytest.raises(StoreUnavailable, match="too many connections"):
        await second.create(new("b"))
    await first.close()
    await asyncio.sleep(0.4)
    await create(second, new("c"))
    assert await second.write(step("a"))
    await second.close()


async def test_durability_is_read_from_the_server(opened, admin):
    store = await opened()
    found = []
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        found.append((await store.durability()).level)
        await admin.execute(f"ALTER SYSTEM SET {setting} = off")
        await admin.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.5)
        durability = await store.durability()
        assert f"{setting}=off" in durability.detail
        found.append(durability.level)
        await admin.execute(f"ALTER SYSTEM RESET {setting}")
        await admin.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.5)
    assert found == ["full", "process", "full", "crash", "full", "none"]


async def test_standby_or_read_only_server_takes_no_writes(opened, admin):
    store = await opened()
    await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await admin.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(0.5)
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        await store.ping()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.create(new())
    await admin.execute("SET transaction_read_only = off")
    await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await admin.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def other(server):
    """A second server with the same login, which takes over."""
    other = PostgresServer()
    other._password = server._password
    with other:
        yield other


@pytest.fixture
async def switched(server, other, front, schema, admin):
    """A store whose address leads to another server now; its connections are to the first, which takes no writes."""
    second = await open_store(f"{other.url}?schema={schema}", clock=SystemClock(), failpoints=disarmed())
    async with front(server.port) as address:
        url = server.url.replace(f":{server.port}/", f":{address.port}/")
        store = await open_store(f"{url}?schema={schema}", clock=SystemClock(), failpoints=disarmed())
        for one in (store, second):  # as if it was replicated
            await create(one, prepared(due_in_ms=600_000), new("saga", lease_ms=600_000, due_in_ms=600_000))
            assert await one.write(step("saga", lease_ms=600_000))
        await asyncio.gather(*(store.get("order-1") for _ in range(20)))
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        while not await store.ask_time():
            await asyncio.sleep(0.05)
        address.leads_to = other.port
        try:
            yield store, second
        finally:
            await admin.execute("SET transaction_read_only = off")
            await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await admin.execute("SELECT pg_reload_conf()")
            await store.close()
    await second.close()


async def seen_everywhere(store):
    """What each of the connections says about the branches."""
    records = await asyncio.gather(*(store.get("order-1") for _ in range(20)))
    return {tuple(branch.branch_id for branch in found.branches) for found in records}


async def test_after_a_switch_no_connection_to_the_old_server_is_used(switched):
    store, second = switched
    await second.register("order-1", "tcc", (row("01"),))
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.create(new("next"))
    assert await seen_everywhere(store) == {("01",)}
    assert await store.write(finish("saga"))
    assert await store.register("order-1", "tcc", (row("02"),))
    assert isinstance(await store.create(new("next")), Created)
    assert (await second.get("next")).gid == "next"


async def test_the_health_check_finds_the_switch_too(switched):
    store, second = switched
    await second.register("order-1", "tcc", (row("01"),))
    with pytest.raises(StoreUnavailable, match="takes no writes"):
        await store.ping()
    await store.ping()
    assert await seen_everywhere(store) == {("01",)}


async def test_who_reads_from_a_server_that_others_left_finds_the_new_one(switched):
    store, second = switched
    await create(second, new("other"))
    # New transactions go to the new server, reads to the old one.
    await store._creates._connections._hang_up(store._creates._connections._idle.pop())
    assert (await store.create(new("other"))).gid == "other"


async def test_what_exists_for_the_writer_and_not_for_the_reader_is_an_outage(server, opened):
    store = await opened()
    await create(store, new())
    elsewhere = await open_store(f"{server.url}?schema=elsewhere", clock=SystemClock(), failpoints=disarmed())
    get, store._sql["get"] = store._sql["get"], elsewhere._sql["get"]
    with pytest.raises(StoreUnavailable, match="'order-1' exists and cannot be read"):
        await store.create(new())
    store._sql["get"] = get
    await elsewhere.close()
