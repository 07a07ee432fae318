"""XA as PostgreSQL does it: ``PREPARE TRANSACTION``.

The statements take no parameters, so an xid stands in them as a quoted text, escaped so that its
meaning does not depend on the server's settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reefknot.xa.core import Problem, Statement

#: SQLSTATE codes, from appendix A of the manual.
_PROBLEMS = {
    "42704": Problem.UNKNOWN_XID,
    "42710": Problem.KNOWN_XID,
    "55P03": Problem.LOCKED,
    "40P01": Problem.LOCKED,
}


class Postgres:
    """The statements of PostgreSQL."""

    detaches_by_closing = False

    def start(self, xid: bytes) -> Sequence[Statement]:
        return (Statement("BEGIN"),)

    def prepare(self, xid: bytes) -> Sequence[Statement]:
        return (Statement(f"PREPARE TRANSACTION {literal(xid)}"),)

    def abandon(self, xid: bytes) -> Sequence[Statement]:
        return (Statement("ROLLBACK"),)

    def finish(self, xid: bytes, *, commit: bool) -> Statement:
        return Statement(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED {literal(xid)}")

    def list_prepared(self) -> Statement:
        return Statement("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")

    def prepared(self, found: Sequence[Sequence[Any]]) -> frozenset[bytes]:
        return frozenset(str(gid).encode() for (gid,) in found)

    def patience(self, seconds: int) -> Sequence[Statement]:
        return (Statement(f"SET lock_timeout = '{int(seconds)}s'" if seconds else "SET lock_timeout = DEFAULT"),)

    def transaction(self) -> Statement | None:
        return Statement("SELECT txid_current()")

    def session(self) -> Statement:
        return Statement("SELECT pg_backend_pid()")

    def has_session(self, number: object) -> Statement:
        return Statement("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (number,))

    def problem(self, error: BaseException) -> Problem | None:
        state = getattr(error, "sqlstate", None)
        if state == "55000":
            # Both "is busy" and "prepared transactions are disabled" have this code.
            return Problem.DISABLED if "disabled" in str(error) else Problem.BUSY
        return _PROBLEMS.get(state) if isinstance(state, str) else None


def literal(xid: bytes) -> str:
    """The xid in a statement."""
    text = xid.decode().replace("\\", "\\\\").replace("'", "\\'")
    return f"E'{text}'"
