"""Saga, tcc and message between two accounts: Flask, PyMySQL and MariaDB.

Needs: mariadb
Packages: flask, pymysql
"""

import os

from accounts import change, connector, create_app, create_tables

from reefknot import Client, Failure
from reefknot.testing.services import serving

connect = connector(os.environ["MARIADB_URL"])
tm = Client()  # the server of $DTM_SERVER


def saga(url, amount, source, target):
    with tm.saga(wait=True) as saga:  # submitted at the end of the block
        saga.step(f"{url}/adjust", f"{url}/adjust/undo", {"user_id": source, "amount": -amount})
        saga.step(f"{url}/adjust", f"{url}/adjust/undo", {"user_id": target, "amount": amount})


def tcc(url, amount, source, target):
    calls = {"confirm": f"{url}/adjust/confirm", "cancel": f"{url}/adjust/cancel"}
    with tm.tcc(wait=True) as tcc:  # the end of the block confirms, an exception cancels
        tcc.try_(f"{url}/adjust/try", **calls, data={"user_id": source, "amount": -amount})
        tcc.try_(f"{url}/adjust/try", **calls, data={"user_id": target, "amount": amount})


def message(url, amount, source, target):
    msg = tm.msg(wait=True).send(f"{url}/adjust", {"user_id": target, "amount": amount})
    with connect() as connection, msg.committing(connection, ask=f"{url}/asked"):
        change(connection, source, -amount)  # committed together with the message, or neither is


def accounts():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id, balance, trading_balance FROM user_account ORDER BY user_id")
        return cursor.fetchall()


create_tables(connect, {1: 1000, 2: 1000})
with serving(create_app(connect)) as url:
    for transfer in (saga, tcc, message):
        transfer(url, 30, source=1, target=2)
        print(f"{transfer.__name__:<8} 30 from 1 to 2   ", accounts())

    for transfer in (tcc, message):
        try:
            transfer(url, 5000, source=1, target=2)
        except Failure as error:
            print(f"{transfer.__name__:<8} 5000 from 1 to 2 ", accounts(), error.reason)

    assert accounts() == ((1, 910, 0), (2, 1090, 0))
