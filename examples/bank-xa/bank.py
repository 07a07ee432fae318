"""A bank whose work is prepared in its database, and committed there when every other bank has prepared too."""

from functools import partial
from urllib.parse import urlsplit

import psycopg
import pymysql
from flask import Flask, request

from reefknot import Failure
from reefknot.barrier.statements import table_sql
from reefknot.contrib.flask import install
from reefknot.xa import XaBranch

MOVE = """
    UPDATE account SET balance = balance + %(amount)s WHERE name = %(name)s AND balance + %(amount)s >= 0
"""


def mariadb(url):
    """Opens a connection: xa needs one of its own, not one of a pool."""
    place = urlsplit(url)
    return partial(
        pymysql.connect,
        host=place.hostname,
        port=place.port or 3306,
        user=place.username,
        password=place.password or "",
        database=place.path[1:],
    )


def postgres(url):
    return partial(psycopg.connect, url)


def bank(connect, tm):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/move")  # one URL: it is called to do the work, and again to commit it or to roll it back
    def move():
        order = request.get_json(silent=True)  # None when it is about the commit or the rollback

        def work(connection):
            with connection.cursor() as cursor:
                cursor.execute(MOVE, order)
                if not cursor.rowcount:
                    raise Failure(f"{order['name']} cannot be moved by {order['amount']}")

        XaBranch.from_query(request.args, tm).call(connect, work)
        return {}

    return app


def open_account(connect, database, name, balance):
    with connect() as connection, connection.cursor() as cursor:
        for statement in filter(str.strip, table_sql(database).split(";")):
            cursor.execute(statement)
        cursor.execute("CREATE TABLE IF NOT EXISTS account (name varchar(40) PRIMARY KEY, balance int)")
        cursor.execute("INSERT INTO account VALUES (%s, %s)", (name, balance))
        connection.commit()
