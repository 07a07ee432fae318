"""Databases and the Go program of the interoperation tests.

``INTEROP_STORES=all`` runs every case against every store of the server instead of most against
SQLite only; ``make interop`` does.
"""

from __future__ import annotations

import os
import secrets

import pytest

from interop.bank import MariaDbBank, PostgresBank, RedisBank
from interop.peers import build_go
from reefknot.testing.databases.postgres import PostgresServer


@pytest.fixture(scope="session")
def xa_postgres(postgres):
    """PostgreSQL with prepared transactions, which XA needs; ``postgres`` skips or fails where there is none."""
    with PostgresServer(fsync=False, settings={"max_prepared_transactions": "20"}) as server:
        yield server


@pytest.fixture(scope="session")
def banks(mariadb, xa_postgres, redis):
    """Accounts in each database, by the database's name."""
    on_mariadb = MariaDbBank(mariadb.create_database(f"bank_{secrets.token_hex(6)}"), "dtm_barrier.barrier")
    yield {"mariadb": on_mariadb, "postgres": PostgresBank(xa_postgres.url), "redis": RedisBank(redis)}
    on_mariadb.close()


@pytest.fixture(scope="session")
def go_bank(tmp_path_factory):
    """The Go program, built."""
    return build_go(".", tmp_path_factory.mktemp("go") / "bank")


def pytest_generate_tests(metafunc):
    """The stores of the server that a test runs against."""
    if "store" in metafunc.fixturenames:
        every = os.environ.get("INTEROP_STORES") == "all" or hasattr(metafunc.function, "on_every_store")
        stores = ["sqlite", "postgres", "mariadb", "redis"] if every else ["sqlite"]
        metafunc.parametrize("store", stores, scope="module", indirect=True)
