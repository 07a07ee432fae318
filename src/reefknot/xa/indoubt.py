"""Prepared branches that nobody has decided yet: what they are, and what the server's decision makes of them.

They hold locks until they end. The server ends them by itself as long as the participant answers; what is
left is for an operator: a participant that is gone for good, a transaction that was stopped by force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from typing import Any

import msgspec

from reefknot.barrier.core import Branch
from reefknot.barrier.drivers import driver_of
from reefknot.client import Client, Transaction
from reefknot.model import Op, Status
from reefknot.xa import core
from reefknot.xa._sync.session import Session
from reefknot.xa.connection import alone, dialect_of, rows

_XID = re.compile(r"(?P<gid>.+)-(?P<branch_id>(\d\d)+)", re.DOTALL)
#: The modes whose branches are prepared in databases. What has the gid of another one is another program's.
_PREPARING_MODES = frozenset({"workflow", "xa"})


class Verdict(StrEnum):
    """What is to be done with a prepared branch."""

    COMMIT = "commit"
    ROLL_BACK = "roll back"
    WAIT = "wait"
    LEAVE = "leave"


class Prepared(msgspec.Struct, frozen=True):
    """A prepared branch and what the server says about its transaction.

    ``mode`` and ``status`` are those of the transaction, empty if the server has none of that gid or was not asked.
    ``done`` says whether the verdict was carried out; ``problem`` why it could not be, or why there is none.
    """

    xid: str
    gid: str = ""
    branch_id: str = ""
    mode: str = ""
    status: str = ""
    verdict: Verdict = Verdict.LEAVE
    done: bool = False
    problem: str = ""


def prepared(connect: Callable[[], Any], client: Client | None = None) -> list[Prepared]:
    """Everything that is prepared in a participant's database, each with its verdict.

    Args:
        connect: opens a connection to the database; it is closed here.
        client: speaks to the server; without it no verdict is given.

    Raises:
        Invalid: the database cannot prepare transactions.
        ServerUnavailable: the server gave no clear answer.
    """
    with closing(connect()) as connection:
        alone(connection)
        dialect = dialect_of(driver_of(connection).database)
        statement = dialect.list_prepared()
        xids = dialect.prepared(rows(connection, statement.sql, statement.parameters))
    return [_judged(xid, client) for xid in sorted(xids)]


def sweep(connect: Callable[[], Any], client: Client, *, table: str = "", dry_run: bool = False) -> Iterator[Prepared]:
    """Commit what belongs to transactions that succeeded, roll back what belongs to those that failed.

    Nothing else is touched: a transaction that is not finished is the server's, and one that the server
    does not know, or that has no such branch, may be another server's, or not Reefknot's at all.

    Args:
        connect: opens a connection to the participant's database; it is closed here.
        client: speaks to the server that decides.
        table: the barrier's table; ``dtm_barrier.barrier`` if empty.
        dry_run: only say what would be done.

    Yields:
        Each prepared branch as soon as it is dealt with.

    Raises:
        Invalid: as ``prepared``.
        ServerUnavailable: as ``prepared``.
    """
    for found in prepared(connect, client):
        if dry_run or found.verdict not in (Verdict.COMMIT, Verdict.ROLL_BACK):
            yield found
            continue
        commits = found.verdict is Verdict.COMMIT
        branch = Branch(found.mode, found.gid, found.branch_id, Op.COMMIT if commits else Op.ROLLBACK)
        try:
            Session(connect, branch, table).run(core.commit if commits else core.rollback)
        except Exception as error:  # noqa: BLE001 - one branch that cannot be ended must not keep the others waiting
            yield msgspec.structs.replace(found, problem=str(error))
        else:
            yield msgspec.structs.replace(found, done=True)


def _judged(xid: bytes, client: Client | None) -> Prepared:
    text = xid.decode(errors="backslashreplace")
    match = _XID.fullmatch(text)
    if match is None:
        return Prepared(text)
    gid, branch_id = match["gid"], match["branch_id"]
    if client is None:
        return Prepared(text, gid, branch_id)
    transaction = client.get(gid)
    if transaction is None:
        problem = "this server does not know the gid: another server, purged, or never registered"
        return Prepared(text, gid, branch_id, problem=problem)
    problem = _not_of(transaction, branch_id)
    verdict = Verdict.LEAVE
    if not problem:
        ended = {Status.SUCCEED: Verdict.COMMIT, Status.FAILED: Verdict.ROLL_BACK}
        verdict = ended.get(transaction.status, Verdict.WAIT)
    return Prepared(text, gid, branch_id, transaction.mode, transaction.status, verdict, problem=problem)


def _not_of(transaction: Transaction, branch_id: str) -> str:
    """Why something of this name is not prepared by a branch of the transaction; empty if it is."""
    if transaction.mode not in _PREPARING_MODES:
        return f"the transaction of this gid is a {transaction.mode}, which prepares nothing: another program's"
    if branch_id not in {branch.branch_id for branch in transaction.branches}:
        return f"the {transaction.mode} of this gid has no branch {branch_id}: another program's, or never registered"
    return ""
