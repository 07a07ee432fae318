"""One purchase in three databases: MariaDB, Redis and PostgreSQL, all or nothing (saga, Flask).

Needs: mariadb, postgres, redis
Packages: flask, pymysql, psycopg, redis
"""

import os

import psycopg
import redis
from services import accounts, mariadb, orders, stock

from reefknot import Client, RolledBack
from reefknot.testing.services import serving

in_mariadb, in_postgres, in_redis = (os.environ[f"{name}_URL"] for name in ("MARIADB", "POSTGRES", "REDIS"))
tm = Client()  # the server of $DTM_SERVER


def buy(number, customer, item, price):
    order = {"number": number, "customer": customer, "item": item, "price": price}
    with tm.saga(wait=True) as saga:
        saga.step(f"{place}/place", f"{place}/place/undo", order)
        saga.step(f"{take}/take", f"{take}/take/undo", order)
        saga.step(f"{pay}/pay", f"{pay}/pay/undo", order)


def found():
    with mariadb(in_mariadb) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number FROM purchase")
        numbers = [number for (number,) in cursor.fetchall()]
    with psycopg.connect(in_postgres) as connection:
        balances = dict(connection.execute("SELECT name, balance FROM account ORDER BY name"))
    with redis.Redis.from_url(in_redis) as client:
        amounts = {item: int(client.get(f"stock:{item}")) for item in ("bike", "boat")}
    return numbers, amounts, balances


with (
    serving(orders(in_mariadb)) as place,
    serving(stock(in_redis, {"bike": 5, "boat": 0})) as take,
    serving(accounts(in_postgres, {"ann": 100, "ben": 10})) as pay,
):
    print("at first              ", *found())
    for number, customer, item, price in [(1, "ann", "bike", 30), (2, "ben", "bike", 30), (3, "ann", "boat", 50)]:
        try:
            buy(number, customer, item, price)
            why = ""
        except RolledBack as error:
            why = f"\n   rolled back: {error.reason}"
        print(f"{customer} buys a {item} for {price}", *found(), why)
    assert found() == ([1], {"bike": 4, "boat": 0}, {"ann": 70, "ben": 10})
