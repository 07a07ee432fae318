# Written by scripts/twins.py from src/reefknot/client/_async/committing.py: change that file, then `make twins`.
"""A message and a local transaction that happen together or not at all.

The order, and what a failure at each place comes to:

    1  begin                      nothing has happened yet; the error goes on
    2  prepare the message        the local transaction is rolled back; the server asks back if it has it
    3  write the barrier's row    the local transaction is rolled back, and the barrier's table asked
    4  the caller's work          likewise
    5  find the row, commit       likewise: the work may have ended the transaction, and a COMMIT be none
    6  submit the message         it is prepared: the server asks back and delivers it

Whoever is interrupted (a task that is cancelled, Ctrl-C) at 5 does not wait for answers: rolled back, if there is
anything left to roll back, and the server asks. What is raised after a COMMIT that happened, by a hook of Django's
``on_commit`` for example, is logged, and the message is sent.

Even an error before the work is a reason to ask: an earlier run with the same gid may have committed and
died. A process that dies anywhere leaves it to the server, which asks back and finds the row, or makes sure
that it can never be written.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from reefknot.barrier import Barrier, Reason
from reefknot.barrier.core import asking_failed
from reefknot.barrier.drivers import driver_of
from reefknot.barrier.drivers.base import Driver
from reefknot.barrier.kept import check_row
from reefknot.barrier.unawaited import done
from reefknot.client.answers import reason_of
from reefknot.client.values import Outcome
from reefknot.errors import Failure, OutcomeUnknown, ReefknotError, Refused
from reefknot.model import Status

if TYPE_CHECKING:
    from reefknot.client._sync.msg import Msg

_log = logging.getLogger("reefknot.client")

_SERVER_ASKS = "nothing is lost: the server asks back, and delivers or drops the message by what it is told"
_WHAT_BECAME = {
    True: "msg {gid}: the local transaction is committed, so the message is sent all the same",
    None: f"msg {{gid}}: whether the local transaction committed is not known; {_SERVER_ASKS}",
}

Connection = TypeVar("Connection")
Result = TypeVar("Result")


class Committing(Generic[Connection]):
    """The block of ``Msg.committing``.

    Args:
        msg: the message.
        connection: the caller's, without an open transaction.
        ask: the URL that the server asks.
        table: the barrier's table; empty for the usual one.
    """

    def __init__(self, msg: Msg, connection: Connection, ask: str, table: str) -> None:
        self._msg = msg
        self._connection = connection
        self._ask = ask
        self._table = table

    def __enter__(self) -> Connection:
        driver = driver_of(self._connection)
        barrier = self._barrier()
        # First: a connection that has no transaction to give leaves no message behind.
        driver.begin()
        try:
            self._msg.prepare(self._ask)
        except BaseException:
            with contextlib.suppress(Exception):
                driver.rollback()
            raise
        try:
            passed = barrier.passes(self._connection)
        except BaseException as error:
            _explain(self._msg, error, self._settle(error))
            raise
        if not passed:
            driver.rollback()
            self._decided_before(barrier.reason)
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            _explain(self._msg, error, self._settle(error))
            return
        driver = driver_of(self._connection)
        try:
            check_row(driver, self._barrier().branch, self._table)
            driver.commit()
        except Exception as problem:
            committed = self._settle(problem)
            if committed is None:
                gid, what = self._msg.gid, f"whether the local transaction committed is not known ({problem!r})"
                raise OutcomeUnknown(what, gid=gid, advice=_SERVER_ASKS) from problem
            if not committed:
                raise
            _log.error("msg %s: raised after the local transaction was committed", self._msg.gid, exc_info=problem)
            return
        except BaseException as interruption:
            self._interrupted(driver, interruption)
            raise
        _submit(self._msg)

    def _settle(self, error: BaseException) -> bool | None:
        """Something was raised: ask the barrier's table what the local transaction came to, and act on it.

        Returns:
            True: it committed, and the message is submitted. False: it never will, and the message is dropped.
            None: the table cannot be asked; neither submitted nor dropped.
        """
        driver = driver_of(self._connection)
        try:
            driver.rollback()
            self._barrier().asked(self._connection)
        except Failure:
            _drop(self._msg, error)
            return False
        except Exception as problem:  # noqa: BLE001 - the connection may be broken in any way; the error goes on
            _log.warning("msg %s: the barrier's table cannot be asked: %r", self._msg.gid, problem)
            return None
        except BaseException as interruption:
            self._interrupted(driver, interruption)
            raise
        _submit(self._msg)
        return True

    def _interrupted(self, driver: Driver, interruption: BaseException) -> None:
        """Leave no transaction open behind one who does not want to wait for more."""
        with contextlib.suppress(Exception):
            driver.rollback()
        _explain(self._msg, interruption, None)

    def _decided_before(self, reason: Reason | None) -> None:
        """The barrier's row is there already: by an earlier run with this gid, or by the server's question.

        Raises:
            Refused: always; the work must not be done again, or cannot count any more.
        """
        gid = self._msg.gid
        if reason is Reason.REPEATED:
            _submit(self._msg)
            what = "the local transaction of this message committed before; the message is submitted"
            raise Refused(what, status=Status.SUBMITTED, gid=gid, advice="do not do the work again")
        what = "the server has asked back already and was told that this message will not commit"
        error = Refused(what, status=Status.FAILED, gid=gid, advice="use another gid, or a longer timeout=")
        _drop(self._msg, error)
        raise error

    def _barrier(self) -> Barrier:
        return message_barrier(self._msg.gid, self._table)


def message_barrier(gid: str, table: str = "") -> Barrier:
    """The barrier of a message's local transaction."""
    return Barrier("msg", gid, "00", "msg", table=table)


