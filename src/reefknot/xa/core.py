"""What an XA branch does, step by step, without any database or network.

Theory of operation. The database itself holds the branch: its work is *prepared* under a name, the
xid, and from then on a commit or a rollback from any session ends it. Three things go wrong in the
field, and each step here answers one of them:

* A late action: the transaction was rolled back before the action arrived. The rollback leaves the
  barrier's row of the action, with the reason ``rollback``; the action's own row then does not get in.
* "Unknown xid" at the commit. It may mean that an earlier commit did it; or that the preparing
  session is still closing, because MariaDB shows a prepared xid to nobody else until then; or that
  the work is lost. Only the first is a success, and only the action's committed row proves it.
* A session that changes under the work. Everything runs on one pinned connection.

The steps are generators: they yield what is to be done, and are sent what came of it or have thrown
in what went wrong. Two thin loops carry them out, one for threads and one for asyncio.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

import msgspec

from reefknot.barrier.core import BLOCKED, Branch, NoLocalTransaction, Row, rows
from reefknot.barrier.procedure import Do
from reefknot.barrier.procedure import Step as RowStep
from reefknot.errors import Failure, Invalid, Ongoing, ReefknotError
from reefknot.model import Op

_log = logging.getLogger(__name__)

#: MySQL and MariaDB: two parts of 64 bytes each. PostgreSQL: fewer than 200 bytes.
XID_BYTES = 128
#: How long an operation waits for the rows of another session before it asks to be called again.
LOCK_SECONDS = 1
#: How often and how long a phase-2 call, or the end of an action, waits for another session to let go.
DETACH_TRIES = 20
DETACH_SECONDS = 0.05


class InDoubt(ReefknotError):
    """The database does not show what a decision wants to find: nothing is known, so nothing is reported done."""

    code = "RK215"


class Problem(Enum):
    """What an error of the database means here."""

    UNKNOWN_XID = "unknown xid"
    KNOWN_XID = "the xid exists"
    ROLLED_BACK = "the database has rolled it back by itself"
    BUSY = "another session holds it"
    LOCKED = "a row is locked"
    DISABLED = "prepared transactions are switched off"


class Statement(NamedTuple):
    """Run it on the pinned connection; comes back as the list of its rows."""

    sql: str
    parameters: tuple[object, ...] = ()


class Work(NamedTuple):
    """Let the caller do its work on the pinned connection; comes back as what that returned."""


class Register(NamedTuple):
    """Tell the transaction manager where phase 2 is to be called."""


class Reconnect(NamedTuple):
    """Close the pinned connection and go on with a fresh one."""


class Pause(NamedTuple):
    """Wait."""

    seconds: float


#: A ``RowStep`` is the barrier's: insert a row of its table, or read the one that is there.
Step = Statement | RowStep | Work | Register | Reconnect | Pause
Steps = Generator[Step, Any, Any]


class Dialect(Protocol):
    """The statements of one kind of database."""

    #: Whether a prepared xid stays with its session until that is closed.
    detaches_by_closing: bool

    def start(self, xid: bytes) -> Sequence[Statement]:
        """Begin the branch's work."""
        ...

    def prepare(self, xid: bytes) -> Sequence[Statement]:
        """End the work and prepare it."""
        ...

    def abandon(self, xid: bytes) -> Sequence[Statement]:
        """End the work and forget it, before it was prepared."""
        ...

    def finish(self, xid: bytes, *, commit: bool) -> Statement:
        """Commit or roll back what is prepared."""
        ...

    def prepared(self, found: Sequence[Sequence[Any]]) -> frozenset[bytes]:
        """The xids in the rows of ``list_prepared``."""
        ...

    def list_prepared(self) -> Statement:
        """Everything that is prepared and waits for its end."""
        ...

    def patience(self, seconds: int) -> Sequence[Statement]:
        """Wait no longer than that for a locked row; 0 is the session's own limit again."""
        ...

    def session(self) -> Statement:
        """The number of this session."""
        ...

    def transaction(self) -> Statement | None:
        """The number of the open transaction; None if the database itself forbids ending it inside the branch."""
        ...

    def has_session(self, number: object) -> Statement:
        """A row if that session is still there."""
        ...

    def problem(self, error: BaseException) -> Problem | None:
        """What an error of the driver means here; None if it is the caller's affair."""
        ...


