"""A bank that reserves before it moves: try, then confirm or cancel."""

import psycopg
from flask import Flask, request

from reefknot import Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.flask import branch, install

TABLE = """
    CREATE TABLE IF NOT EXISTS account (
        name text PRIMARY KEY,
        balance int NOT NULL CHECK (balance >= frozen),
        frozen int NOT NULL DEFAULT 0 CHECK (frozen >= 0),      -- still in the balance, but promised away
        incoming int NOT NULL DEFAULT 0 CHECK (incoming >= 0),  -- promised to the account, not there yet
        closed bool NOT NULL DEFAULT false
    )
"""

# Only a try may refuse. What it reserved is what confirm takes or cancel frees, so these two always can.
CALLS = {
    "out/try": "UPDATE account SET frozen = frozen + %(amount)s"
    " WHERE name = %(name)s AND balance - frozen >= %(amount)s",
    "out/confirm": "UPDATE account SET frozen = frozen - %(amount)s, balance = balance - %(amount)s"
    " WHERE name = %(name)s",
    "out/cancel": "UPDATE account SET frozen = frozen - %(amount)s WHERE name = %(name)s",
    "in/try": "UPDATE account SET incoming = incoming + %(amount)s WHERE name = %(name)s AND NOT closed",
    "in/confirm": "UPDATE account SET incoming = incoming - %(amount)s, balance = balance + %(amount)s"
    " WHERE name = %(name)s",
    "in/cancel": "UPDATE account SET incoming = incoming - %(amount)s WHERE name = %(name)s",
}


def bank(url):
    app = Flask(__name__)
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/<path:call>")
    def called(call):
        order = request.get_json()
        with psycopg.connect(url) as connection:  # the end of the block commits: the barrier's row and the change
            if branch().passes(connection):
                changed = connection.execute(CALLS[call], order)
                if not changed.rowcount:
                    raise Failure(f"{order['name']} refuses {call} of {order['amount']}")
        return {}

    return app


def open_accounts(url, balances, closed):
    with psycopg.connect(url) as connection:
        connection.execute(table_sql(Database.POSTGRES))
        connection.execute(TABLE)
        for name, balance in balances.items():
            connection.execute(
                "INSERT INTO account (name, balance, closed) VALUES (%s, %s, %s)", (name, balance, name in closed)
            )
