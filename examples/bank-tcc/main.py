"""Frozen amounts: a transfer that reserves first, then takes or frees (tcc, Flask, psycopg, PostgreSQL).

Needs: postgres
Packages: flask, psycopg
"""

import os

import psycopg

from bank import bank, open_accounts
from reefknot import Client, Failure
from reefknot.testing.services import serving

database = os.environ["POSTGRES_URL"]
tm = Client()  # the server of $DTM_SERVER


def show(when):
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT name, balance, frozen, incoming FROM account ORDER BY name").fetchall()
    print(
        f"{when:24}", ", ".join(f"{name} {balance} (-{frozen} +{incoming})" for name, balance, frozen, incoming in rows)
    )
    return rows


def reserve(tcc, call, name, amount):
    tcc.try_(
        f"{url}/{call}/try",
        confirm=f"{url}/{call}/confirm",
        cancel=f"{url}/{call}/cancel",
        data={"name": name, "amount": amount},
    )


open_accounts(database, {"alice": 100, "bob": 100, "carol": 0}, closed=["carol"])
with serving(bank(database)) as url:
    show("at first")

    with tm.tcc(wait=True) as transfer:
        reserve(transfer, "out", "alice", 30)
        reserve(transfer, "in", "bob", 30)
        show("30 to bob: reserved")

        try:  # what is frozen cannot be spent a second time
            with tm.tcc() as other:
                reserve(other, "out", "alice", 80)
        except Failure as refused:
            print("meanwhile:              ", refused.reason)
    show("30 to bob: confirmed")  # at the end of the block

    try:
        with tm.tcc() as transfer:
            reserve(transfer, "out", "alice", 30)
            show("30 to carol: reserved")
            reserve(transfer, "in", "carol", 30)
    except Failure as refused:
        print("her account is closed:  ", refused.reason)

    for cancelled in (other, transfer):
        tm.wait(cancelled.gid)  # until the server has cancelled every branch
    assert show("30 to carol: cancelled") == [("alice", 70, 0, 0), ("bob", 130, 0, 0), ("carol", 0, 0, 0)]