def xid_of(branch: Branch) -> bytes:
    """The xid of a branch: ``<gid>-<branch id>``, as DTM's clients name it.

    Raises:
        Invalid: it is longer than a database can hold. It is never cut: two long gids must not become one.
    """
    xid = f"{branch.gid}-{branch.branch_id}".encode()
    if len(xid) > XID_BYTES:
        raise Invalid(
            "gid",
            f"makes an XA identifier of {len(xid)} bytes; databases hold {XID_BYTES}",
            "choose a shorter gid for transactions with xa branches",
        )
    return xid


def guard_row(branch: Branch) -> Row:
    """The barrier's row of the branch's action, by which it is known whether it committed."""
    (row,) = rows(Branch(branch.trans_type, branch.gid, branch.branch_id, Op.ACTION), 1)
    return row


def action(dialect: Dialect, branch: Branch) -> Steps:
    """Phase 1: do the work, register the branch, prepare.

    Returns:
        What the work returned; None if an earlier call did it.

    Raises:
        Failure: the branch was rolled back before this call arrived.
        Ongoing: an earlier call is still at it.
    """
    xid, row = xid_of(branch), guard_row(branch)
    session = (yield from _first(dialect.session())) if dialect.detaches_by_closing else None
    if xid in (yield from _prepared(dialect)):
        return None
    try:
        yield from _all(dialect.start(xid))
    except BaseException as error:
        if dialect.problem(error) is Problem.KNOWN_XID:
            raise _still_at_work(xid) from error
        raise
    try:
        mine = yield from _take_place(dialect, xid, row)
        result = (yield from _work(dialect)) if mine else None
        if mine:
            yield Register()
    except BaseException:
        yield from _abandon(dialect, xid)
        raise
    if not mine:
        yield from _abandon(dialect, xid)
        return None
    try:
        yield from _all(dialect.prepare(xid))
    except BaseException as error:
        yield from _abandon(dialect, xid)
        if dialect.problem(error) is Problem.DISABLED:
            raise Invalid(
                "max_prepared_transactions",
                "is 0 in this PostgreSQL server, so it can prepare nothing",
                "set it to at least max_connections and restart the server",
            ) from error
        raise
    if session is not None:
        yield Reconnect()
        yield from _wait_for_end_of(dialect, session)
    return result


def commit(dialect: Dialect, branch: Branch) -> Steps:
    """Phase 2 of a transaction that goes forward.

    Raises:
        InDoubt: the database knows nothing of the branch, neither prepared nor committed.
        Ongoing: the preparing session has not let go yet.
    """
    xid, row = xid_of(branch), guard_row(branch)
    if (yield from _finish(dialect, xid, commit=True)):
        return
    reason = yield from _reason(row)
    if reason == Op.ACTION:
        return
    raise InDoubt(
        f"the branch cannot be committed: it {'was rolled back' if reason else 'is not known'} in this database, "
        f"and nothing is prepared as {xid.decode()}",
        gid=branch.gid,
        branch_id=branch.branch_id,
        advice="see whether the action worked in another database; `reefknot xa list` shows what is prepared",
    )


