# Written by scripts/twins.py from src/reefknot/xa/_async/session.py: change that file, then `make twins`.
"""Carries out the steps of an XA branch on one pinned connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reefknot.barrier.core import Branch, missing
from reefknot.barrier.drivers import driver_of
from reefknot.barrier.drivers.base import Driver
from reefknot.barrier.faults import Fault, fault_of
from reefknot.barrier.procedure import Do
from reefknot.barrier.procedure import Step as RowStep
from reefknot.barrier.statements import DEFAULT_TABLES
from reefknot.barrier.unawaited import done
from reefknot.client.environment import Time
from reefknot.xa.connection import alone, close, dialect_of, rows
from reefknot.xa.core import Dialect, Pause, Reconnect, Register, Statement, Step, Steps, Work

Connect = Callable[[], Any]


class Session:
    """One connection of our own to a participant's database, and the barrier's table in it.

    Args:
        connect: opens a connection that nobody else uses; it is closed here.
        branch: whose work this is.
        table: the barrier's table; DTM's name for it if empty.
    """

    def __init__(self, connect: Connect, branch: Branch, table: str) -> None:
        self._connect = connect
        self._branch = branch
        self._table = table
        self._connection: Any = None
        self._driver: Driver
        self._time = Time()

    def run(
        self,
        steps: Callable[[Dialect, Branch], Steps],
        work: Callable[[Any], Any] | None = None,
        register: Callable[[], None] | None = None,
    ) -> Any:
        """Carry out the steps and close the connection.

        Args:
            steps: ``core.action``, ``core.commit`` or ``core.rollback``.
            work: done with the connection where the steps say so.
            register: tells the transaction manager of the branch where the steps say so.

        Returns:
            What the steps return.

        Raises:
            BarrierMissing: the barrier's table does not exist.
            Invalid: the connection's library or database has no XA.
        """
        self._open()
        try:
            going = steps(dialect_of(self._driver.database), self._branch)
            answer: Any = None
            error: BaseException | None = None
            while True:
                try:
                    step = going.send(answer) if error is None else going.throw(error)
                except StopIteration as end:
                    return end.value
                try:
                    answer, error = self._perform(step, work, register), None
                except BaseException as problem:  # noqa: BLE001 - the steps decide; they undo what was begun and raise it again
                    answer, error = None, problem
        finally:
            self._close()

    def _open(self) -> None:
        self._connection = self._connect()
        try:
            self._driver = driver_of(self._connection)
            alone(self._connection)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        """Close the connection, once: some libraries make an error of the second time, which would hide the first."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection)

    def _perform(
        self,
        step: Step,
        work: Callable[[Any], Any] | None,
        register: Callable[[], None] | None,
    ) -> Any:
        match step:
            case Statement(sql, parameters):
                return rows(self._connection, sql, parameters)
            case RowStep():
                return self._row(step)
            case Pause(seconds):
                return self._time.sleep(seconds)
            case Reconnect():
                self._close()
                return self._open()
            case Work():
                return done(work(self._connection)) if work is not None else None
            case Register():
                return register() if register is not None else None

    def _row(self, step: RowStep) -> bool | tuple[str, ...] | None:
        driver = self._driver
        table = self._table or DEFAULT_TABLES[driver.database]
        try:
            if step.do is Do.INSERT:
                return driver.insert(step.row, table)
            return driver.read(step.row, table)
        except Exception as error:
            fault = fault_of(error, driver.database)
            if fault is Fault.DUPLICATE:
                return False
            if fault is Fault.NO_TABLE:
                raise missing(table, self._branch, driver.database) from error
            raise
