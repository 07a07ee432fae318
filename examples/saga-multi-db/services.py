"""Three services, each behind the barrier of its own database."""

from urllib.parse import urlsplit

import psycopg
import pymysql
import redis
from flask import Flask, request

from reefknot import Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.flask import branch, install


def mariadb(url):
    place = urlsplit(url)
    where = {"host": place.hostname, "port": place.port or 3306, "database": place.path[1:]}
    return pymysql.connect(**where, user=place.username, password=place.password or "")


def orders(url):
    """In MariaDB: `call` begins a transaction of its own, asks the barrier, does the work and commits."""
    app = Flask("orders")
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/place")
    def place():
        return write("INSERT INTO purchase VALUES (%(number)s, %(customer)s, %(item)s)")

    @app.post("/place/undo")
    def undo():
        return write("DELETE FROM purchase WHERE number = %(number)s")

    def write(sql):
        order = request.get_json()
        with mariadb(url) as connection, connection.cursor() as cursor:
            branch().call(connection, lambda _: cursor.execute(sql, order))
        return {}

    with mariadb(url) as connection, connection.cursor() as cursor:
        for statement in filter(str.strip, table_sql(Database.MYSQL).split(";")):
            cursor.execute(statement)
        cursor.execute("CREATE TABLE purchase (number int PRIMARY KEY, customer varchar(40), item varchar(40))")
    return app


def accounts(url, balances):
    """In PostgreSQL: `passes` writes the barrier's row in a transaction of yours."""
    app = Flask("accounts")
    install(app)

    @app.post("/pay")
    def pay():
        return move(-request.get_json()["price"])

    @app.post("/pay/undo")
    def undo():
        return move(+request.get_json()["price"])

    def move(amount):
        customer = request.get_json()["customer"]
        with psycopg.connect(url) as connection:  # commits at the end of the block
            if branch().passes(connection):
                moved = connection.execute(
                    "UPDATE account SET balance = balance + %(amount)s"
                    " WHERE name = %(customer)s AND balance + %(amount)s >= 0",
                    {"amount": amount, "customer": customer},
                )
                if not moved.rowcount:
                    raise Failure(f"{customer} has too little")
        return {}

    with psycopg.connect(url) as connection:
        connection.execute(table_sql(Database.POSTGRES))
        connection.execute("CREATE TABLE account (name text PRIMARY KEY, balance int)")
        connection.cursor().executemany("INSERT INTO account VALUES (%s, %s)", list(balances.items()))
    return app


def stock(url, amounts):
    """In Redis: barrier, check and change are one script."""
    app = Flask("stock")
    install(app)
    client = redis.Redis.from_url(url)
    client.mset({f"stock:{item}": amount for item, amount in amounts.items()})

    @app.post("/take")
    def take():
        branch().redis_adjust(client, f"stock:{request.get_json()['item']}", -1)
        return {}

    @app.post("/take/undo")
    def undo():
        branch().redis_adjust(client, f"stock:{request.get_json()['item']}", +1)
        return {}

    return app
