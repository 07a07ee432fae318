"""A bank: Flask and psycopg. It tells what it is called for and what its barrier says."""

import psycopg
from flask import Flask, request

from reefknot import Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.flask import branch, install

SIGNS = {"out": -1, "out/undo": +1, "in": +1, "in/undo": -1}
# An undo must not fail: it books whatever the balance is.
CHANGE = """UPDATE account SET balance = balance + %(a)s
    WHERE name = %(n)s AND (%(undo)s OR balance + %(a)s >= 0) RETURNING balance"""


def bank(url, balances):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/<path:call>")
    def move(call):
        account, amount = request.get_json()["account"], SIGNS[call] * request.get_json()["amount"]
        change = {"n": account, "a": amount, "undo": call.endswith("/undo")}
        barrier = branch()
        with psycopg.connect(url) as connection:  # commits at the end of the block
            if barrier.passes(connection):
                changed = connection.execute(CHANGE, change).fetchone()
                if changed is None:
                    raise Failure(f"{account} cannot be moved by {amount}")
        print(f"   bank    {call} {account} {amount:+}: {barrier.reason}")
        return {}

    with psycopg.connect(url) as connection:
        connection.execute(table_sql(Database.POSTGRES))
        connection.execute("CREATE TABLE account (name text PRIMARY KEY, balance int)")
        connection.cursor().executemany("INSERT INTO account VALUES (%s, %s)", list(balances.items()))
    return app


def balances(url):
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT name, balance FROM account ORDER BY name"))
