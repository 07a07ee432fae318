"""The handlers of docs/sdk/barrier.md, taken from the page and run: one effect of two calls."""

import asyncio
import inspect
import re
import secrets
import sqlite3
from pathlib import Path

import psycopg
import pytest
import redis as redis_py

from reefknot.barrier.statements import Database, table_sql
from sdk.barrier_business import administrator, run_script
from sdk.barrier_connections import parts

PAGE = (Path(__file__).parents[2] / "docs/sdk/barrier.md").read_text("utf-8")
SNIPPETS = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
QUERY = {"trans_type": "saga", "branch_id": "01", "op": "action"}
#: The database of each snippet, and what its library calls one.
PLACES = {
    "psycopg": (Database.POSTGRES, "{url}"),
    "psycopg, async": (Database.POSTGRES, "{url}"),
    "asyncpg": (Database.POSTGRES, "{url}"),
    "A loop": (Database.POSTGRES, "{url}"),
    "PyMySQL, mysqlclient, MySQL Connector": (Database.MYSQL, parts),
    "asyncmy, aiomysql": (Database.MYSQL, parts),
    "sqlite3": (Database.SQLITE, "{url}"),
    "aiosqlite": (Database.SQLITE, "{url}"),
    "SQLAlchemy": (Database.SQLITE, "sqlite:///{url}"),
    "SQLAlchemy, async": (Database.SQLITE, "sqlite+aiosqlite:///{url}"),
}


def test_every_snippet_is_run():
    assert set(SNIPPETS) == {*PLACES, "Django", "Redis", "Several databases"}


def handler(name, place):
    """The function that the snippet defines."""
    namespace = {"DATABASE": place}
    exec(compile(SNIPPETS[name], f"barrier.md, {name}", "exec"), namespace)
    out = namespace["out"]
    return (lambda query: asyncio.run(out(query))) if inspect.iscoroutinefunction(out) else out


def bank(database, url):
    run_script(database, url, table_sql(database))
    run_script(database, url, "DROP TABLE IF EXISTS account")
    run_script(database, url, "CREATE TABLE account (name varchar(20) PRIMARY KEY, balance int NOT NULL)")
    run_script(database, url, "INSERT INTO account VALUES ('alice', 100)")


def balance(database, url):
    with administrator(database, url) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT balance FROM account")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("name", list(PLACES))
def test_snippet(request, name, tmp_path):
    database, form = PLACES[name]
    if database is Database.SQLITE:
        url = str(tmp_path / "bank.db")
        sqlite3.connect(url).close()
    elif database is Database.POSTGRES:
        server = request.getfixturevalue("postgres")
        own = f"page_{secrets.token_hex(4)}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {own}")
        url = server.url_of(own)
    else:
        url = request.getfixturevalue("mariadb").create_database(f"page_{secrets.token_hex(4)}")
    bank(database, url)
    out = handler(name, form(url) if callable(form) else form.format(url=url))
    gid = secrets.token_hex(6)
    for _ in range(2):
        out(QUERY | {"gid": gid})
    assert balance(database, url) == 70


def test_snippet_of_redis(redis):
    gid = secrets.token_hex(6)
    with redis_py.Redis.from_url(redis.url) as client:
        client.set("alice", 100)
        out = handler("Redis", redis.url)
        for _ in range(2):
            out(QUERY | {"gid": gid})
        assert client.get("alice") == b"70"


def test_snippet_of_several_databases(redis, postgres):
    own, gid = f"page_{secrets.token_hex(4)}", secrets.token_hex(6)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {own}")
    url = postgres.url_of(own)
    bank(Database.POSTGRES, url)
    namespace = {"DATABASE": url, "REDIS": redis.url}
    exec(compile(SNIPPETS["Several databases"], "barrier.md, Several databases", "exec"), namespace)
    with redis_py.Redis.from_url(redis.url) as client:
        client.set("stock", 10)
        for name, op, left in (("buy", "action", (70, b"9")), ("buy_undo", "compensate", (100, b"10"))):
            for _ in range(2):
                namespace[name](QUERY | {"gid": gid, "op": op})
            assert (balance(Database.POSTGRES, url), client.get("stock")) == left


def test_snippet_of_django(tmp_path):
    """In a process of its own, as Django's settings are the process's."""
    import subprocess
    import sys

    file = tmp_path / "bank.db"
    bank(Database.SQLITE, str(file))
    program = f"""
import django
from django.conf import settings
settings.configure(DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(file)!r}}}}})
django.setup()
{SNIPPETS["Django"]}
for _ in range(2):
    out({QUERY | {"gid": "g1"}!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert balance(Database.SQLITE, str(file)) == 70
