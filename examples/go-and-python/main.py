"""Go and Python in one transaction: a saga in Python, a bank in Go, and one barrier's table (PostgreSQL).

Needs: postgres, go
Packages: flask, psycopg
"""

import os
import subprocess

import psycopg

from bank import bank
from reefknot import Client
from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.services import serving

database = os.environ["POSTGRES_URL"]
tm = Client()  # the server of $DTM_SERVER


def transfer(source, giver, target, taker):
    with tm.saga() as saga:
        saga.step(f"{source}/out", f"{source}/out/undo", {"account": giver, "amount": 30})
        saga.step(f"{target}/in", f"{target}/in/undo", {"account": taker, "amount": 30})
    ended = tm.wait(saga.gid)
    print(f"{giver} to {taker}: {ended.status} {balances()} {ended.reason}")


def balances():
    with psycopg.connect(database) as connection:
        return dict(connection.execute("SELECT * FROM west UNION ALL SELECT * FROM east"))


with psycopg.connect(database) as connection:
    connection.execute(table_sql(Database.POSTGRES))
    connection.execute("CREATE TABLE west (name text, balance int); INSERT INTO west VALUES ('alice', 100)")
    connection.execute("CREATE TABLE east (name text, balance int); INSERT INTO east VALUES ('bob', 100)")
settings = {"PGSSLMODE": "disable", "GOFLAGS": "-buildvcs=false", **os.environ}
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
with serving(bank(database)) as python, subprocess.Popen(["go", "run", "."], env=settings, **pipes) as started:
    go = started.stdout.readline().strip()  # its URL
    transfer(python, "alice", go, "bob")
    transfer(python, "alice", go, "nobody")
    transfer(go, "bob", python, "nobody")
    assert balances() == {"alice": 70, "bob": 130}
