"""An order is cancelled unless it is paid in time: a message with a delay, Flask, SQLAlchemy and MariaDB.

Needs: mariadb
Packages: flask, sqlalchemy, pymysql
"""

import time

import urllib3
from shop import Item, Order, Session, Table, engine, tm
from shop import app as shop
from sqlalchemy import select

from reefknot.barrier.statements import Database, table_sql
from reefknot.testing.services import serving


def show(what):
    passed = time.monotonic() - started
    with Session() as session:
        orders = {order.number: order.state for order in session.scalars(select(Order))}
        print(f"{passed:4.1f} s  {what:<22} {orders}, {session.get(Item, 'lamp').pieces} lamps left")


def post(path):
    return urllib3.request("POST", f"{url}{path}")


with engine.begin() as connection:
    for statement in filter(str.strip, table_sql(Database.MYSQL).split(";")):
        connection.exec_driver_sql(statement)
    Table.metadata.create_all(connection)
with Session.begin() as session:
    session.add(Item(name="lamp", pieces=10))

with serving(shop) as url:
    started = time.monotonic()
    reminders = [post(f"/order/{number}").json()["reminder"] for number in (1, 2)]
    show("two orders")

    assert post("/pay/1").status == 200
    show("the first is paid")

    for reminder in reminders:
        tm.wait(reminder)
    show("their time is over")

    assert post("/pay/2").status == 409
    show("the second, too late")

with Session() as session:
    assert [order.state for order in session.scalars(select(Order).order_by(Order.number))] == ["paid", "cancelled"]
    assert session.get(Item, "lamp").pieces == 9
