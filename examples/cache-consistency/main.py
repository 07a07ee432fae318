"""Prices in PostgreSQL with a cache in Redis, which is never stale for long, even if the writer dies.

Needs: postgres, redis
Packages: flask, psycopg, redis
"""

import subprocess
import sys
import time

import urllib3
from shop import app, cache, connect, price_in_database

from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.services import serving


def change(price, *die):
    command = [sys.executable, "writer.py", url, "lamp", str(price), *die]
    return subprocess.run(command, check=False).returncode


def seen():
    return int(urllib3.request("GET", f"{url}/price/lamp").data)


def show(what):
    print(f"{what:<48} database {price_in_database('lamp')}  shown {seen()}")


with connect() as connection:
    connection.execute(table_sql(Database.POSTGRES))
    connection.execute("CREATE TABLE price (item text PRIMARY KEY, price int)")
    connection.execute("INSERT INTO price VALUES ('lamp', 10)")
cache.delete("lamp")

with serving(app) as url:
    show("at first")
    assert change(20) == 0
    show("changed to 20")

    assert change(30, "die") == -9
    show("changed to 30, the writer died after the commit")
    died = time.monotonic()
    while seen() != 30:
        time.sleep(0.05)
    show(f"{time.monotonic() - died:.1f} s later")

    _, version = cache.get("lamp")
    late = price_in_database("lamp")  # a reader that takes its time
    assert change(40) == 0
    assert not cache.put("lamp", late, version)
    show("changed to 40 while a slow reader had 30")
    assert seen() == price_in_database("lamp") == 40
