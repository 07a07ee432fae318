"""Reads the database file outside the event loop, beside the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from reefknot.errors import StoreUnavailable
from reefknot.model import KeyValue, Status
from reefknot.store.base import BranchRow, Record, Stats
from reefknot.store.sqlite.database import PACKAGE, connect_reader
from reefknot.store.sqlite.writer import Plain
from reefknot.store.statements import load_statements


class Reader:
    """One read-only connection with its own thread.

    A read starts after it was asked for, so it sees everything that was committed before.

    Args:
        path: the database file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect_reader(path)
        self._sql = load_statements(PACKAGE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite reader")

    async def rows(self, statement: str, *values: Plain) -> list[Plain]:
        """All rows of a named statement.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        rows: list[Plain] = await self._run(self._rows, statement, values)
        return rows

    async def record(self, gid: str) -> Record | None:
        """A transaction and its branches, both of one moment; None if there is none."""
        found = await self._run(self._record, gid)
        return record_of(*found) if found else None

    async def _run(self, function: Plain, *arguments: Plain) -> Plain:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except apsw.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _rows(self, statement: str, values: Sequence[Plain]) -> list[Plain]:
        return self._connection.execute(self._sql[statement], values).fetchall()

    def _record(self, gid: str) -> tuple[Plain, list[Plain]] | None:
        self._connection.execute("BEGIN")  # one snapshot for both statements
        try:
            rows = self._rows("get", (gid,))
            return (rows[0], self._rows("get_branches", (rows[0][0],))) if rows else None
        finally:
            self._connection.execute("COMMIT")

    async def close(self) -> None:
        """Wait for the running read and close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()


def record_of(row: Sequence[Plain], branches: Sequence[Sequence[Plain]] = ()) -> Record:
    """A record from the columns of ``tx`` and the rows of ``branch``."""
    return Record(*[*row[:3], Status(row[3]), *row[4:], branches_of(branches)])


def branches_of(rows: Sequence[Sequence[Plain]]) -> tuple[BranchRow, ...]:
    """Branch rows from the columns of ``branch``."""
    return tuple(BranchRow(*[*row[:4], Status(row[4]), row[5]]) for row in rows)


def entry_of(row: Sequence[Plain]) -> KeyValue:
    """An entry from the columns of ``kv``."""
    return KeyValue(*row)


def stats_of(rows: Sequence[Sequence[Plain]]) -> Stats:
    """The counts from the groups that ``count_unfinished`` returns."""
    return Stats(
        unfinished={(mode, status): count for mode, status, count, *_ in rows},
        oldest_unfinished_ms=min((row[3] for row in rows), default=0),
        parked=sum(row[4] for row in rows),
        due=sum(row[5] for row in rows),
    )
