"""Deletes rows of the barrier that can no longer matter.

A row matters as long as a call of its transaction may still arrive. So a transaction's rows go only when
all of them are old, and when the server says that the transaction is finished. One that the server does
not know was purged there after it finished, or belongs to another server: its rows stay longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

import msgspec

from reefknot.barrier.opening import Opened
from reefknot.barrier.statements import DEFAULT_TABLES, statement


class Standing(Enum):
    """How a transaction stands at the server."""

    FINISHED = "finished"
    UNFINISHED = "unfinished"
    UNKNOWN = "unknown"


class Tally(msgspec.Struct, frozen=True):
    """What became of the rows so far.

    ``deleted`` would have been deleted in a dry run. ``unfinished`` and ``unknown`` were kept because of
    how their transaction stands; ``ageless`` because they have no time.
    """

    transactions: int = 0
    deleted: int = 0
    unfinished: int = 0
    unknown: int = 0
    ageless: int = 0


def clean(
    opened: Opened,
    table: str,
    *,
    older_than: int,
    unknown_older_than: int,
    standing: Callable[[str], Standing],
    batch: int,
    dry_run: bool,
    pause: Callable[[], None],
) -> Iterator[Tally]:
    """Delete the rows of transactions that are over, in small batches.

    Args:
        opened: a connection to the table's database, which commits each statement.
        table: the table; DTM's if empty.
        older_than: seconds; every row of a transaction must be older.
        unknown_older_than: seconds; the same for transactions that the server does not know.
        standing: asks how a transaction stands. What it raises ends the cleaning.
        batch: the most transactions that are looked at between two pauses.
        dry_run: only count.
        pause: is called after each batch.

    Yields:
        The tally so far, after each batch; at least once.
    """
    table = table or DEFAULT_TABLES[opened.database]
    texts = {name: statement(name, opened.database, opened.placeholder, table) for name in ("old", "delete", "ageless")}
    [[ageless]] = opened.run(texts["ageless"], ())
    tally, last = Tally(ageless=ageless), ""
    while True:
        found = opened.run(texts["old"], (last, older_than, batch))
        for gid, count, age in found:
            stands = standing(gid)
            if stands is Standing.UNKNOWN and int(age) >= unknown_older_than:
                stands = Standing.FINISHED
            if stands is Standing.FINISHED and not dry_run:
                opened.run(texts["delete"], (gid,))
            tally = _counted(tally, stands, int(count))
            last = gid
        yield tally
        if len(found) < batch:
            return
        pause()


def _counted(tally: Tally, stands: Standing, rows: int) -> Tally:
    field: Mapping[Standing, str] = {
        Standing.FINISHED: "deleted",
        Standing.UNFINISHED: "unfinished",
        Standing.UNKNOWN: "unknown",
    }
    name = field[stands]
    over = stands is Standing.FINISHED
    changes = {name: getattr(tally, name) + rows, "transactions": tally.transactions + over}
    return msgspec.structs.replace(tally, **changes)