def rollback(dialect: Dialect, branch: Branch) -> Steps:
    """Phase 2 of a transaction that is undone; also keeps an action out that arrives later.

    Raises:
        InDoubt: the branch was committed here.
        Ongoing: the action is still at work, or its session has not let go yet.
    """
    xid, row = xid_of(branch), guard_row(branch)
    yield from _finish(dialect, xid, commit=False)
    yield from _all(dialect.patience(LOCK_SECONDS))
    blocked = msgspec.structs.replace(row, reason=BLOCKED)
    if not (yield from _insert(dialect, xid, blocked)) and (yield from _reason(row)) == Op.ACTION:
        raise InDoubt(
            f"the branch cannot be rolled back: {xid.decode()} was committed in this database",
            gid=branch.gid,
            branch_id=branch.branch_id,
            advice="somebody committed it by hand, or two servers decide about this gid",
        )


def _finish(dialect: Dialect, xid: bytes, *, commit: bool) -> Steps:
    """End what is prepared; False if nothing is, under this name."""
    for _ in range(DETACH_TRIES):
        try:
            yield dialect.finish(xid, commit=commit)
        except BaseException as error:
            problem = dialect.problem(error)
            if problem is Problem.ROLLED_BACK:
                return False
            if problem is Problem.UNKNOWN_XID and xid not in (yield from _prepared(dialect)):
                return False
            if problem not in (Problem.UNKNOWN_XID, Problem.BUSY):
                raise
            yield Pause(DETACH_SECONDS)
        else:
            return True
    raise Ongoing(f"{xid.decode()} is prepared, and the session that prepared it has not closed yet")


def _take_place(dialect: Dialect, xid: bytes, row: Row) -> Steps:
    """Put the action's row into the branch's transaction; False if an earlier call committed it."""
    yield from _all(dialect.patience(LOCK_SECONDS))
    inserted = yield from _insert(dialect, xid, row)
    yield from _all(dialect.patience(0))
    if inserted:
        return True
    if (yield from _reason(row)) == BLOCKED:
        raise Failure("the branch was rolled back before its action arrived")
    return False


def _work(dialect: Dialect) -> Steps:
    """The caller's work, which must leave the branch's transaction open."""
    number = dialect.transaction()
    if number is None:
        return (yield Work())
    before = yield from _first(number)
    result = yield Work()
    if (yield from _first(number)) != before:
        raise NoLocalTransaction(
            "the work of the xa branch ended its transaction; leave COMMIT and ROLLBACK to the branch"
        )
    return result


def _insert(dialect: Dialect, xid: bytes, row: Row) -> Steps:
    try:
        return (yield RowStep(Do.INSERT, row))
    except BaseException as error:
        if dialect.problem(error) in (Problem.LOCKED, Problem.BUSY):
            raise _still_at_work(xid) from error
        raise


def _reason(row: Row) -> Steps:
    """The reason of the row in this one's place; empty if there is none."""
    found = yield RowStep(Do.READ, row)
    return found[-1] if found else ""


def _prepared(dialect: Dialect) -> Steps:
    return dialect.prepared((yield dialect.list_prepared()))


def _wait_for_end_of(dialect: Dialect, session: object) -> Steps:
    """Wait until nobody holds the prepared xid any more, so that its commit finds it.

    If that takes long, the commit will have to ask again: nothing is lost.
    """
    for _ in range(DETACH_TRIES):
        if not (yield dialect.has_session(session)):
            return
        yield Pause(DETACH_SECONDS)


def _abandon(dialect: Dialect, xid: bytes) -> Steps:
    """Forget what was not prepared; the connection may be beyond that."""
    for statement in dialect.abandon(xid):
        try:
            yield statement
        except Exception as error:  # noqa: BLE001 - what made us give up is the error to show
            _log.debug("could not end the xa branch; closing its connection does", extra={"error": str(error)})
            return


def _all(statements: Sequence[Statement]) -> Steps:
    for statement in statements:  # noqa: UP028 - a tuple cannot be sent the answers
        yield statement


def _first(statement: Statement) -> Steps:
    """The first value of the first row; None if there is no row."""
    found = yield statement
    return found[0][0] if found else None


def _still_at_work(xid: bytes) -> Ongoing:
    return Ongoing(f"an earlier call of {xid.decode()} is still at work")