def do_and_submit(msg: Msg, ask: str, work: Callable[[Barrier], Result], table: str) -> Result:
    """See ``Msg.do_and_submit``."""
    msg.prepare(ask)
    barrier = message_barrier(msg.gid, table)
    try:
        result = done(work(barrier))
    except Exception as error:
        # A refusal too: of an earlier run with this gid, which may have committed, it says nothing.
        committed = False if barrier.reason is Reason.TOO_LATE else _committed(msg, ask)
        if committed:
            _submit(msg)
        elif committed is False:
            _drop(msg, error)
        _explain(msg, error, committed)
        raise
    if barrier.reason is Reason.TOO_LATE:
        # The work heard it and left everything as it was; a submit would send what never happened.
        too_late = asking_failed(barrier.branch)
        _drop(msg, too_late)
        raise too_late
    _submit(msg)
    return result


def _explain(msg: Msg, error: BaseException, committed: bool | None) -> None:
    """Say with the error what became of the message, where it was not dropped."""
    if committed is not False:
        error.add_note(_WHAT_BECAME[committed].format(gid=msg.gid))


def _committed(msg: Msg, ask: str) -> bool | None:
    """The answer to the question that the server would ask; None if nobody can say."""
    try:
        msg.ask_back(ask)
    except Failure:
        return False
    except ReefknotError:
        return None
    return True


def _submit(msg: Msg) -> None:
    """Submit what is committed. It is prepared, so it is delivered even if this gets no answer."""
    try:
        msg.submit()
    except ReefknotError as error:
        # A status that forbids it is a contradiction, which the caller must hear of.
        if msg.waits or (isinstance(error, Refused) and error.status):
            error.add_note(_WHAT_BECAME[True].format(gid=msg.gid))
            raise
        msg.outcome = Outcome(msg.gid, Status.PREPARED)
        _log.warning(
            "msg %s: the local transaction is committed and the submit was not confirmed (%s); the server asks back",
            msg.gid,
            error.what,
        )


def _drop(msg: Msg, error: BaseException) -> None:
    """Abort what can never commit; if nobody answers, the server asks back and drops it."""
    try:
        msg.abort(reason_of(error))
    except ReefknotError as problem:
        _log.warning("msg %s: the abort was not confirmed (%s); the server asks back", msg.gid, problem.what)
