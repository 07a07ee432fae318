"""Values on their way into the database and back.

PostgreSQL's text cannot hold the character NUL, which a service's error text or a client's reason
may contain. It is stored as two characters, and so is the character that marks it; the order of
texts, which a key listing follows, stays the same:

    NUL     U+0001 U+0001
    U+0001  U+0001 U+0002
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reefknot.model import KeyValue, Status
from reefknot.store.base import BranchRow, Record, Stats
from reefknot.store.postgres.connections import Row

#: Columns of a record before the branches.
COLUMNS = 20


def to_text(text: str) -> str:
    """A text as it is stored."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text


def from_text(text: str) -> str:
    """A text from its stored form."""
    if "\1" in text:
        return text.replace("\1\1", "\0").replace("\1\2", "\1")
    return text


def numbers(values: Iterable[int]) -> str:
    """The text of an array of numbers."""
    return "{" + ",".join(map(str, values)) + "}"


def booleans(values: Iterable[bool]) -> str:
    """The text of an array of truth values."""
    return "{" + ",".join("t" if value else "f" for value in values) + "}"


def record_of(row: Row, branches: tuple[BranchRow, ...] = ()) -> Record:
    """A record from the first columns of a row, which are in its order."""
    row_id, gid, mode, status, body, progress, owner, *numbers = row[:12]
    parked, reason, result, *rest = row[12:COLUMNS]
    return Record(
        *(row_id, from_text(gid), from_text(mode), Status(status), body, progress, from_text(owner), *numbers),
        *(from_text(parked), from_text(reason), from_text(result), *rest, branches),
    )


def whole_record_of(row: Row) -> Record:
    """A record from a row of the statement ``get``: after the columns one array per field of the branches."""
    arrays = row[COLUMNS:]
    return record_of(row, branches_of(zip(*arrays, strict=True)) if arrays[0] else ())


def branches_of(rows: Any) -> tuple[BranchRow, ...]:
    """Branch rows from (branch_id, op, url, payload, status, created_ms)."""
    return tuple(
        BranchRow(from_text(branch_id), from_text(op), from_text(url), payload, Status(status), created_ms)
        for branch_id, op, url, payload, status, created_ms in rows
    )


def branches_by_gid(rows: Sequence[Row]) -> dict[str, tuple[BranchRow, ...]]:
    """Branch rows of many transactions, from rows with the gid in front, those of a gid in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(from_text(row[0]), []).append(row[1:])
    return {gid: branches_of(of_gid) for gid, of_gid in found.items()}


def entry_of(row: Row) -> KeyValue:
    """An entry from the columns of ``reefknot_kv``."""
    row_id, category, key, value, *rest = row
    return KeyValue(row_id, from_text(category), from_text(key), from_text(value), *rest)


def stats_of(rows: Sequence[Row]) -> Stats:
    """The counts from the groups that ``count_unfinished`` returns."""
    return Stats(
        unfinished={(from_text(mode), status): count for mode, status, count, *_ in rows},
        oldest_unfinished_ms=min((row[3] for row in rows), default=0),
        parked=sum(row[4] for row in rows),
        due=sum(row[5] for row in rows),
    )
