"""A MariaDB that is killed, frozen or wrongly addressed: what callers get, and what is left afterwards."""

import asyncio
import contextlib
import secrets
import socket
import threading
import time

import asyncmy
import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created
from reefknot.store.mysql.location import parse_url
from reefknot.testing.conformance.store.building import create, finish, new, prepared, record, row, step
from reefknot.testing.databases import mariadb as mariadb_server

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


@pytest.fixture(scope="module")
def server():
    """A server to be treated badly."""
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    with mariadb_server.MariaDbServer() as server:
        yield server


@pytest.fixture
async def opened(server):
    """Opens stores over a new database."""
    url = server.create_database(f"test_{secrets.token_hex(6)}")
    stores = []

    async def opened(options="", url=url):
        stores.append(await open_store(f"{url}?{options}", clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


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
    assert len(acknowledged) > 400
    for gid, version in acknowledged.items():
        stored = await record(store, gid)
        assert stored.version >= version, gid
        assert stored.status is (Status.SUCCEED if stored.version == 3 else Status.SUBMITTED)


async def test_frozen_server_hangs_nobody(server, opened):
    store = await opened("timeout=1")
    await create(store, new("before"), new("b"))
    server.freeze()
    started = time.monotonic()
    try:
        calls = (
            *(store.create(new(f"g{number}")) for number in range(600)),
            *(store.write(step("before")), store.get("before"), store.claim("n", 10, 1_000), store.ping()),
            *(store.kv_get("a", "b"), store.wake(("b",)), store.renew("x", (("b", 1),), 1_000)),
        )
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - started < 4
        assert {type(answer) for answer in answers} == {StoreUnavailable}
    finally:
        server.thaw()
    await asyncio.sleep(0.5)
    assert isinstance(await store.create(new("after")), Created)
    assert (await record(store, "before")).version in (1, 2)
    assert await store.write(step("b"))


async def test_a_restart_while_nobody_asks_is_not_noticed(server, opened):
    store = await opened()
    await create(store, new())
    assert await store.write(step())
    await asyncio.to_thread(server.restart)
    assert await store.write(step())
    assert (await record(store)).version == 3
    await create(store, new("next"))


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
    assert "waiting for MySQL" in caplog.text
    await asyncio.to_thread(server.kill)
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{server.port}/"):
        await opened("wait=0")
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (":{port}/test", ":{port}/nothing", "Unknown database 'nothing'"),
        ("reefknot:", "nobody:", "Access denied"),
        (":{password}@", ":wrong-secret@", "Access denied"),
    ],
)
async def test_refused_by_the_server(server, old, new, words):
    names = {"port": server.port, "password": server._password}
    url = server.url.replace(old.format(**names), new.format(**names))
    started = time.monotonic()
    with pytest.raises(ConfigError, match=words) as caught:
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert time.monotonic() - started < 5
    assert "secret" not in str(caught.value)
    assert server._password not in str(caught.value)


async def test_durability_and_read_only_are_read_from_the_server(server, opened):
    store = await opened()
    where = parse_url(server.url)
    admin = await asyncmy.connect(host=where.host, port=where.port, user=where.user, password=where.password)
    cursor = admin.cursor()
    found = []
    for value in (1, 2, 0):
        await cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = %s", (value,))
        durability = await store.durability()
        assert f"innodb_flush_log_at_trx_commit={value}" in durability.detail
        found.append(durability.level)
    assert found == ["full", "process", "none"]
    await cursor.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    await store.ping()
    for name in ("read_only", "tx_read_only"):
        await cursor.execute(f"SET GLOBAL {name} = 1")
        with pytest.raises(StoreUnavailable, match=rf"takes no writes now \({name}\)"):
            await store.ping()
        await cursor.execute(f"SET GLOBAL {name} = 0")
    await store.ping()
    await admin.ensure_closed()


