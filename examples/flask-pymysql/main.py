"""Saga, tcc and message between two accounts: Flask, PyMySQL and MariaDB.

Needs: mariadb
Packages: flask, pymysql
"""

import os

from accounts import change, connector, create_app, create_tables

from reefknot import Client, Failure, RolledBack
from reefknot.testing.services import serving

connect = connector(os.environ["MARIADB_URL"])
tm = Client()  # the server of $DTM_SERVER


def saga(gid, url, amount, source, target):
    with tm.saga(gid, wait=True) as saga:  # submitted at the end of the block
        saga.step(f"{url}/adjust", f"{url}/adjust/undo", {"user_id": source, "amount": -amount})
        saga.step(f"{url}/adjust", f"{url}/adjust/undo", {"user_id": target, "amount": amount})


def tcc(gid, url, amount, source, target):
    calls = {"confirm": f"{url}/adjust/confirm", "cancel": f"{url}/adjust/cancel"}
    with tm.tcc(gid, wait=True) as tcc:  # the end of the block confirms, an exception cancels
        tcc.try_(f"{url}/adjust/try", **calls, data={"user_id": source, "amount": -amount})
        tcc.try_(f"{url}/adjust/try", **calls, data={"user_id": target, "amount": amount})


def message(gid, url, amount, source, target):
    msg = tm.msg(gid, wait=True).send(f"{url}/adjust", {"user_id": target, "amount": amount})
    with connect() as connection, msg.committing(connection, ask=f"{url}/asked"):
        change(connection, source, -amount)  # committed together with the message, or neither is


def accounts():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT user_id, balance, trading_balance FROM user_account ORDER BY user_id")
        return cursor.fetchall()


create_tables(connect, {1: 1000, 2: 1000})
with serving(create_app(connect)) as url:
    for transfer, amount, target in (
        (saga, 30, 2),
        (tcc, 30, 2),
        (message, 30, 2),
        (saga, 30, 3),  # there is no user 3
        (tcc, 30, 3),
        (message, 5000, 2),  # nobody has 5,000
    ):
        gid, refused = tm.new_gid(), ""
        try:
            transfer(gid, url, amount, source=1, target=target)
        except (RolledBack, Failure) as error:
            tm.wait(gid)  # until all is undone
            refused = error.reason
        print(f"{transfer.__name__:<8} {amount:>4} from 1 to {target} ", accounts(), refused)

    assert accounts() == ((1, 910, 0), (2, 1090, 0))
