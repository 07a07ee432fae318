"""Whether the barrier's row is still in the transaction that is about to be committed.

A COMMIT may be none: PostgreSQL answers one in a transaction that an error has aborted with ROLLBACK and reports
no error, a deadlock on MySQL rolls the whole transaction back, and the work may have ended it by itself. If the
work goes on after that, the commit says yes to nothing, or to effects without a row.
"""

from __future__ import annotations

from typing import NoReturn

from reefknot.barrier.core import FIRST_CALL, Branch, Row, TransactionLost, rows
from reefknot.barrier.drivers.base import AsyncDriver, Driver
from reefknot.barrier.faults import Fault, fault_of
from reefknot.barrier.statements import DEFAULT_TABLES

_ADVICE = (
    "leave COMMIT, ROLLBACK and statements that commit by themselves out of the work, and let it raise what the "
    "database says: a deadlock rolls everything back"
)
_ENDED = (
    "the transaction ended during the work, so the barrier's row and all of the work are not committed together",
    _ADVICE,
)
_GONE = "the transaction was rolled back during the work, and the barrier's row with it", _ADVICE
_ABORTED = (
    "the work went on after an error of the database that its transaction did not survive: a COMMIT would roll back",
    "let the work raise that error, or put the statement that may fail into a savepoint",
)


def check_row(driver: Driver, branch: Branch, table: str = "", call: int = FIRST_CALL) -> None:
    """Make sure, right before a commit, that the row which let the work run is committed with the work.

    The caller rolls back what this raises.

    Args:
        driver: of the connection with the transaction.
        branch: the operation that runs.
        table: the barrier's; empty for the usual one.
        call: the number of the row.

    Raises:
        TransactionLost: the transaction was ended or broken, or the row is not there.
    """
    own = rows(branch, call)[-1]
    _refuse_ended(driver.asked_inside(), branch)
    try:
        found = driver.read(own, table or DEFAULT_TABLES[driver.database])
    except Exception as error:
        _refuse_aborted(driver, branch, error)
        raise
    _compare(found, own, branch)


async def async_check_row(driver: AsyncDriver, branch: Branch, table: str = "", call: int = FIRST_CALL) -> None:
    """``check_row`` for async drivers."""
    own = rows(branch, call)[-1]
    _refuse_ended(driver.inside(), branch)
    try:
        found = await driver.read(own, table or DEFAULT_TABLES[driver.database])
    except Exception as error:
        _refuse_aborted(driver, branch, error)
        raise
    _compare(found, own, branch)


def _refuse_ended(inside: bool | None, branch: Branch) -> None:
    if inside is False:
        _lost(_ENDED, branch)


def _refuse_aborted(driver: AsyncDriver | Driver, branch: Branch, error: Exception) -> None:
    if fault_of(error, driver.database) is Fault.ABORTED:
        _lost(_ABORTED, branch, error)


def _compare(found: tuple[str, ...] | None, own: Row, branch: Branch) -> None:
    # Another call of the same branch may have got its row in as soon as this one's was gone.
    if found != (*own.key, own.reason):
        _lost(_GONE, branch)


def _lost(words: tuple[str, str], branch: Branch, cause: Exception | None = None) -> NoReturn:
    what, advice = words
    raise TransactionLost(what, gid=branch.gid, branch_id=branch.branch_id, advice=advice) from cause
