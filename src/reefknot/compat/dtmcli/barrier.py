"""The barrier, around a DB-API cursor."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from reefknot.barrier import Barrier, LocalTransactionOpen
from reefknot.barrier.drivers import driver_of
from reefknot.barrier.identity import Place
from reefknot.compat.dtmcli.servers import note_spelling, old_errors
from reefknot.errors import ReefknotError
from reefknot.model import Op


class AutoCursor:
    """Gives a cursor, and closes it and its connection at the end of the block.

    Args:
        cursor: of any DB-API library the barrier knows.
    """

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def __enter__(self) -> Any:
        return self.cursor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self.cursor.connection
        self.cursor.close()
        connection.close()


class _CursorBarrier(Barrier):
    """A barrier that takes the transaction as it is, begun or not."""

    def lead(self, cursor: Any, work: Callable[[Any], Any]) -> bool:
        """Do the work once and commit, or roll back what it raises; whether it was done."""
        driver = driver_of(cursor.connection)
        try:
            driver.begin()
        except LocalTransactionOpen:
            driver.refuse_autocommit()
        try:
            passed = self._passes(driver)
        except BaseException as error:
            self._roll_back(driver, error)
            raise
        self._finish(driver, passed, lambda: work(cursor))
        return passed

    def _refuse_elsewhere(self, place: Place, *, counting: bool) -> None:
        """Allow it: the old client has one sequence of numbers for all databases, and no other way to name them."""


class BranchBarrier:
    """Keeps one branch operation to one effect.

    Args:
        trans_type: the transaction's mode.
        gid: the transaction.
        branch_id: the branch.
        op: the operation.

    Raises:
        Invalid: one of them is missing, longer than its column or has a character that some client deletes.
    """

    def __init__(self, trans_type: str, gid: str, branch_id: str, op: str) -> None:
        note_spelling("barrier.BranchBarrier(trans_type, gid, branch_id, op)", "Barrier.from_query(query)")
        self.trans_type = trans_type
        self.gid = gid
        self.branch_id = branch_id
        self.op = op
        self.barrier_id: int = 0
        self._barrier = _CursorBarrier(trans_type, gid, branch_id, op)

    def call(self, cursor: Any, busi_callback: Callable[[Any], Any]) -> None:
        """Do the work once and commit, or roll back what it raises. The connection stays open.

        A transaction that is open on the connection goes with it. With ``Barrier.passes`` of the SDK the commit
        is yours.

        Args:
            cursor: of any DB-API library the barrier knows.
            busi_callback: is called with the cursor, if the operation runs.

        Raises:
            ReefknotError: the operation is a message's local transaction and ran before.
            TransactionLost: the work ended the transaction, or went on after an error that it did not survive.
            BarrierMissing: the barrier's table does not exist.
        """
        self.barrier_id += 1
        passed = self._barrier.lead(cursor, busi_callback)
        if not passed and self.op == Op.MSG:
            what = f"the local transaction of this message ran before: {self._barrier.reason}"
            raise ReefknotError(what, gid=self.gid, advice="do not do the work again")

    def query_prepared(self, cursor: Any) -> None:
        """Return if a message's local transaction committed; if it has not by now, it never can.

        Raises:
            DTMFailureError: it did not: answer 409.
        """
        with old_errors():
            self._barrier.asked(cursor.connection)
