"""XA as MySQL and MariaDB do it.

The statements take no parameters, so an xid stands in them as hexadecimal digits: nothing of a gid
can end the literal. An xid of more than 64 bytes is continued in the second part of the identifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reefknot.xa.core import Problem, Statement

_PART_BYTES = 64
#: Error numbers, from the reference manual's list of server errors.
_PROBLEMS = {
    1397: Problem.UNKNOWN_XID,
    1440: Problem.KNOWN_XID,
    1402: Problem.ROLLED_BACK,
    1613: Problem.ROLLED_BACK,
    1614: Problem.ROLLED_BACK,
    1205: Problem.LOCKED,
    1213: Problem.LOCKED,
    1399: Problem.BUSY,
}


class MySql:
    """The statements of MySQL and MariaDB."""

    #: MariaDB shows a prepared xid to other sessions only after the preparing one has ended.
    detaches_by_closing = True

    def start(self, xid: bytes) -> Sequence[Statement]:
        return (Statement(f"XA START {literal(xid)}"),)

    def prepare(self, xid: bytes) -> Sequence[Statement]:
        return (Statement(f"XA END {literal(xid)}"), Statement(f"XA PREPARE {literal(xid)}"))

    def abandon(self, xid: bytes) -> Sequence[Statement]:
        return (Statement(f"XA END {literal(xid)}"), Statement(f"XA ROLLBACK {literal(xid)}"))

    def finish(self, xid: bytes, *, commit: bool) -> Statement:
        return Statement(f"XA {'COMMIT' if commit else 'ROLLBACK'} {literal(xid)}")

    def list_prepared(self) -> Statement:
        return Statement("XA RECOVER")

    def prepared(self, found: Sequence[Sequence[Any]]) -> frozenset[bytes]:
        return frozenset(data.encode() if isinstance(data, str) else bytes(data) for _, _, _, data in found)

    def patience(self, seconds: int) -> Sequence[Statement]:
        value = str(int(seconds)) if seconds else "DEFAULT"
        return (Statement(f"SET SESSION innodb_lock_wait_timeout = {value}"),)

    def transaction(self) -> Statement | None:
        # COMMIT, and what commits implicitly, is error 1399 between XA START and XA END.
        return None

    def session(self) -> Statement:
        return Statement("SELECT connection_id()")

    def has_session(self, number: object) -> Statement:
        return Statement("SELECT 1 FROM information_schema.processlist WHERE id = %s", (number,))

    def problem(self, error: BaseException) -> Problem | None:
        code = error.args[0] if error.args else None
        return _PROBLEMS.get(code) if isinstance(code, int) else None


def literal(xid: bytes) -> str:
    """The xid in a statement."""
    first, second = xid[:_PART_BYTES], xid[_PART_BYTES:]
    return f"X'{first.hex()}'" + (f",X'{second.hex()}'" if second else "")
