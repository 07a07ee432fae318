"""A bank in Python: Flask and psycopg, behind the same barrier's table as the bank in Go."""

import psycopg
from flask import Flask, request

from reefknot import Failure
from reefknot.contrib.flask import branch, install

SIGNS = {"out": -1, "out/undo": +1, "in": +1, "in/undo": -1}
CHANGE = "UPDATE west SET balance = balance + %(a)s WHERE name = %(n)s AND balance + %(a)s >= 0"


def bank(url):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/<path:call>")
    def move(call):
        account, amount = request.get_json()["account"], SIGNS[call] * request.get_json()["amount"]
        with psycopg.connect(url) as connection:  # commits at the end of the block
            if branch().passes(connection):
                changed = connection.execute(CHANGE, {"a": amount, "n": account})
                if not changed.rowcount:
                    raise Failure(f"Python: {account} cannot be moved by {amount}")
        return {}

    return app
