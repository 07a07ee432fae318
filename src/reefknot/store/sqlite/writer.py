"""Applies batches of operations to the database file. Synchronous; knows no event loop.

An operation is a sequence of plain values: the name of a method below, then its arguments. Times
in it are absolute; the caller's clock made them. A batch is one transaction of the database, so it
is applied whole and durably, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from reefknot.errors import StoreUnavailable
from reefknot.store.sqlite.database import PACKAGE, connect_writer, settings
from reefknot.store.statements import load_statements

#: One value, row or structure as SQLite and msgpack both know it.
Plain = Any
Operation = Sequence[Plain]

#: A body longer than this many bytes is kept outside the row that each step rewrites.
LARGE_BODY = 4_000

#: Errors that tell about the file or the machine, not about one operation.
_STORE_ERRORS = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)


class Writer:
    """The only writer of a database file.

    Args:
        path: the file; its schema must be up to date.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect_writer(path)
        self._execute = self._connection.execute
        self._changes = self._connection.changes
        self._sql = load_statements(PACKAGE)
        self._methods: dict[str, Callable[..., Plain]] = {
            name: getattr(self, name)
            for name in (
                *("create", "write", "decide", "register", "claim", "renew", "release", "wake", "wake_later"),
                *("purge", "reset", "end_leases", "kv_put", "kv_delete", "settings"),
            )
        }

    def apply(self, batch: Sequence[Operation]) -> list[Plain]:
        """Apply all operations in order, commit, and return their results.

        Raises:
            StoreUnavailable: the file or the machine failed; a commit may or may not have happened.
            ValueError: an operation cannot be applied; nothing of the batch was.
        """
        methods = self._methods
        try:
            self._execute("BEGIN IMMEDIATE")
            try:
                results = [methods[name](*arguments) for name, *arguments in batch]
                self._execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                raise
        except _STORE_ERRORS as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except (apsw.Error, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"SQLite cannot store this: {error}") from error
        return results

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it if nobody reads."""
        self._connection.close()

    def create(self, large: bool, body: bytes, *row: Plain) -> Plain:
        """The new id; or the existing row and its branches."""
        gid = row[0]
        values = (*row[:3], b"" if large else body, *row[3:])
        self._execute(self._sql["create"], values)
        if not self._changes():
            return self._record(gid)
        row_id = self._connection.last_insert_rowid()
        if large:
            self._execute(self._sql["insert_large_body"], (row_id, body))
        return row_id

    def write(self, statement: str, *values: Plain) -> bool:
        """Whether the fenced write was accepted."""
        self._execute(self._sql[statement], values)
        return self._changes() == 1

    def decide(self, large: bool, body: bytes, gid: str, expect: Sequence[str], *values: Plain) -> Plain:
        """The row after the decision and its branches, or None."""
        found = self._rows("decide", gid, json.dumps(expect), *values)
        if not found:
            return None
        row_id = found[0][0]
        if body:
            self._execute(self._sql["delete_large_body"], (row_id,))
            self._execute(self._sql["set_body"], (row_id, b"" if large else body))
            if large:
                self._execute(self._sql["insert_large_body"], (row_id, body))
        return self._record(gid)

    def register(self, gid: str, mode: str, branches: Sequence[Sequence[Plain]], due_ms: int, now: int) -> Plain:
        """The rows that stand in the store now, or None."""
        found = self._rows("find_prepared", gid, mode)
        if not found:
            return None
        row_id = found[0][0]
        existing = [row for branch_id, op, *_ in branches for row in self._rows("get_branch", row_id, branch_id, op)]
        if existing:
            return existing
        for branch_id, op, url, payload, status in branches:
            self._execute(self._sql["insert_branch"], (row_id, branch_id, op, url, payload, status, now))
        if due_ms < 0:
            self._execute(self._sql["touch_registered"], (row_id, now))
        else:
            self._execute(self._sql["touch_registered_due"], (row_id, now, due_ms))
        return [[*branch, now] for branch in branches]

    def claim(self, owner: str, limit: int, lease_until_ms: int, now: int) -> Plain:
        """The rows before the claim, each with its branches."""
        rows = self._rows("find_due", now, limit)
        for row in rows:
            self._execute(self._sql["take"], (row[0], owner, lease_until_ms, now))
        return [(row, self._branches(row[0])) for row in rows]

    def renew(self, owner: str, held: Sequence[Sequence[Plain]], lease_until_ms: int, now: int) -> list[str]:
        """The gids that are still held."""
        kept = []
        for gid, epoch in held:
            self._execute(self._sql["renew"], (gid, owner, epoch, lease_until_ms, now))
            if self._changes():
                kept.append(gid)
        return kept

    def release(self, owner: str, now: int) -> int:
        """How many leases were given up."""
        self._execute(self._sql["release"], (owner, now))
        return self._changes()

    def wake(self, gids: Sequence[str], now: int) -> int:
        """How many of the gids exist."""
        count = 0
        for gid in gids:
            self._execute(self._sql["wake"], (gid, now))
            count += self._changes()
        return count

    def wake_later(self, after_ms: int, never_ms: int, limit: int, now: int) -> tuple[int, bool]:
        """How many became due, and whether more are left."""
        rows = self._rows("find_later", after_ms, never_ms, limit + 1)
        self._connection.executemany(self._sql["set_due"], [(row[0], now) for row in rows[:limit]])
        return len(rows[:limit]), len(rows) > limit

    def purge(self, before_ms: int, limit: int) -> int:
        """How many finished transactions were deleted."""
        rows = self._rows("find_old", before_ms, limit)
        for name in ("delete_branches", "delete_large_body", "delete_transaction"):
            self._connection.executemany(self._sql[name], rows)
        return len(rows)

    def reset(self) -> int:
        """How many transactions there were."""
        count: int = self._rows("count_transactions")[0][0]
        for name in ("all_branches", "all_large_bodies", "all_keys", "all_transactions"):
            self._execute(self._sql[f"delete_{name}"])
        return count

    def end_leases(self, now: int) -> int:
        """How many leases of earlier processes were ended."""
        self._execute(self._sql["end_leases"], (now,))
        return self._changes()

    def kv_put(self, category: str, key: str, value: str, now: int, expect_version: int) -> bool:
        """Whether the version was as expected."""
        if expect_version == 0:
            self._execute(self._sql["kv_insert"], (category, key, value, now))
        else:
            self._execute(self._sql["kv_update"], (category, key, value, now, expect_version))
        return self._changes() == 1

    def kv_delete(self, category: str, key: str) -> bool:
        """Whether there was such an entry."""
        self._execute(self._sql["kv_delete"], (category, key))
        return self._changes() == 1

    def settings(self) -> tuple[str, int]:
        """Journal mode and synchronous level of this connection."""
        return settings(self._connection)

    def _record(self, gid: str) -> tuple[Plain, list[Plain]]:
        row = self._rows("get", gid)[0]
        return row, self._branches(row[0])

    def _branches(self, row_id: int) -> list[Plain]:
        return self._rows("get_branches", row_id)

    def _rows(self, statement: str, *values: Plain) -> list[Plain]:
        return self._execute(self._sql[statement], values).fetchall()
