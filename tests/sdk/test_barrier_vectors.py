"""The barrier's conformance vectors on every library and database: the same calls, the same answers and rows."""

import contextlib
import json
import secrets
from pathlib import Path

import pytest

from reefknot.barrier.statements import Database
from sdk.barrier_business import Business, prepare
from sdk.barrier_connections import LIBRARIES

VECTORS = json.loads((Path(__file__).parent / "barrier_vectors.json").read_text("utf-8"))


def identity(step, prefix):
    """A step's operation; the prefix keeps the vectors apart in one table."""
    return {name: step[name] for name in ("trans_type", "branch_id", "op")} | {"gid": prefix + step["gid"]}


@pytest.fixture(scope="session")
def postgres_database(postgres):
    import psycopg

    name = f"barrier_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url_of(name)
    prepare(Database.POSTGRES, url)
    return url


@pytest.fixture(scope="session")
def mysql_database(mariadb):
    url = mariadb.create_database(f"barrier_{secrets.token_hex(4)}")
    prepare(Database.MYSQL, url, "own_barrier")
    return url


@pytest.fixture(scope="session")
def sqlite_database(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("barrier") / "business.db")
    prepare(Database.SQLITE, url)
    return url


@pytest.fixture(scope="module", params=list(LIBRARIES))
def business(request):
    library = LIBRARIES[request.param]
    database = library("").database
    url = request.getfixturevalue(f"{'postgres' if database is Database.POSTGRES else database}_database")
    with contextlib.closing(Business(library(url), "own_barrier" if database is Database.MYSQL else "")) as business:
        yield business


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(business, vector):
    prefix = secrets.token_hex(4)
    for step in vector["steps"]:
        if step.get("asked"):
            said = [business.asked(identity(step, prefix))]
        else:
            said = business.passes(identity(step, prefix), len(step["expect"]), fails=step.get("fails", False))
        assert said == step["expect"], step
    assert business.rows(prefix) == sorted(map(tuple, vector["rows"]))
    assert business.effects(prefix) == sorted(map(tuple, vector["effects"]))


def test_vectors_in_a_transaction_of_the_barriers(business):
    """The same with ``call``, which begins and commits by itself."""
    for vector in (one for one in VECTORS if all(len(step["expect"]) == 1 for step in one["steps"])):
        prefix = secrets.token_hex(4)
        for step in vector["steps"]:
            if step.get("asked"):
                said = business.asked(identity(step, prefix))
            else:
                said = business.call(identity(step, prefix), fails=step.get("fails", False))
            assert [said] == step["expect"], (vector["name"], step)
        assert business.rows(prefix) == sorted(map(tuple, vector["rows"])), vector["name"]
        assert business.effects(prefix) == sorted(map(tuple, vector["effects"])), vector["name"]
