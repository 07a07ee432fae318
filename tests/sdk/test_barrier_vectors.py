"""The barrier's conformance vectors on every library and database: the same calls, the same answers and rows."""

import json
import secrets
from pathlib import Path

import pytest

from reefknot.barrier.statements import Database
from sdk.barrier_business import Business, prepare, run_script
from sdk.barrier_connections import LIBRARIES

VECTORS = json.loads((Path(__file__).parent / "barrier_vectors.json").read_text("utf-8"))
IDENTITY = ("trans_type", "gid", "branch_id", "op")
EMPTY = "DELETE FROM effect; DELETE FROM {table}"


def identity(step):
    return {name: step[name] for name in IDENTITY}


@pytest.fixture(scope="module")
def postgres_database(postgres):
    import psycopg

    name = f"barrier_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = postgres.url_of(name)
    prepare(Database.POSTGRES, url)
    return url


@pytest.fixture(scope="module")
def mysql_database(mariadb):
    url = mariadb.create_database(f"barrier_{secrets.token_hex(4)}")
    prepare(Database.MYSQL, url, "own_barrier")
    return url


@pytest.fixture(scope="module")
def sqlite_database(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("barrier") / "business.db")
    prepare(Database.SQLITE, url)
    return url


@pytest.fixture(params=list(LIBRARIES))
def business(request):
    library = LIBRARIES[request.param]
    database = library("").database
    url = request.getfixturevalue(f"{'postgres' if database is Database.POSTGRES else database}_database")
    business = Business(library(url), "own_barrier" if database is Database.MYSQL else "")
    table = business.table or ("barrier" if database is Database.SQLITE else "dtm_barrier.barrier")
    run_script(database, url, EMPTY.format(table=table))
    return business


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_vector(business, vector):
    for step in vector["steps"]:
        if step.get("asked"):
            said = [business.asked(identity(step))]
        else:
            said = business.passes(identity(step), len(step["expect"]), fails=step.get("fails", False))
        assert said == step["expect"], step
    assert sorted(business.rows) == sorted(map(tuple, vector["rows"]))
    assert sorted(business.effects) == sorted(map(tuple, vector["effects"]))


@pytest.mark.parametrize(
    "vector",
    [vector for vector in VECTORS if all(len(step["expect"]) == 1 for step in vector["steps"])],
    ids=lambda vector: vector["name"],
)
def test_vector_in_a_transaction_of_the_barriers(business, vector):
    """The same with ``call``, which begins and commits by itself."""
    for step in vector["steps"]:
        if step.get("asked"):
            said = business.asked(identity(step))
        else:
            said = business.call(identity(step), fails=step.get("fails", False))
        assert [said] == step["expect"], step
    assert sorted(business.rows) == sorted(map(tuple, vector["rows"]))
    assert sorted(business.effects) == sorted(map(tuple, vector["effects"]))
