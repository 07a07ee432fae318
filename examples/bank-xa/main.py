"""One transaction in two databases: MariaDB and PostgreSQL prepare, then both commit (xa, Flask).

Needs: mariadb, postgres
Packages: flask, pymysql, psycopg
"""

import os

from bank import bank, mariadb, open_account, postgres
from reefknot import Client, Failure
from reefknot.barrier.statements import Database
from reefknot.testing.services import serving

tm = Client()  # the server of $DTM_SERVER
in_mariadb = mariadb(os.environ["MARIADB_URL"])
in_postgres = postgres(os.environ["POSTGRES_URL"])


def ask(connect, sql):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def show(when):
    balances = dict([*ask(in_mariadb, "SELECT * FROM account"), *ask(in_postgres, "SELECT * FROM account")])
    prepared = len(ask(in_mariadb, "XA RECOVER")), len(ask(in_postgres, "SELECT * FROM pg_prepared_xacts"))
    print(f"{when:26} {balances}   prepared in MariaDB {prepared[0]}, in PostgreSQL {prepared[1]}")
    return balances, prepared


open_account(in_mariadb, Database.MYSQL, "alice", 100)
open_account(in_postgres, Database.POSTGRES, "bob", 100)
with serving(bank(in_mariadb, tm)) as west, serving(bank(in_postgres, tm)) as east:
    show("at first")

    with tm.xa(wait=True) as transfer:
        transfer.call(f"{west}/move", {"name": "alice", "amount": -30})
        transfer.call(f"{east}/move", {"name": "bob", "amount": +30})
        show("30 to bob: prepared")  # nobody else sees it yet
    show("30 to bob: committed")

    try:
        with tm.xa() as transfer:
            transfer.call(f"{west}/move", {"name": "alice", "amount": -30})
            show("30 to nobody: one half")
            transfer.call(f"{east}/move", {"name": "nobody", "amount": +30})
    except Failure as refused:
        print("refused:                  ", refused.reason)
        tm.wait(transfer.gid)  # until the server has rolled back what was prepared
    assert show("30 to nobody: rolled back") == ({"alice": 70, "bob": 130}, (0, 0))
