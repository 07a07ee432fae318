"""What the four services have in common: an application, and a schema of its own in PostgreSQL."""

import os
from typing import Annotated

import psycopg
from fastapi import Depends, FastAPI

from reefknot import Barrier, Failure
from reefknot.barrier.statements import Database, table_sql
from reefknot.contrib.fastapi import install, sync_branch_in

DATABASE = os.environ["POSTGRES_URL"]


def service(schema, tables):
    """An application, and the barrier of its calls; the barrier's table is one of its own."""
    app = FastAPI(title=schema)
    install(app)  # Failure becomes 409, Ongoing 425
    barrier_table = f"{schema}.barrier"
    with psycopg.connect(DATABASE) as connection:
        connection.execute(table_sql(Database.POSTGRES, barrier_table) + tables)
    return app, Annotated[Barrier, Depends(sync_branch_in(barrier_table))]


def book(barrier, sql, order, refusal=""):
    """The barrier's row and one statement, in one transaction; ``Failure`` if it changes nothing and must."""
    with psycopg.connect(DATABASE) as connection:  # commits at its end, rolls back if something is raised
        if not barrier.passes(connection):
            return  # repeated, nothing to undo, or too late: all is well as it is
        if not connection.execute(sql, order).rowcount and refusal:
            raise Failure(refusal)
