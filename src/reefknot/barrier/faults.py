"""What a database's error means to the barrier, read from the codes that every driver carries.

No driver is imported: an error is known by its SQLSTATE (PostgreSQL), its number (MySQL) or its text
(SQLite), and by the error it wraps (SQLAlchemy, Django).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto

from reefknot.barrier.statements import Database


class Fault(Enum):
    """An error that the barrier understands."""

    DUPLICATE = auto()
    NO_TABLE = auto()
    DEADLOCK = auto()
    ABORTED = auto()


# PostgreSQL: undefined_table, invalid_schema_name, deadlock_detected, serialization_failure, in_failed_sql_transaction.
_SQLSTATES: Mapping[str, Fault] = {
    "42P01": Fault.NO_TABLE,
    "3F000": Fault.NO_TABLE,
    "40P01": Fault.DEADLOCK,
    "40001": Fault.DEADLOCK,
    "25P02": Fault.ABORTED,
}
# MySQL and MariaDB: ER_DUP_ENTRY, ER_NO_SUCH_TABLE, ER_BAD_DB_ERROR, ER_LOCK_DEADLOCK.
_NUMBERS: Mapping[int, Fault] = {
    1062: Fault.DUPLICATE,
    1146: Fault.NO_TABLE,
    1049: Fault.NO_TABLE,
    1213: Fault.DEADLOCK,
}
# Django and SQLAlchemy themselves refuse every statement after an error that the transaction did not survive.
_REFUSALS = frozenset({"TransactionManagementError", "PendingRollbackError"})
_MOST_WRAPPERS = 5


def fault_of(error: BaseException, database: Database) -> Fault | None:
    """What the error means; None if it is none of the barrier's business."""
    for one in _unwrapped(error):
        if type(one).__name__ in _REFUSALS:
            return Fault.ABORTED
        if database is Database.POSTGRES:
            found = _SQLSTATES.get(str(getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)))
        elif database is Database.MYSQL:
            number = getattr(one, "errno", None) or (one.args[0] if one.args else None)
            found = _NUMBERS.get(number) if isinstance(number, int) else None
        else:
            text = str(one)
            found = Fault.NO_TABLE if "no such table" in text or "unknown database" in text else None
        if found is not None:
            return found
    return None


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it wraps, outermost first."""
    one: object = error
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(one, BaseException):
            return
        yield one
        one = getattr(one, "orig", None) or one.__cause__
