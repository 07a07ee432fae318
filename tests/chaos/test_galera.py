"""Three MariaDB servers that commit together, one of which is written to, until it dies."""

import asyncio
import secrets
import subprocess
import time

import pytest

from chaos.conftest import SETTINGS, missing
from chaos.front import Front
from chaos.load import Load
from chaos.test_nodes import wait_until_quiet
from chaos.watch import StoreWatch
from reefknot.clock import SystemClock
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created
from reefknot.testing.conformance.store.building import create, due, new, prepared, record, row, step, submit
from reefknot.testing.databases.galera import GaleraCluster, find_provider
from reefknot.testing.invariants import violations
from reefknot.testing.server import ServerProcess

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: A node that is gone is left behind after 3 s, see ``GaleraCluster``; the rest is for a busy machine.
RECOVERY_SECONDS = 20.0


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def cluster():
    if find_provider() is None:
        missing("Galera")
    with GaleraCluster() as cluster:
        yield cluster


@pytest.fixture
def database(cluster):
    """A new database, by its URL on each server."""
    name = f"test_{secrets.token_hex(6)}"
    cluster.servers[0].create_database(name)
    return [server.url_of(name) for server in cluster.servers]


@pytest.fixture
async def opened(database):
    """Opens a store on one of the servers."""
    stores = []

    async def opened(number, options=""):
        url = f"{database[number]}{options}"
        stores.append(await open_store(url, clock=SystemClock(), failpoints=disarmed()))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


@pytest.mark.anyio
async def test_durability_names_the_cluster_and_goes_by_the_servers_own_settings(cluster, opened):
    store = await opened(0)
    found = await store.durability()
    assert (found.level, found.detail.split("; ")[-1]) == ("full", "Galera cluster of 3")
    cluster.servers[0]._run_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        found = await store.durability()
        assert (found.level, "Galera cluster of 3" in found.detail) == ("process", True)
    finally:
        cluster.servers[0]._run_sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


