"""What only the SQLite store promises: one server per file, kills, migrations, the query plans."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import apsw
import msgspec
import pytest

from reefknot.clock import SystemClock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints, disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Created, Filter, Write
from reefknot.store.sqlite import host
from reefknot.store.sqlite.database import PACKAGE
from reefknot.store.statements import load_migrations, load_statements
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store.building import create, due, finish, new, record, step
from reefknot.testing.databases.processes import freeze

pytestmark = pytest.mark.anyio

#: Creates transactions as fast as it can and prints each gid after it was acknowledged.
LOADER = """
import asyncio, sys
from reefknot.clock import SystemClock
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.testing.conformance.store.building import finish, new, step

async def drive(store, name):
    for number in range(1_000_000):
        gid = f"{name}-{number}"
        await store.create(new(gid))
        print("created", gid, flush=True)
        assert await store.write(step(gid))
        print("stepped", gid, flush=True)
        assert await store.write(finish(gid))
        print("finished", gid, flush=True)

async def main():
    store = await open_store(sys.argv[1], clock=SystemClock(), failpoints=disarmed())
    print("open", store._host.pid, flush=True)
    await asyncio.gather(*(drive(store, f"d{number}") for number in range(16)))

asyncio.run(main())
"""


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def opened(path, clock=None, failpoints=None):
    url = f"sqlite:///{path}"
    return open_store(url, clock=clock or SystemClock(), failpoints=failpoints or disarmed())


def loader(path):
    command = [sys.executable, "-c", textwrap.dedent(LOADER), f"sqlite:///{path}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_second_process_is_refused(path):
    store = await opened(path)
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(LOADER), f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert f"ConfigError: {path} is in use by process {os.getpid()}" in second.stderr
    with pytest.raises(ConfigError, match="in use"):
        await opened(path)
    await store.close()
    await (await opened(path)).close()


async def test_killed_under_load_keeps_every_acknowledged_write(path):
    with loader(path) as process:
        writer_pid = int(process.stdout.readline().split()[1])
        lines = [process.stdout.readline() for _ in range(900)]
        process.kill()
        rest = process.stdout.read()
    acknowledged = "".join(lines) + rest.rpartition("\n")[0]
    store = await opened(path)
    try:
        assert not alive(writer_pid)
        expected = {}
        for line in acknowledged.splitlines():
            what, gid = line.split()
            expected[gid] = what
        assert len(expected) >= 300
        least = {"created": 1, "stepped": 2, "finished": 3}
        unfinished = set()
        for gid, what in expected.items():
            stored = await record(store, gid)
            assert stored.version >= least[what]
            assert stored.status is (Status.SUCCEED if stored.version == 3 else Status.SUBMITTED)
            if not stored.finished_ms:
                unfinished.add(gid)
        claimed = await store.claim("next", 1_000, 8_000)
        assert unfinished <= {found.record.gid for found in claimed}
        assert all(0 < found.abandoned_ms <= found.record.updated_ms for found in claimed)
    finally:
        await store.close()


async def test_nobody_gets_the_file_while_an_orphaned_writer_is_at_work(path):
    with loader(path) as process:
        writer_pid = int(process.stdout.readline().split()[1])
        process.stdout.readline()
        freeze([writer_pid])
        process.kill()
    try:
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
            await opened(path)
    finally:
        os.kill(writer_pid, signal.SIGCONT)
    await (await opened(path)).close()


async def test_the_writer_process_ignores_the_terminal_and_ends_with_its_parent(path):
    store = await opened(path)
    pid = store._host.pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    await create(store, new())
    assert store._host.pid == pid
    await store.close()
    assert not alive(pid)


async def test_killed_writer_process_is_unknown_then_service_again(path):
    store = await opened(path)
    await create(store, new("before"))
    pid = store._host.pid
    freeze([pid])
    pending = [asyncio.ensure_future(store.create(new(f"g{number}"))) for number in range(5)]
    await asyncio.sleep(0.05)
    late = asyncio.ensure_future(store.create(new("late")))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    answers = await asyncio.gather(*pending, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 5
    assert isinstance(await late, Created)
    assert store._host.pid != pid
    assert await store.write(step("before"))
    await store.close()


async def test_opening_ends_the_leases_of_the_last_process(path):
    clock = ManualClock()
    store = await opened(path, clock)
    await create(store, new("driven"), new("over", lease_ms=1_000, due_in_ms=60_000), due("free", due_in_ms=90_000))
    await store.close()
    over_ms = clock.now_ms() + 1_000
    await clock.advance(3)
    store = await opened(path, clock)
    claimed = await store.claim("next", 10, 8_000)
    assert {found.record.gid: found.abandoned_ms for found in claimed} == {"driven": clock.now_ms(), "over": over_ms}
    assert not await store.write(step("driven"))
    await store.close()


async def test_poison_fails_alone(path):
    store = await opened(path)
    gids = ["a", "b", "\udc80", "c", "d"]
    answers = await asyncio.gather(*(store.create(new(gid)) for gid in gids), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Created, Created, type(answers[2]), Created, Created]
    assert isinstance(answers[2], ValueError)
    too_large = await asyncio.gather(store.wake_later(2**70, 1), store.create(new("e")), return_exceptions=True)
    assert isinstance(too_large[0], (ValueError, OverflowError))
    assert isinstance(too_large[1], Created)
    assert [found.gid for found in (await store.list(Filter(), 9)).records] == ["e", "d", "c", "b", "a"]
    await store.close()


async def test_migrations_run_once_and_a_newer_file_is_refused(path):
    for _ in range(2):
        store = await opened(path)
        await store.close()
    database = apsw.Connection(str(path))
    versions = database.execute("SELECT version, name FROM schema_version").fetchall()
    assert versions == [(step.version, step.name) for step in load_migrations(PACKAGE)]
    database.execute("INSERT INTO schema_version VALUES (99, 'future', 0)")
    database.close()
    with pytest.raises(ConfigError, match="schema version 99"):
        await opened(path)


async def test_a_migration_that_dies_leaves_nothing_half_done(path):
    with pytest.raises(RuntimeError):
        await opened(path, failpoints=Failpoints({"migrate.step": "raise"}))
    store = await opened(path)
    await create(store, new())
    await store.close()


async def test_foreign_and_damaged_files_are_refused(path):
    path.write_bytes(b"these are no tables " * 200)
    with pytest.raises(ConfigError, match="is not an SQLite database"):
        await opened(path)
    path.unlink()
    await (await opened(path)).close()


async def test_settings_are_durable(path):
    store = await opened(path)
    durability = await store.durability()
    assert durability.level in {"full", "process"}
    assert "journal_mode=wal, synchronous=2" in durability.detail
    assert (durability.level == "process") is ("tmpfs" in durability.detail)
    await store.close()


async def test_purge_in_slices_lets_others_through(path):
    failpoints = Failpoints({"purge.half_deleted": "sleep:0"})
    clock = ManualClock()
    store = await opened(path, clock=clock, failpoints=failpoints)
    await asyncio.gather(*(store.create(new(f"g{number}", status=Status.SUCCEED)) for number in range(1_100)))
    await clock.advance(1)
    assert await store.purge(0, 5_000) == 1_100
    assert failpoints.hits["purge.half_deleted"] == 2
    await store.close()


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        ("get", ("g",), "sqlite_autoindex_tx_1"),
        ("find_due", (0, 10), "tx_due"),
        ("find_later", (0, 1, 10), "tx_due"),
        ("list_by_creation", ("", "", 0, 1, 1, 0, 9), "tx_created"),
        ("list_failed", ("failed", "", 0, 1, 1, 0, 9), "tx_failed"),
        ("list_unfinished", ("prepared", "", 0, 1, 1, 0, 9), "tx_due"),
        ("find_old", (0, 10), "tx_created"),
        ("count_unfinished", (0,), "tx_due"),
        ("release", ("owner", 0), "tx_due"),
        ("get_branches", (1,), "sqlite_autoindex_branch_1"),
    ],
)
async def test_queries_use_an_index(path, statement, values, index):
    await (await opened(path)).close()
    database = apsw.Connection(str(path))
    plan = [line[3] for line in database.execute("EXPLAIN QUERY PLAN " + load_statements(PACKAGE)[statement], values)]
    assert f"INDEX {index}" in plan[0], json.dumps(plan)
    if statement in ("find_due", "list_by_creation", "list_failed", "find_old"):
        assert not any("TEMP B-TREE" in line for line in plan), json.dumps(plan)
    database.close()


async def test_a_refused_write_in_a_batch_leaves_the_others(path):
    store = await opened(path)
    await create(store, *(new(f"g{number}") for number in range(10)))
    writes = [finish(f"g{number}", owner="x" if number == 4 else new().owner) for number in range(10)]
    assert await asyncio.gather(*map(store.write, writes)) == [number != 4 for number in range(10)]
    assert isinstance(writes[0], Write)
    await store.close()


def test_a_killed_server_that_left_answers_unread_ends_its_writer_quietly(tmp_path, monkeypatch):
    async def make():
        store = await open_store(f"sqlite:///{tmp_path}/w.db", clock=SystemClock(), failpoints=disarmed())
        await store.close()

    asyncio.run(make())
    server, writer = socket.socketpair()
    server.settimeout(20)
    problems = []
    monkeypatch.setattr(threading, "excepthook", problems.append)
    serving = threading.Thread(target=host.serve, args=(writer, tmp_path / "w.db"), daemon=True)
    serving.start()
    message = msgspec.msgpack.encode([])
    server.sendall((len(message).to_bytes(4, "big") + message) * 2)
    assert server.recv(1, socket.MSG_PEEK)
    server.close()  # with an answer unread: the other end sees a reset, not an end
    serving.join(20)
    assert (serving.is_alive(), problems) == (False, [])
