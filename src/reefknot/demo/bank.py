"""A bank: a business service of its own, and an example of how to write the branches of a saga.

    python -m reefknot.demo.bank --database east.db --port 8081 --account alice=100

The server calls ``/out`` and ``/in`` to move money, and ``/out/undo`` and ``/in/undo`` to take that
back. It may call any of them twice, or an undo without its action. The barrier, asked inside the
bank's own transaction, makes each of them take effect once:

    200   done, or done before; there is nothing more to do
    409   refused: no money, or the account is closed. Everything is rolled back.
    else  (a crash, a 500, no answer) nobody knows; the server will call again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import click
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reefknot.barrier import Barrier, Reason
from reefknot.barrier.statements import Database, table_sql
from reefknot.demo.calls import RecordedCalls
from reefknot.errors import Invalid
from reefknot.store.statements import load_statements

SQL = load_statements("reefknot.demo", "bank.sql")


class RefusalError(Exception):
    """The bank says no, and will say no again."""


class Order(msgspec.Struct):
    """What a branch is sent: whose money, and how much."""

    account: str
    amount: Annotated[int, msgspec.Meta(gt=0, le=1_000_000_000)]


class Branch(NamedTuple):
    """One URL of the bank: the sign of the money it moves, and whether it takes back what was done."""

    sign: int
    undoes: bool = False


BRANCHES = {
    "/out": Branch(-1),
    "/out/undo": Branch(+1, undoes=True),
    "/in": Branch(+1),
    "/in/undo": Branch(-1, undoes=True),
}


class Bank:
    """Accounts in an SQLite database.

    Args:
        database: its file.
        guarded: False leaves the barrier out, to show what happens then.
    """

    def __init__(self, database: Path, *, guarded: bool = True) -> None:
        self._database = database
        self._guarded = guarded

    def open_accounts(self, accounts: Mapping[str, int], closed: frozenset[str]) -> None:
        """Make the tables and the accounts, unless the bank was opened before."""
        with closing(sqlite3.connect(self._database)) as conn, conn:
            if conn.execute("PRAGMA user_version").fetchone() == (1,):
                return
            conn.execute("PRAGMA journal_mode = WAL")
            conn.executescript(table_sql(Database.SQLITE))  # the barrier's table, in the accounts' database
            conn.execute("BEGIN")
            conn.execute(SQL["create_account"])
            conn.execute(SQL["create_entry"])
            for name, amount in accounts.items():
                conn.execute(SQL["open_account"], {"name": name, "amount": amount, "closed": name in closed})
            conn.execute("PRAGMA user_version = 1")

    def move(self, branch: Branch, query: Mapping[str, str], body: bytes) -> Reason:
        """Carry out one branch call in one local transaction.

        Args:
            branch: which of the four.
            query: names the operation: gid, branch_id, op, trans_type.
            body: the ``Order`` as JSON. It is not looked at when there is nothing to do: an undo must
                succeed even if its action was refused because of the order.

        Returns:
            What the barrier said, for the log.

        Raises:
            RefusalError: the order is no good; the account is unknown, closed or has too little.
            Invalid: the query does not name the operation.
        """
        barrier = Barrier.from_query(query)
        with closing(sqlite3.connect(self._database, timeout=10)) as conn, conn:
            # The barrier's row, the balance and the entry: committed together, or none of them.
            if not self._guarded or barrier.passes(conn):
                order = _read(body)
                change = {"account": order.account, "amount": branch.sign * order.amount}
                statement = SQL["reverse_balance" if branch.undoes else "change_balance"]
                if conn.execute(statement, change).rowcount == 0:
                    raise RefusalError(_why_not(conn, order.account))
                identity = barrier.branch
                names = {"gid": identity.gid, "branch_id": identity.branch_id, "op": identity.op}
                conn.execute(SQL["add_entry"], names | change)
        return barrier.reason or Reason.RUN

    def balances(self) -> dict[str, int]:
        """What is in each account."""
        with closing(sqlite3.connect(self._database, timeout=10)) as conn:
            return {name: balance for name, _, balance in conn.execute(SQL["list_accounts"])}


def _read(body: bytes) -> Order:
    try:
        return msgspec.json.decode(body, type=Order)
    except msgspec.DecodeError as error:
        raise RefusalError(f"the order is no good: {error}") from error


def _why_not(conn: sqlite3.Connection, account: str) -> str:
    row = conn.execute(SQL["find_account"], (account,)).fetchone()
    if row is None:
        return f"no account {account}"
    return f"{account}'s account is closed" if row[0] else f"{account} has not enough money"


async def _branch(bank: Bank, branch: Branch, request: Request) -> Response:
    body = await request.body()
    try:
        reason = await run_in_threadpool(bank.move, branch, request.query_params, body)
    except RefusalError as refusal:
        return PlainTextResponse(str(refusal), 409)
    except Invalid as error:
        return PlainTextResponse(str(error), 400)
    return PlainTextResponse(reason)  # the text is for people; the server looks at the status


async def _balance(bank: Bank, _: Request) -> Response:
    return JSONResponse(await run_in_threadpool(bank.balances))


def application(bank: Bank) -> Starlette:
    """The bank's web application."""
    routes = [Route(path, partial(_branch, bank, branch), methods=["POST"]) for path, branch in BRANCHES.items()]
    return Starlette(routes=[*routes, Route("/balance", partial(_balance, bank))])


@click.command()
@click.option("--database", type=click.Path(path_type=Path), required=True)
@click.option("--port", type=int, required=True)
@click.option("--account", "accounts", multiple=True, metavar="NAME=AMOUNT", help="Opened in a new database.")
@click.option("--closed", multiple=True, metavar="NAME", help="This account is closed.")
@click.option("--calls", type=click.Path(path_type=Path), help="Note every call here, for the demo's report.")
@click.option("--without-barrier", is_flag=True, help="Do what every call says, however often it comes.")
def main(
    database: Path,
    port: int,
    accounts: tuple[str, ...],
    closed: tuple[str, ...],
    calls: Path | None,
    without_barrier: bool,
) -> None:
    """Run a bank on 127.0.0.1."""
    bank = Bank(database, guarded=not without_barrier)
    amounts = dict(account.split("=", 1) for account in accounts)
    bank.open_accounts({name: int(amount) for name, amount in amounts.items()}, frozenset(closed))
    app = application(bank)
    uvicorn.run(
        app if calls is None else RecordedCalls(app, calls),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        lifespan="off",
    )


if __name__ == "__main__":
    main()
