"""The accounts: a Flask service with PyMySQL."""

from functools import partial
from urllib.parse import urlsplit

import pymysql
from flask import Flask, request

from reefknot import Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.flask import asked, branch, install

ACCOUNTS = """
    CREATE TABLE IF NOT EXISTS user_account (
        user_id int PRIMARY KEY, balance int NOT NULL, trading_balance int NOT NULL DEFAULT 0
    )
"""


def connector(url):
    """A function that connects to the database of a URL."""
    at = urlsplit(url)
    login = {"user": at.username, "password": at.password or ""}
    return partial(pymysql.connect, host=at.hostname, port=at.port or 3306, database=at.path[1:], **login)


def create_tables(connect, balances):
    with connect() as connection, connection.cursor() as cursor:
        for statement in filter(str.strip, [*table_sql(Database.MYSQL).split(";"), ACCOUNTS]):
            cursor.execute(statement)
        cursor.executemany("INSERT INTO user_account (user_id, balance) VALUES (%s, %s)", balances.items())
        connection.commit()


def change(connection, user, balance=0, trading=0, *, must=False):
    """Change an account in the connection's transaction; unless it must be, not if that leaves too little."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE user_account SET balance = balance + %s, trading_balance = trading_balance + %s"
            " WHERE user_id = %s AND (%s OR balance + %s + LEAST(trading_balance + %s, 0) >= 0)",
            (balance, trading, user, must, balance, trading),
        )
        if not cursor.rowcount:
            raise Failure(f"user {user} has too little, or is none")


def create_app(connect):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425
    app.register_blueprint(asked(connect))  # POST /asked: has this message's local transaction committed?

    def served(balance=0, trading=0, *, must=False):
        """The barrier's row and the change, in one transaction; a call that comes twice changes once."""
        user, amount = request.json["user_id"], request.json["amount"]
        with connect() as connection:
            branch().call(connection, lambda tx: change(tx, user, balance * amount, trading * amount, must=must))
        return {}

    # A saga's action and its undo, which must not fail. An amount below zero leaves the account.
    @app.post("/adjust")
    def adjust():
        return served(balance=+1)

    @app.post("/adjust/undo")
    def undo():
        return served(balance=-1, must=True)

    # The three calls of a tcc: what is tried is set aside until it is confirmed or cancelled. Only the try may refuse.
    @app.post("/adjust/try")
    def try_():
        return served(trading=+1)

    @app.post("/adjust/confirm")
    def confirm():
        return served(balance=+1, trading=-1, must=True)

    @app.post("/adjust/cancel")
    def cancel():
        return served(trading=-1, must=True)

    return app
