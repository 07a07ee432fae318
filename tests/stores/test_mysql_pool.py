"""What the failure of one request means for others: nothing, as long as a connection is well."""

import asyncio
import secrets

import asyncmy
import pytest

from reefknot.errors import StoreUnavailable
from reefknot.store.mysql.location import parse_url
from reefknot.store.mysql.pool import Pool
from reefknot.store.mysql.schema import PACKAGE
from reefknot.store.mysql.session import Demotions, Session
from reefknot.store.statements import load_statements
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases import mysql as mysql_server

pytestmark = pytest.mark.anyio

WAITS = 60.0


@pytest.fixture(scope="module")
def server():
    if mariadb_server.find_programs() is None:
        pytest.skip("no MariaDB on this machine: apt-get install mariadb-server")
    kind = mysql_server.MySqlServer if mysql_server.find_program() else mariadb_server.MariaDbServer
    with kind() as server:
        yield server


@pytest.fixture
async def admin(server):
    where = parse_url(server.url)
    admin = await asyncmy.connect(
        host=where.host, port=where.port, user=where.user, password=where.password, autocommit=True
    )
    yield admin.cursor()
    await admin.ensure_closed()


@pytest.fixture
async def user(server, admin):
    """A user of its own, whose login can be spoiled."""
    name = f"test_{secrets.token_hex(6)}"
    server.create_database(name)
    await admin.execute(f"CREATE USER {name} IDENTIFIED BY 'p'")
    await admin.execute(f"GRANT ALL ON {name}.* TO {name}")
    return name


@pytest.fixture
async def pool(server, user):
    location = parse_url(f"mysql://{user}:p@127.0.0.1:{server.port}/{user}?ssl=off")
    sql = load_statements(PACKAGE)
    pool = Pool([Session(location, sql, Demotions(), reads=True) for _ in range(2)], WAITS, 2)
    await asyncio.gather(number_of_connection(pool), number_of_connection(pool))
    yield pool
    await pool.close()


async def number_of_connection(pool):
    """Which connection of the server the next request gets."""
    rows = await pool.run(lambda session: session.rows("SELECT CONNECTION_ID(), SLEEP(0.1)"), commits=False)
    return rows[0][0]


async def test_a_request_that_takes_too_long_leaves_the_others_alone(pool):
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await pool.run(lambda session: session.rows("SELECT SLEEP(60)"), seconds=0.2, commits=False)
    for _ in range(5):
        assert await number_of_connection(pool)


async def test_a_lane_whose_statement_failed_takes_the_next_one(server, user):
    """A session alone, as those of the groups are: only a failed connect says something about the server."""
    location = parse_url(f"mysql://{user}:p@127.0.0.1:{server.port}/{user}?ssl=off")
    session = Session(location, load_statements(PACKAGE), Demotions())
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await session.run(lambda session: session.rows("SELECT SLEEP(60)"), seconds=1.0)
    assert await session.run(lambda session: session.rows("SELECT 1")) == [(1,)]
    await session.close()


async def test_one_that_cannot_connect_does_not_stand_before_those_that_are_well(pool, admin, user):
    await admin.execute(f"ALTER USER {user} IDENTIFIED BY 'changed'")
    lost = await number_of_connection(pool)
    await admin.execute(f"KILL {lost}")
    with pytest.raises(StoreUnavailable, match="Access denied"):
        await number_of_connection(pool)
    for _ in range(5):
        assert await number_of_connection(pool) != lost


async def test_a_failed_connect_is_remembered_for_those_who_queued(server, user):
    location = parse_url(f"mysql://{user}:wrong@127.0.0.1:{server.port}/{user}?ssl=off")
    session = Session(location, load_statements(PACKAGE), Demotions())
    failures = []
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="Access denied") as caught:
            await session.run(lambda session: session.rows("SELECT 1"))
        failures.append(caught.value)
    assert session._broken in failures