def test_a_server_that_does_not_start_shows_its_log():
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    with (
        pytest.raises(RuntimeError, match="no_such_setting"),
        mariadb_server.MariaDbServer(settings={"no_such_setting": "1"}),
    ):
        pass


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_proxy_that_hangs_up_at_once_is_an_outage(anyio_backend):
    """As one does whose server is gone. The server's loop is busy, so it sees the end together with the beginning."""

    def hang_up():
        with contextlib.suppress(OSError):
            while True:
                proxy.accept()[0].close()

    async def be_busy():
        while True:
            time.sleep(0.001)
            await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        threading.Thread(target=hang_up, daemon=True).start()
        busy = asyncio.create_task(be_busy())
        for _ in range(10):
            with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}/d"):
                await open_store(f"mysql://u:p@127.0.0.1:{port}/d?wait=0", clock=SystemClock(), failpoints=disarmed())
        busy.cancel()
        proxy.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def other(server):
    """A second server with the same login, which takes over."""
    with mariadb_server.MariaDbServer(password=server._password) as other:
        yield other


@pytest.fixture
async def switched(server, other, front):
    """A store whose address leads to another server now; its connections are to the first, which takes no writes."""
    name = f"test_{secrets.token_hex(6)}"
    for one in (server, other):
        one.create_database(name)
        one._run_sql(f"CREATE USER {name} IDENTIFIED BY 'p'; GRANT ALL ON {name}.* TO {name}")
    second = await open_store(other.url_of(name), clock=SystemClock(), failpoints=disarmed())
    async with front(server.port) as address:
        url = f"mysql://{name}:p@127.0.0.1:{address.port}/{name}?connections=6"
        store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
        for one in (store, second):  # as if it was replicated
            await create(one, prepared(due_in_ms=600_000), new("saga", lease_ms=600_000, due_in_ms=600_000))
            assert await one.write(step("saga", lease_ms=600_000))
        await asyncio.gather(*(store.get("order-1") for _ in range(20)))
        await asyncio.gather(*(store.kv_delete("topics", "none") for _ in range(20)))
        await store.register("order-1", "tcc", ())
        server._run_sql("SET GLOBAL read_only = 1")
        address.leads_to = other.port
        try:
            yield store, second
        finally:
            server._run_sql("SET GLOBAL read_only = 0")
            await store.close()
    await second.close()


async def seen_everywhere(store):
    """What each of the connections for reading says about the branches."""
    records = await asyncio.gather(*(store.get("order-1") for _ in range(20)))
    return {tuple(branch.branch_id for branch in found.branches) for found in records}


async def test_after_a_switch_no_connection_to_the_old_server_is_used(switched):
    store, second = switched
    await second.register("order-1", "tcc", (row("01"),))
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.register("order-1", "tcc", (row("02"),))
    assert await seen_everywhere(store) == {("01",)}
    assert await store.register("order-1", "tcc", (row("02"),))
    assert await seen_everywhere(store) == {("01", "02")}
    assert await store.write(finish("saga"))
    assert isinstance(await store.create(new("next")), Created)
    assert (await second.get("next")).gid == "next"


@pytest.mark.parametrize("what", ["ping", "claim"])
async def test_who_only_asks_finds_the_switch_too(switched, what):
    store, second = switched
    await second.register("order-1", "tcc", (row("01"),))
    with pytest.raises(StoreUnavailable, match=r"takes no writes|read-only"):
        await (store.ping() if what == "ping" else store.claim("n", 10, 60_000))
    await store.ping()
    assert await seen_everywhere(store) == {("01",)}


async def test_who_reads_from_a_server_that_others_left_finds_the_new_one(switched):
    store, second = switched
    await create(second, new("other"))
    await store._lanes[0].close()  # new transactions go to the new server, reads to the old one
    assert (await store.create(new("other"))).gid == "other"


async def test_what_exists_for_the_writer_and_not_for_the_reader_is_an_outage(server, opened):
    store, elsewhere = await opened(), await opened(url=server.create_database(f"test_{secrets.token_hex(6)}"))
    await create(store, new())
    reading, store._reading = store._reading, elsewhere._reading
    try:
        with pytest.raises(StoreUnavailable, match="'order-1' exists and cannot be read"):
            await store.create(new())
    finally:
        store._reading = reading


async def test_a_server_that_is_too_old_is_refused_when_the_store_is_opened():
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    with mariadb_server.MariaDbServer(settings={"version": "10.5.29-MariaDB"}) as old:
        with pytest.raises(ConfigError, match=r"version 10\.5\.29-MariaDB; MariaDB 10\.6\.0 or newer"):
            await open_store(old.url, clock=SystemClock(), failpoints=disarmed())
        assert "reefknot_tx" not in old._run_sql("SHOW TABLES IN test")
