"""A bank in Python: Flask and psycopg, behind the same barrier's table as the bank in Go. An undo must not fail."""

import psycopg
from flask import Flask, request

from reefknot import Failure
from reefknot.contrib.flask import branch, install

SIGNS = {"out": -1, "out/undo": +1, "in": +1, "in/undo": -1}
CHANGE = "UPDATE west SET balance = balance + %(a)s WHERE name = %(n)s AND (%(undo)s OR balance + %(a)s >= 0)"


def bank(url):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/<path:call>")
    def move(call):
        order, undo = request.json, call.endswith("/undo")
        with psycopg.connect(url) as connection:  # commits at the end of the block
            if branch().passes(connection):
                change = {"a": SIGNS[call] * order["amount"], "n": order["account"], "undo": undo}
                if not connection.execute(CHANGE, change).rowcount:
                    raise Failure(f"Python: {order['account']} cannot be moved by {change['a']}")
        return {}

    return app