@pytest.mark.anyio
async def test_a_new_connection_sees_what_another_server_acknowledged(cluster, opened):
    """A server that was late with applying, as one may be when it takes over."""
    writer, late = await opened(0), await opened(1, "?max_idle=0")
    await create(writer, new("before"))
    while await late.get("before") is None:
        await asyncio.sleep(0.02)
    held = await asyncio.create_subprocess_exec(
        *cluster.servers[1].client_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    # Holds back whatever the server would apply, until the client ends.
    held.stdin.write(b"FLUSH TABLES WITH READ LOCK; SELECT 'held';\n")
    await held.stdout.readline()
    try:
        await create(writer, new("after"))
        reading = asyncio.ensure_future(late.get("after"))
        await asyncio.sleep(0.5)
        assert not reading.done(), "it waits for what the other one has acknowledged"
    finally:
        held.stdin.close()
        await held.wait()
    assert (await reading).gid == "after"


@pytest.mark.anyio
async def test_two_writers_conflict_and_are_still_right(cluster, opened):
    """Not what is recommended: who comes second at the commit is rolled back and repeats its work."""
    stores = [await opened(0), await opened(1)]
    before = conflicts(cluster)
    gids = [f"g{number}" for number in range(100)]
    answers = await asyncio.gather(*(store.create(new(gid)) for gid in gids for store in stores))
    assert sum(isinstance(answer, Created) for answer in answers) == len(gids)
    await asyncio.gather(*(stores[0].create(due(f"d{number}")) for number in range(200)))
    claimed = []

    async def claiming(store, name):
        for _ in range(12):
            claimed.extend((one.record.gid, one.record.epoch) for one in await store.claim(name, 20, 60_000))

    await asyncio.gather(*(claiming(store, f"n{number}") for number, store in enumerate(stores)))
    assert len(claimed) == len(set(claimed)) == 200
    unseen = 0
    for number in range(50):
        await create(stores[0], prepared(f"p{number}"))
        calls = [stores[1].register(f"p{number}", "tcc", (row(str(branch)),)) for branch in range(4)]
        *rows, decided = await asyncio.gather(*calls, stores[0].decide(submit(f"p{number}")))
        acknowledged = {branch.branch_id for answer in rows if answer for branch in answer}
        unseen += len(acknowledged - {branch.branch_id for branch in decided.branches})
    assert unseen == 0
    assert conflicts(cluster) > before


def conflicts(cluster):
    """How many transactions the servers have rolled back for another server's sake."""
    names = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")
    return sum(int(server.status(name)) for server in cluster.servers for name in names)


@pytest.mark.anyio
async def test_a_server_without_the_others_takes_nothing(cluster, opened):
    """Two of three are gone: the third must not go on alone, as they may."""
    store = await opened(0, "?timeout=2")
    await create(store, new())
    for server in cluster.servers[1:]:
        server.freeze()
    try:
        with pytest.raises(StoreUnavailable):
            await store.write(step())
        await asyncio.sleep(4)
        with pytest.raises(StoreUnavailable):
            await store.create(new("b"))
        with pytest.raises(StoreUnavailable):
            await store.ping()
    finally:
        for server in cluster.servers[1:]:
            server.thaw()
    await asyncio.to_thread(cluster.wait_until_joined, 3)
    assert isinstance(await store.create(new("c")), Created)
    assert (await record(store)).version in (1, 2)


@pytest.fixture
def start_nodes(tmp_path):
    """Starts server processes over a store; what is left of them is killed."""
    nodes = []

    def start(count, url, **settings):
        chosen = {f"REEFKNOT_{key.upper()}": str(value) for key, value in settings.items()}
        for number in range(count):
            log = tmp_path / f"node-{number}.log"
            nodes.append(ServerProcess(url, environment={**SETTINGS, **chosen}, log=log))
            nodes[-1].start()
        return nodes

    yield start
    for node in nodes:
        node.kill()


def test_the_writer_dies_under_load_and_another_takes_over(cluster, database, start_nodes, seed, seconds):
    first, second, _ = cluster.servers
    with Front(first.port) as front:
        url = database[0].replace(f":{first.port}/", f":{front.port}/")
        nodes = start_nodes(2, url, lease_seconds=3)
        with StoreWatch(f"{url}?timeout=20") as watch, Load(nodes, seed, rate=25.0, patience_seconds=20.0) as load:
            time.sleep(seconds / 4)
            killed = time.time()
            first.kill()
            front.switch(second.port)
            while not any(answer.status == 200 and answer.started > killed for answer in load.answers):
                assert time.time() - killed < RECOVERY_SECONDS
                time.sleep(0.05)
            recovered = time.time() - killed
            time.sleep(seconds / 4)
            first.start()  # it fetches what it missed; the second stays in charge
            cluster.wait_until_joined(3)
            load.stop()
            quiet = wait_until_quiet(watch)
            history, _ = load.history()
    refused = [answer for answer in load.answers if answer.status == 503]
    print(
        f"{len(history.final)} transactions, {len(refused)} times 503, "
        f"first success {recovered:.1f} s after the kill, quiet after {quiet:.1f} s"
    )
    assert load.wrong == []
    assert refused or recovered > 1, "nobody noticed that the writer was gone"
    broken = violations(history)
    assert not broken, load.story(history, broken)
    assert {"succeed", "failed"} == {one.status for one in history.final}
    acknowledged = {ack.gid for ack in load.acks}
    assert acknowledged == {one.gid for one in history.final} & acknowledged
    asyncio.run(same_on_every_server(database, acknowledged))


async def same_on_every_server(urls, gids):
    """Each of the three has every transaction as ended."""
    for url in urls:
        store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
        for gid in gids:
            stored = await store.get(gid)
            assert stored is not None, (url, gid)
            assert stored.status in (Status.SUCCEED, Status.FAILED)
        await store.close()
