import contextlib
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest


@pytest.fixture
def mariadb(finished):
    place = urlsplit(finished.environment["MARIADB_URL"])
    parts = {"host": place.hostname, "port": place.port, "user": place.username, "database": place.path[1:]}
    with contextlib.closing(pymysql.connect(**parts, password=place.password)) as connection:
        yield connection.cursor()


@pytest.fixture
def postgres(finished):
    with psycopg.connect(finished.environment["POSTGRES_URL"]) as connection:
        yield connection.cursor()


def rows(cursor, sql, *values):
    cursor.execute(sql, values)
    return list(cursor.fetchall())


def test_the_money_is_where_it_must_be_and_nothing_stays_prepared(mariadb, postgres):
    assert rows(mariadb, "SELECT name, balance FROM account") == [("alice", 70)]
    assert rows(postgres, "SELECT name, balance FROM account") == [("bob", 130)]
    assert rows(mariadb, "XA RECOVER") == []
    assert rows(postgres, "SELECT gid FROM pg_prepared_xacts") == []


def test_neither_half_was_seen_before_both_were_committed(finished):
    assert "30 to bob: prepared        {'alice': 100, 'bob': 100}   prepared in MariaDB 1, in PostgreSQL 1" in (
        finished.output
    )
    assert "refused:                   nobody cannot be moved by 30" in finished.output


def test_the_barrier_holds_a_row_of_what_was_committed(mariadb, postgres):
    query = "SELECT gid, op, reason FROM dtm_barrier.barrier WHERE trans_type = 'xa' ORDER BY id"
    ((gid, *row),) = rows(postgres, query)
    assert row == ["action", "action"]
    done, undone = rows(mariadb, query)
    assert done == (gid, "action", "action")
    # What was prepared is gone, its row too: the rollback has put one there that keeps a late call out.
    assert undone[1:] == ("action", "rollback")
