"""A service that has so many of something: seats, rooms, cars, or euros. Each has its own SQLite database."""

import sqlite3
import time
from contextlib import closing
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from reefknot import Barrier, Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.fastapi import install, sync_branch

Branch = Annotated[Barrier, Depends(sync_branch)]
BEGIN = time.monotonic()
WORK_SECONDS = 0.5


class Order(BaseModel):
    amount: int


def now():
    return time.monotonic() - BEGIN


def service(name, file, free):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(table_sql(Database.SQLITE))
        connection.execute("CREATE TABLE stock (free int)")
        connection.execute("INSERT INTO stock VALUES (?)", (free,))

    app = FastAPI()
    install(app)  # Failure becomes 409, Ongoing 425

    @app.post("/book")
    def book(order: Order, barrier: Branch):
        change(barrier, -order.amount)

    @app.post("/give-back")
    def give_back(order: Order, barrier: Branch):
        change(barrier, +order.amount)

    def change(barrier, amount):
        began, said = now(), "refused"
        time.sleep(WORK_SECONDS)  # a booking takes a while
        try:
            with closing(sqlite3.connect(file)) as connection, connection:
                if barrier.passes(connection):
                    changed = connection.execute(
                        "UPDATE stock SET free = free + ? WHERE free + ? >= 0", (amount, amount)
                    )
                    if not changed.rowcount:
                        raise Failure(f"no {name} for you")
            said = barrier.reason
        finally:
            # One write for the whole line: other services print too.
            print(f"   {began:.2f} to {now():.2f} s  {name:8} {barrier.branch.op:11} {said}\n", end="")

    return app


def free_in(file):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT free FROM stock").fetchone()[0]
