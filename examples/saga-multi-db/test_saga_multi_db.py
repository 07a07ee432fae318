import contextlib
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest
import redis


@pytest.fixture
def mariadb(finished):
    place = urlsplit(finished.environment["MARIADB_URL"])
    parts = {"host": place.hostname, "port": place.port, "user": place.username, "database": place.path[1:]}
    with contextlib.closing(pymysql.connect(**parts, password=place.password)) as connection:
        yield connection.cursor()


@pytest.fixture
def postgres(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        yield connection


@pytest.fixture
def stock(finished):
    with redis.Redis.from_url(finished.environment["REDIS_URL"], decode_responses=True) as client:
        yield client


def test_one_purchase_went_through_and_the_two_others_left_nothing(finished, mariadb, postgres, stock):
    mariadb.execute("SELECT number, customer, item FROM purchase")
    assert mariadb.fetchall() == ((1, "ann", "bike"),)
    assert dict(postgres.execute("SELECT name, balance FROM account")) == {"ann": 70, "ben": 10}
    assert stock.mget("stock:bike", "stock:boat") == ["4", "0"]
    assert "rolled back: ben has too little" in finished.output
    assert "rolled back: not enough in stock:boat" in finished.output


def test_each_database_has_its_own_barrier(mariadb, postgres, stock):
    paid, refused = postgres.execute("SELECT gid, op, reason FROM dtm_barrier.barrier WHERE op = 'action' ORDER BY id")
    assert paid[1:] == ("action", "action")
    assert refused[1:] == ("action", "compensate")  # written by the undo, as the payment itself left nothing
    mariadb.execute("SELECT op, reason FROM dtm_barrier.barrier WHERE gid = %s ORDER BY id", (refused[0],))
    assert mariadb.fetchall() == (("action", "action"), ("compensate", "compensate"))
    assert stock.get(f"{refused[0]}-02-action-01") == "action"
    assert stock.get(f"{refused[0]}-02-compensate-01") == "compensate"
    assert stock.exists(f"{paid[0]}-02-compensate-01") == 0
