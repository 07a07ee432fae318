"""What only the PostgreSQL store promises: the database's time, migrations, schemas, plans, a pooler in front."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import asyncpg
import pytest

from conftest import missing
from reefknot.clock import SystemClock
from reefknot.errors import ConfigError
from reefknot.failpoints import Failpoints, disarmed
from reefknot.model import Status
from reefknot.store import open_store, pending_migrations
from reefknot.store.base import Created, Filter
from reefknot.store.postgres import schema as tables
from reefknot.store.postgres.connections import Connections, Connector
from reefknot.store.postgres.location import parse_url
from reefknot.testing.clock import ShiftedClock
from reefknot.testing.conformance.store.building import create, due, finish, new, prepared, record, row, step, submit
from reefknot.testing.databases.processes import as_account, free_port

pytestmark = pytest.mark.anyio


def ahead(seconds):
    clock = ShiftedClock()
    clock.shift(seconds)
    return clock


@pytest.fixture
async def admin(postgres):
    connection = await asyncpg.connect(postgres.url.replace("postgres://", "postgresql://"))
    yield connection
    await connection.close()


async def test_time_is_the_databases_whatever_the_nodes_clocks_say(nodes):
    """Nodes an hour ahead and behind, and a database in another time zone."""
    early, late = await nodes(clock=ahead(3_600)), await nodes(clock=ahead(-3_600))
    now = time.time() * 1000
    await create(early, new("leased", lease_ms=2_000, due_in_ms=2_000), due("later", due_in_ms=2_000))
    await create(late, due("now"))
    await late.register("now", "tcc", ())
    for store in (early, late):
        assert abs(store.now_ms() - time.time() * 1000) < 200
        for found in (await store.list(Filter(), 10)).records:
            assert abs(found.created_ms - now) < 5_000
    assert [claimed.record.gid for claimed in await early.claim("n", 10, 60_000)] == ["now"]
    assert await late.claim("n", 10, 60_000) == ()
    await asyncio.sleep(2.1)
    assert {claimed.record.gid for claimed in await late.claim("n", 10, 60_000)} == {"leased", "later"}
    stored = await record(early, "leased")
    assert abs(stored.lease_until_ms - time.time() * 1000 - 60_000) < 5_000


async def test_two_nodes_migrate_at_once(postgres, schema, admin):
    url = f"{postgres.url}?schema={schema}"
    assert await pending_migrations(url) == ("0001_initial",)
    assert not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema)
    stores = await asyncio.gather(*(open_store(url, clock=SystemClock(), failpoints=disarmed()) for _ in range(4)))
    assert await pending_migrations(url) == ()
    for store in stores:
        await store.close()
    assert await admin.fetchval(f"SELECT count(*) FROM {schema}.reefknot_schema_version") == 1


async def test_failed_migration_leaves_nothing(postgres, schema):
    url = f"{postgres.url}?schema={schema}"
    with pytest.raises(Exception, match=r"migrate\.step"):
        await open_store(url, clock=SystemClock(), failpoints=Failpoints({"migrate.step": "raise"}))
    assert await pending_migrations(url) == ("0001_initial",)


async def test_tables_of_other_versions(nodes, admin, schema):
    """A newer program may add what this one does not need; it says so when it changes what this one does."""
    await nodes()
    add = f"INSERT INTO {schema}.reefknot_schema_version (version, name, oldest_program) VALUES ($1, 'x', $2)"
    await admin.execute(add, 2, 1)
    await create(await nodes(), new())
    await admin.execute(add, 3, 3)
    with pytest.raises(ConfigError, match="has version 3, this program knows 1"):
        await nodes()


async def test_schema_with_any_name(postgres, admin):
    name = 'A "b" {clock} \'ä; --'
    url = f"{postgres.url}?schema=A%20%22b%22%20%7Bclock%7D%20'%C3%A4;%20--"
    for _ in range(2):
        store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
        await store.create(new())
        assert (await record(store)).gid == "order-1"
        await store.close()
    assert await admin.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name)


async def test_reset_keeps_to_its_schema_and_its_tables(postgres, nodes, admin, schema):
    await admin.execute(f"CREATE SCHEMA {schema}")
    await admin.execute(f"CREATE TABLE {schema}.kv (id int)")
    await admin.execute(f"INSERT INTO {schema}.kv VALUES (1)")
    store = await nodes()
    url = f"{postgres.url}?schema={schema}_b"
    other = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    await create(store, new("a"))
    await create(other, new("a"))
    assert await store.reset() == 1
    assert (await record(other, "a")).gid == "a"
    await other.close()
    assert await admin.fetchval(f"SELECT count(*) FROM {schema}.kv") == 1


async def test_user_without_the_right_to_create(postgres, schema, admin, nodes):
    await admin.execute(f"CREATE ROLE {schema} LOGIN PASSWORD 'p'")
    url = f"postgres://{schema}:p@127.0.0.1:{postgres.port}/test?schema={schema}"
    with pytest.raises(ConfigError, match="reefknot migrate"):
        await open_store(url, clock=SystemClock(), failpoints=disarmed())
    owner = await nodes()
    for object_without_rights in ("schema", "table"):
        with pytest.raises(
            ConfigError, match=f"permission denied for {object_without_rights}.*; give the store's user"
        ):
            await open_store(url, clock=SystemClock(), failpoints=disarmed())
        await admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
    await admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}")
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    assert isinstance(await store.create(new()), Created)
    assert (await record(owner)).gid == "order-1"
    await store.close()


async def test_database_with_another_encoding_or_collation(postgres, admin):
    suffix = secrets.token_hex(4)
    await admin.execute(f"CREATE DATABASE latin_{suffix} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(ConfigError, match="encoding LATIN1"):
        await open_store(postgres.url_of(f"latin_{suffix}"), clock=SystemClock(), failpoints=disarmed())
    try:
        english = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'"
        await admin.execute(f"CREATE DATABASE icu_{suffix} TEMPLATE template0 {english}")
    except asyncpg.PostgresError as error:
        pytest.skip(f"this server has no ICU: {error}")
    store = await open_store(postgres.url_of(f"icu_{suffix}"), clock=SystemClock(), failpoints=disarmed())
    keys = ["B", "a", "a-b", "ab", "b", "Á", "é"]
    for key in keys:
        await store.kv_put("topics", key, key, 0)
        await create(store, new(key))
    assert [entry.key for entry in (await store.kv_list("topics", 10)).entries] == sorted(keys)
    assert [entry.key for entry in (await store.kv_list("topics", 10, "=a")).entries] == sorted(keys)[2:]
    assert await store.write(step("a"))
    await store.close()


HOT = (
    "write",
    "claim",
    "count_unfinished",
    "list_unfinished",
    "list_by_creation",
    "purge",
    "register",
    "get",
    "wake_later",
)


async def test_no_statement_reads_whole_tables(nodes, postgres, schema, admin):
    """With 5,000 finished rows and 20 unfinished ones; the plan is one for any values, as after many calls."""
    store = await nodes()
    await asyncio.gather(*(store.create(new(f"f{number}", status=Status.SUCCEED)) for number in range(5_000)))
    await create(store, *(due(f"d{number}") for number in range(10)), *(new(f"l{number}") for number in range(10)))
    await store.create(prepared("tcc"))
    await store.register("tcc", "tcc", (row(),))
    statements = tables.statements_of(schema)
    connection = await Connector(parse_url(postgres.url)).connect()
    plans = {}
    try:
        for analyzed in (False, True):
            if analyzed:
                await connection.execute(f"ANALYZE {schema}.reefknot_tx")
            for name in HOT:
                await connection.execute("SET plan_cache_mode = force_generic_plan")
                await connection.execute(f"PREPARE p AS {statements[name]}")
                parameters = await connection.fetchval(
                    "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'p'"
                )
                values = ", ".join(["NULL"] * parameters)
                plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE p ({values})")
                await connection.execute("DEALLOCATE p")
                plans[name, analyzed] = nodes_of(json.loads(plan)[0]["Plan"])
    finally:
        await connection.close()
    for (name, _), found in plans.items():
        kinds = {node["Node Type"] for node in found if node.get("Relation Name", "").startswith("reefknot_")}
        assert "Seq Scan" not in kinds, name
    for analyzed in (False, True):
        for name in ("claim", "count_unfinished", "list_unfinished", "wake_later"):
            assert "reefknot_tx_due" in indexes(plans[name, analyzed]), name
        assert "reefknot_tx_pkey" in indexes(plans["write", analyzed])
        assert "Sort" not in {node["Node Type"] for node in plans["claim", analyzed]}


def nodes_of(plan):
    return [plan, *(node for part in plan.get("Plans", ()) for node in nodes_of(part))]


def indexes(plan):
    return {node["Index Name"] for node in plan if "Index Name" in node}


async def test_reports_touch_no_index(nodes, schema, admin):
    store = await nodes()
    await asyncio.gather(*(store.create(new(f"g{number}", body=b"x" * 400)) for number in range(300)))
    await asyncio.gather(*(store.write(step(f"g{number}", progress=b"p" * 80)) for number in range(300)))
    await store.close()
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = 'reefknot_tx'"
    for _ in range(50):
        updated, hot = await admin.fetchrow(query, schema)
        if updated == 300:
            break
        await asyncio.sleep(0.1)
    assert (updated, hot >= 290) == (300, True)


@contextmanager
def pgbouncer(server, directory):
    """A pooler in transaction mode with two connections to the server."""
    port = free_port()
    (directory / "users").write_text(f'"reefknot" "{server._password}"\n')
    (directory / "ini").write_text(
        f"[databases]\ntest = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = plain\nauth_file = {directory}/users\npool_mode = transaction\n"
        "default_pool_size = 2\nunix_socket_dir =\n"
    )
    as_postgres = []
    if os.geteuid() == 0:
        as_postgres = as_account("postgres")
        for path in (directory, directory / "users", directory / "ini"):
            shutil.chown(path, "postgres")
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        missing("pgbouncer", "apt-get install pgbouncer")
    process = subprocess.Popen([*as_postgres, program, "-q", str(directory / "ini")], cwd="/")
    try:
        wait_until_it_listens(port)
        yield server.url.replace(f":{server.port}/", f":{port}/")
    finally:
        # At once: what asks politely may wait for connections.
        process.kill()
        process.wait()


def wait_until_it_listens(port, seconds=20):
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until, f"nothing listens on port {port} after {seconds} s"
            time.sleep(0.02)


async def test_behind_a_transaction_pooler(postgres, schema):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory, pgbouncer(postgres, Path(directory)) as url:
        stores = [
            await open_store(f"{url}?schema={schema}&pooler=1", clock=SystemClock(), failpoints=disarmed())
            for _ in range(2)
        ]

        async def drive(store, name):
            for number in range(10):
                gid = f"{name}-{number}"
                await create(store, prepared(gid))
                assert await store.register(gid, "tcc", (row("01"),))
                decided = await store.decide(submit(gid))
                assert len(decided.branches) == 1
                holder = {"owner": decided.owner, "epoch": decided.epoch}
                assert await store.write(step(gid, **holder))
                assert await store.write(finish(gid, **holder))
                assert (await record(store, gid)).status is Status.SUCCEED

        await asyncio.gather(*(drive(store, f"{n}-{m}") for n, store in enumerate(stores) for m in range(12)))
        assert len((await stores[0].list(Filter(status="succeed"), 1_000)).records) == 240
        for store in stores:
            await store.close()


async def test_connections_are_limited(nodes, admin):
    store = await nodes("&connections=3")
    await create(store, *(new(f"g{number}") for number in range(5)))
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reefknot'"
    before = await admin.fetchval(query)
    await asyncio.gather(*(store.get(f"g{number % 5}") for number in range(300)))
    await asyncio.gather(*(store.write(step(f"g{number}")) for number in range(5)))
    assert await admin.fetchval(query) <= before + 3
    await store.close()
    await asyncio.sleep(0.2)
    assert await admin.fetchval(query) < before


async def test_closing_waits_for_what_runs(nodes):
    store = await nodes()
    await create(store, *(due(f"g{number}") for number in range(20)))
    claims = [asyncio.ensure_future(store.claim(f"n{number}", 5, 1_000)) for number in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert sum(len(claimed) for claimed in await asyncio.gather(*claims)) == 20


async def test_connections_of_a_failed_opening_are_closed(postgres, schema):
    connections = Connections(Connector(parse_url(f"{postgres.url}?schema={schema}")), 2)
    assert await connections.fetch("SELECT 1")
    await connections.close()
    assert all(connection.is_closed() for connection in connections._idle)
