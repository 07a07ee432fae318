"""The rows of stores that exist: private database servers, and what ``make bench`` does with them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import pytest

from reefknot.bench import report, sharing
from reefknot.bench.processes import BenchError, cpu_us
from reefknot.bench.rows import Plan, Row, Storage, durability_of, fresh_store, row
from reefknot.bench.scenarios import Fact
from reefknot.bench.selection import choose
from reefknot.bench.targets import Report
from reefknot.clock import SystemClock
from reefknot.failpoints import Failpoints
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import Filter, NewTransaction

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"
SECONDS = 120


@pytest.fixture
def directory():
    """A directory that the database server's own user may enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp(prefix="reefknot-test-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def plan(directory):
    return Plan(0.5, 0.2, directory)


def bench(directory, *words, **environment):
    """Run what ``make bench`` runs."""
    return subprocess.run(
        [sys.executable, str(RUN), *words],
        env={**os.environ, "TMPDIR": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def processes_with(text):
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def stored(url, *, add=0):
    """The number of transactions in a store, after adding some."""

    async def main():
        store = await open_store(url, clock=SystemClock(), failpoints=Failpoints())
        try:
            for number in range(add):
                await store.create(NewTransaction(f"mine-{number}", "saga", Status.SUCCEED, b"", bytes(16)))
            return len((await store.list(Filter(), 100)).records)
        finally:
            await store.close()

    return anyio.run(main)


@pytest.mark.slow
def test_a_row_on_a_private_server_has_figures_and_leaves_nothing(postgres, directory):
    page = directory / "results.md"
    done = bench(directory, "--quick", "--rows", "postgres/saga/16", "--json", "--write", str(page))
    assert done.returncode == 0, done.stderr
    assert "starting mariadb" not in done.stderr
    told = json.loads(done.stdout)
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["echo/16", "postgres/ceiling", "postgres/saga/16"]
    saga = rows["postgres/saga/16"]
    assert 20 < saga["rate"] < rows["echo/16"]["rate"]
    assert 5 < saga["database_us"] == saga["busiest_us"] < 20_000
    assert 5 < rows["postgres/ceiling"]["database_us"] < 20_000
    assert 30 < saga["server_us"] < 20_000
    assert saga["echo_ratio"] == pytest.approx(saga["rate"] / rows["echo/16"]["rate"])
    assert 0 < saga["ceiling_ratio"] < 1
    assert told["stores"]["postgres"].startswith("full: PostgreSQL")
    assert told["machine"]["database servers"].startswith("postgres (PostgreSQL) 1")
    assert "fsync=on, synchronous_commit=on" in page.read_text()
    page.unlink()
    page.with_suffix(".json").unlink()
    assert list(directory.iterdir()) == []
    assert processes_with(str(directory)) == []


def test_a_terminated_run_stops_its_servers(postgres, directory):
    command = [sys.executable, str(RUN), "--rows", "postgres/saga/1"]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(directory)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert b"tx/s" in process.stdout.readline()  # the servers run and the rows begin
    assert processes_with(str(directory)) != []
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    until = time.monotonic() + 10
    while processes_with(str(directory)):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert list(directory.iterdir()) == []


def test_a_server_that_is_not_installed_is_named_and_left_out(directory):
    page = directory / "results.md"
    script = (
        "import runpy, sys\n"
        "import reefknot.testing.databases.mariadb as mariadb\n"
        "mariadb.find_programs = lambda: None\n"
        f"sys.argv = ['run.py', '--quick', '--rows', 'wait/1', '--store', 'mariadb', '--store', 'memory',"
        f" '--write', {str(page)!r}]\n"
        f"runpy.run_path({str(RUN)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert "mariadb is left out: no MariaDB" in done.stderr
    text = page.read_text()
    assert "* mariadb: no MariaDB: apt-get install mariadb-server" in text
    assert "| memory/wait/1 |" in text


def test_a_store_with_something_in_it_is_not_touched(mysql):
    assert stored(mysql.url, add=3) == 3
    with pytest.raises(BenchError, match="the store is not empty"):
        durability_of(Storage("mine", mysql.url))
    words = ["bench", "--quick", "--rows", "mine/saga/1", "--store", f"mine={mysql.url}"]
    done = subprocess.run(
        [sys.executable, "-m", "reefknot", *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 1
    assert "mine FAILED: the store is not empty; every row would delete what is in it" in done.stderr
    assert stored(mysql.url) == 3


def test_a_row_that_was_stopped_empties_its_store(redis, plan):
    def stopped():
        with fresh_store(plan, Storage("stopped", redis.url)):
            assert stored(redis.url, add=3) == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert stored(redis.url) == 0


def test_a_row_that_lost_its_store_tells_the_first_reason(mariadb, mysql, plan):
    def lost():
        with fresh_store(plan, Storage("lost", mysql.url)):
            mariadb._run_sql(f"DROP DATABASE {mysql.url.rpartition('/')[2]}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lost()


def test_two_processes_claim_everything_once(redis, plan):
    storage = Storage("redis", redis.url, tuple(redis.pids))
    facts = {fact.name: fact for fact in sharing.claims(plan, storage)}
    assert list(facts) == ["redis/claims/1", "redis/claims/2", "redis/claims/2/twice"]
    assert facts["redis/claims/1"].value > 100
    assert facts["redis/claims/2/twice"].value == 0
    assert "2,500 due, batches of 100" in facts["redis/claims/2"].text
    assert stored(redis.url) == 0


def test_two_nodes_share_the_work_and_call_every_branch_once(mysql, mariadb, plan):
    rows, facts = sharing.nodes(plan, Storage("mysql", mysql.url, tuple(mariadb.pids)))
    before, two, after = rows
    assert [one.name.partition(" ")[2] for one in rows] == ["one node, before", "two nodes", "one node, after"]
    assert min(one.database_us for one in rows) > 5
    share, twice = facts
    assert share.value == pytest.approx(two.rate / ((before.rate + after.rate) / 2) * 100)
    assert twice.value == 0
    assert f"for {two.transactions:,} sagas" in twice.text
    assert stored(mysql.url) == 0


def test_each_master_of_a_cluster_is_counted(redis_cluster, plan):
    measured = row(plan, Storage("cluster", redis_cluster.url, tuple(redis_cluster.pids)), "saga", 16)
    assert measured.database_us * 0.33 < measured.busiest_us < measured.database_us * 0.6  # of a third each, about


def test_the_cpu_of_a_server_is_that_of_its_children_too():
    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    command = [sys.executable, "-c", burn + "print('burnt', flush=True)\ntime.sleep(60)"]
    parent = f"import subprocess, time\nsubprocess.Popen({command!r})\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline() == b"burnt\n"  # by the child, which lives
        assert 480_000 < cpu_us(process.pid) < 5_000_000
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    with pytest.raises(BenchError, match="is gone"):
        cpu_us(process.pid)


def test_rows_of_a_store_that_exists():
    names = [name for name, _ in choose(Plan(1.0, 0.5, Path("/tmp")), [Storage("pg", "postgres://")], [])]
    assert names[3:] == [
        "pg/ceiling",
        "pg/saga/64",
        "pg/saga/16",
        "pg/saga/1",
        "pg/wait/1",
        "pg/claims",
        "pg/nodes",
    ]
    done = bench(Path("/tmp"), "--list")
    listed = done.stdout.splitlines()
    assert {"sqlite/1m", "postgres/nodes", "mariadb/claims", "redis-off/saga/64", "redis-cluster-3/saga/64"} <= {
        *listed
    }
    assert "postgres/purge" in listed
    assert "redis-cluster-3/claims" not in listed
    assert "starting" not in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--store", "a b=memory://"], "'a b' is no name for a store"),
        (["--store", "pg=postgres://h/a", "--store", "postgres://h/b", "--store", "pg=x"], "two stores are called pg"),
        (["--store", "memory", "--store-pid", "pg=1"], "--store-pid pg=1: write NAME=PID"),
        (["--store", "memory", "--store-pid", "memory=one"], "write NAME=PID"),
    ],
)
def test_a_store_that_is_named_wrongly_is_refused(words, text):
    done = subprocess.run(
        [sys.executable, "-m", "reefknot", "bench", "--list", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert text in done.stderr


def test_targets_of_the_stores_stand_beside_the_figures_of_go_dtm():
    rows = [
        Row(name="postgres/saga/64", transactions=1, rate=4_500.0, server_us=201.0, database_us=90.0),
        *(
            Row(name=f"redis-cluster-{n}/saga/64", transactions=1, rate=1.0, busiest_us=us)
            for n, us in ((1, 100.0), (2, 59.0), (3, 41.0))
        ),
    ]
    facts = [Fact("postgres/claims/2/twice", 1, "claimed twice", ""), Fact("postgres/nodes/share", 95.0, "%", "")]
    lines = report.target_lines(Report(made="", machine={}, rows=rows, facts=facts, failures=[]))
    cells = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]
    assert cells == [
        ["4,500.0 sagas/s", "560-710", "met"],
        ["201.0 µs", "1,376-1,687", "**not met**"],
        ["1.0 claimed twice", "-", "**not met**"],
        ["95.0 %", "-", "met"],
        ["59.0 %", "-", "met"],
        ["41.0 %", "-", "**not met**"],
    ]
