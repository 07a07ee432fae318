"""Fifty threads with the same branches at once: no deadlock comes up, and each operation has one effect.

MariaDB runs at REPEATABLE READ, its default, where gaps between rows are locked too.
"""

import random
import secrets
import threading
from collections import Counter

import psycopg
import pymysql
import pytest

from reefknot.barrier import Barrier, Reason
from reefknot.barrier.statements import Database
from sdk.barrier_business import administrator, prepare
from sdk.barrier_connections import parts

THREADS = 50
GIDS = 12
#: What arrives of each branch: everything several times, in any order.
CALLS = {"tcc": ("try",) * 3 + ("cancel",) * 3, "saga": ("action",) * 3 + ("compensate",) * 3}


@pytest.fixture(scope="module")
def mysql_url(mariadb):
    url = mariadb.create_database(f"races_{secrets.token_hex(4)}")
    prepare(Database.MYSQL, url, "barrier")
    return url


@pytest.fixture(scope="module")
def postgres_url(postgres):
    name = f"races_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    prepare(Database.POSTGRES, postgres.url_of(name), "barrier")
    return postgres.url_of(name)


@pytest.fixture(params=["mariadb", "postgres"])
def place(request):
    """A database, and how a thread connects to it."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        return Database.POSTGRES, url, lambda: psycopg.connect(url)
    url = request.getfixturevalue("mysql_url")
    return Database.MYSQL, url, lambda: pymysql.connect(**parts(url))


def rush(connect, work):
    """Run every call in one of the threads; what each said, or the error."""
    calls = [
        {"trans_type": mode, "gid": f"{mode}{number}", "branch_id": "01", "op": op}
        for mode, ops in CALLS.items()
        for number in range(GIDS)
        for op in ops
    ]
    random.shuffle(calls)
    # Calls of one branch meet: sorted by gid with some disorder.
    calls.sort(key=lambda call: (call["gid"][4:], random.random()))
    said, waiting, together = [], iter(calls), threading.Barrier(THREADS)
    lock = threading.Lock()

    def run():
        connection = connect()
        try:
            together.wait(60)
            while True:
                with lock:
                    call = next(waiting, None)
                if call is None:
                    return
                said.append((call, work(connection, call)))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(said) == len(calls)
    return said


def effect(connection, call):
    connection.cursor().execute(
        "INSERT INTO effect (gid, branch_id, op) VALUES (%s, %s, %s)", (call["gid"], call["branch_id"], call["op"])
    )


def effects(database, url):
    """How often each operation of each gid had an effect; the table is emptied."""
    with administrator(database, url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT gid, op FROM effect")
        found = Counter(cursor.fetchall())
        cursor.execute("DELETE FROM effect")
        cursor.execute("DELETE FROM barrier")
    return found


def assert_one_effect_each(found):
    """Each operation once at most, and an undo exactly where its action or try was."""
    assert set(found.values()) <= {1}
    for mode, ops in CALLS.items():
        for number in range(GIDS):
            done = {op for op in ops if (f"{mode}{number}", op) in found}
            assert done in (set(), set(ops)), (mode, number, done)


def test_no_deadlock_surfaces(place):
    database, url, connect = place

    def work(connection, call):
        barrier = Barrier.from_query(call, table="barrier")
        try:
            if barrier.passes(connection):
                effect(connection, call)
            connection.commit()
        except (psycopg.Error, pymysql.Error) as error:
            connection.rollback()
            return error
        return barrier.reason

    said = rush(connect, work)
    assert [answer for _, answer in said if isinstance(answer, Exception)] == []
    found = effects(database, url)
    assert_one_effect_each(found)
    assert sum(answer is Reason.RUN for _, answer in said) == found.total()


def test_no_deadlock_surfaces_where_work_fails(place):
    """Rolled back rows free those that wait for them all at once; ``call`` goes round again then."""
    database, url, connect = place

    class Broken(Exception):
        pass

    def work(connection, call):
        def business(connection):
            effect(connection, call)
            if random.random() < 0.5:
                raise Broken

        for _ in range(40):
            barrier = Barrier.from_query(call, table="barrier")
            try:
                barrier.call(connection, business)
            except Broken:
                continue  # as the server would call again
            except (psycopg.Error, pymysql.Error) as error:
                return error
            return barrier.reason
        return None

    said = rush(connect, work)
    assert [answer for _, answer in said if not isinstance(answer, Reason)] == []
    found = effects(database, url)
    assert_one_effect_each(found)
    assert sum(answer is Reason.RUN for _, answer in said) == found.total()
