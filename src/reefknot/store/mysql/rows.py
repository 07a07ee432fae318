"""Between the columns of the tables and the structures of the store contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reefknot.model import KeyValue, Status
from reefknot.store.base import BranchRow, NewTransaction, Record, Stats, Write

Row = Sequence[Any]

#: The least room of a progress in its row, bytes.
_ROOM = 256


def record_of(row: Row, branches: tuple[BranchRow, ...] = ()) -> Record:
    """A record from the first 20 columns of ``reefknot_tx``, which may be followed by others."""
    text = (row[1].decode(), row[2].decode(), Status(row[3].decode()))
    return Record(*[row[0], *text, *row[4:6], row[6].decode(), *row[7:20], branches])


def branch_of(row: Row) -> BranchRow:
    """A branch from the columns of ``reefknot_branch`` without the key of its transaction."""
    return BranchRow(row[0].decode(), row[1].decode(), row[2], row[3], Status(row[4].decode()), row[5])


def branches_by_id(rows: Iterable[Row]) -> dict[int, tuple[BranchRow, ...]]:
    """The branches of each transaction, by its key and in the order of the rows."""
    found: dict[int, list[BranchRow]] = {}
    for tx_id, *row in rows:
        found.setdefault(tx_id, []).append(branch_of(row))
    return {tx_id: tuple(branches) for tx_id, branches in found.items()}


def entry_of(row: Row) -> KeyValue:
    """An entry from the columns of ``reefknot_kv``."""
    return KeyValue(row[0], row[1].decode(), row[2].decode(), *row[3:])


def stats_of(rows: Sequence[Row]) -> Stats:
    """The counts from the groups that ``count_unfinished`` returns."""
    return Stats(
        unfinished={(row[0].decode(), row[1].decode()): row[2] for row in rows},
        oldest_unfinished_ms=min((row[3] for row in rows), default=0),
        parked=sum(int(row[4]) for row in rows),
        due=sum(int(row[5]) for row in rows),
    )


def create_values(new: NewTransaction) -> Row:
    """The values of ``create_row``. Text goes as bytes, so that nothing but UTF-8 is stored."""
    final = new.status.final
    leased = bool(new.owner) and new.lease_ms > 0 and not final
    return (
        *(new.gid.encode(), new.mode.encode(), new.status.value, new.body, _ROOM),
        new.owner.encode() if leased else b"",
        *(leased, new.lease_ms, new.due_in_ms, new.request_hash, final),
    )


def write_values(write: Write) -> tuple[str, Row]:
    """The statement for a report, and its values."""
    final = write.status.final
    leased = write.lease_ms > 0 and not final
    changed = write.status is not write.expect
    moves = write.due_in_ms >= 0 and not final
    owner = write.owner.encode()
    fence = (write.gid.encode(), owner, write.epoch, write.expect.value, write.version)
    always = (
        *(write.progress, _room_for(write.progress), len(write.progress), owner if leased else b""),
        *(leased, write.lease_ms, write.attempts),
        *(write.parked.encode(), write.reason.encode()),
    )
    if changed or moves or final:
        return "write_change", (*always, moves, write.due_in_ms, write.status.value, changed, final, *fence)
    return "write_progress", (*always, *fence)


def _room_for(progress: bytes) -> int:
    """The room to give to a progress, so that its next versions probably need the same."""
    room = _ROOM
    while room < len(progress):
        room *= 2
    return room
