"""The embedded store: one SQLite file, one server.

All changes go through one writer, which commits everything that queued while it was busy in one
transaction with ``synchronous=FULL`` (see ``groupcommit``). Reads run beside it on their own
connections: ``get`` and keys on one, listings and counts, which may take long, on another.

Because a lock file keeps every other process away, the leases found at opening belong to nobody
that lives: they end then, and recovery starts at once.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from msgspec.structs import replace

from reefknot.clock import Clock
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.model import KeyValue, Status
from reefknot.store.base import (
    NEVER_MS,
    BranchRow,
    Claimed,
    Created,
    Decision,
    Durability,
    Filter,
    KeyValuePage,
    NewTransaction,
    Page,
    Record,
    Stats,
    Write,
)
from reefknot.store.groupcommit import GroupCommit
from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position
from reefknot.store.sqlite.database import hold_lock, parse_url, pending_names, prepare
from reefknot.store.sqlite.host import WriterProcess
from reefknot.store.sqlite.reader import Reader, branches_of, entry_of, record_of, stats_of
from reefknot.store.sqlite.writer import LARGE_BODY, Operation, Plain

#: One process writes the file; a second one is refused.
ONE_PROCESS = True
#: A purge deletes this many transactions per commit, so that others are not held up for long.
_PURGE_SLICE = 500

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


async def open(url: str, *, clock: Clock, failpoints: Failpoints) -> SqliteStore:
    """Open the database file that a URL names; create it if there is none.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.
        clock: the store's clock.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: the URL is wrong, the directory is missing, another server has the file, or
            the file was written by a newer version.
        StoreUnavailable: the file cannot be read or written.
    """
    path = parse_url(url)
    lock = await hold_lock(path)
    try:
        await prepare(path, clock.now_ms(), failpoints)
        host = WriterProcess(path, lock)
    except BaseException:
        os.close(lock)
        raise
    store = SqliteStore(path, lock, host, clock, failpoints)
    try:
        await store.end_leases()
    except BaseException:
        await store.close()
        raise
    return store


async def pending_migrations(url: str) -> tuple[str, ...]:
    """The names of the migrations that ``open`` would apply; creates and changes nothing."""
    return await asyncio.to_thread(pending_names, parse_url(url))


class SqliteStore:
    """Keeps transactions in one SQLite file. Made by ``open``."""

    name = "sqlite"
    shared = False
    missing: frozenset[str] = frozenset()

    def __init__(self, path: Path, lock: int, host: WriterProcess, clock: Clock, failpoints: Failpoints) -> None:
        self._path = path
        self._lock = lock
        self._host = host
        self._clock = clock
        self._fail = failpoints
        self._closed = False
        self._group: GroupCommit[Operation, Plain] = GroupCommit(host.execute, failpoints=failpoints)
        self._submit = self._group.submit
        self._single = Reader(path)
        self._many = Reader(path)

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def _reader(self, reader: Reader) -> Reader:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return reader

    async def ping(self) -> None:
        await self._submit(("settings",))

    async def durability(self) -> Durability:
        journal, synchronous = await self._submit(("settings",))
        file_system = await asyncio.to_thread(_file_system, self._path)
        detail = f"SQLite {self._path}: journal_mode={journal}, synchronous={synchronous}, file system {file_system}"
        if file_system in _MEMORY_FILE_SYSTEMS:
            return Durability("process", detail)
        full = journal == "wal" and synchronous >= 2
        return Durability("full" if full else "process", detail)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._group.close()
        await self._single.close()
        await self._many.close()
        await self._host.close()
        os.close(self._lock)

    async def end_leases(self) -> int:
        """End the leases of processes that are gone; returns how many. Part of opening the store."""
        count: int = await self._submit(("end_leases", self.now_ms()))
        return count

    async def create(self, new: NewTransaction) -> Created | Record:
        now = self._clock.now_ms()
        owner, lease_until_ms = _lease(now, new.owner, new.lease_ms, new.status)
        found = await self._submit(
            (
                *("create", len(new.body) > LARGE_BODY, new.body, new.gid, new.mode, new.status, owner),
                *(lease_until_ms, min(now + new.due_in_ms, NEVER_MS), new.request_hash, now),
                now if new.status.final else 0,
            )
        )
        return Created(found, now) if isinstance(found, int) else record_of(*found)

    async def write(self, write: Write) -> bool:
        if not write.owner:
            return False
        now = self._clock.now_ms()
        owner, lease_until_ms = _lease(now, write.owner, write.lease_ms, write.status)
        due_ms = -1 if write.due_in_ms < 0 else min(now + write.due_in_ms, NEVER_MS)
        extra: tuple[Plain, ...]
        if write.status.final:
            statement, extra = "write_finish", (write.status,)
        elif write.status is not write.expect:
            statement, extra = "write_status", (due_ms, write.status)
        elif due_ms >= 0:
            statement, extra = "write_due", (due_ms,)
        else:
            statement, extra = "write_progress", ()
        accepted: bool = await self._submit(
            (
                *("write", statement, write.progress, owner, lease_until_ms, write.attempts, write.parked),
                *(write.reason, now, write.gid, write.owner, write.epoch, write.expect, *extra, write.version),
            )
        )
        return accepted

    async def decide(self, decision: Decision) -> Record | None:
        now = self._clock.now_ms()
        final = decision.status.final
        owner, lease_until_ms = _lease(now, decision.owner, decision.lease_ms, decision.status)
        due_ms = -1 if final else min(now + decision.due_in_ms, NEVER_MS)
        found = await self._submit(
            (
                *("decide", len(decision.body) > LARGE_BODY, decision.body, decision.gid, decision.expect),
                *(decision.status, decision.reason, decision.result, decision.request_hash, owner),
                *(lease_until_ms, due_ms, now, now if final else 0, decision.mode),
            )
        )
        return record_of(*found) if found else None

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        if len({(branch.branch_id, branch.op) for branch in branches}) < len(branches):
            raise ValueError(f"register {gid!r}: the same (branch_id, op) is given twice")
        now = self._clock.now_ms()
        due_ms = -1 if due_in_ms < 0 else min(now + due_in_ms, NEVER_MS)
        rows = [(branch.branch_id, branch.op, branch.url, branch.payload, branch.status) for branch in branches]
        found = await self._submit(("register", gid, mode, rows, due_ms, now))
        return None if found is None else branches_of(found)

    async def get(self, gid: str) -> Record | None:
        return await self._reader(self._single).record(gid)

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        before = decode_position(position) if position else (NEVER_MS, 0)
        last_ms = wanted.created_to_ms or NEVER_MS
        statement = "list_by_creation"
        if wanted.status == Status.FAILED:
            statement = "list_failed"
        elif wanted.status and wanted.status != Status.SUCCEED:
            statement = "list_unfinished"
        rows = await self._reader(self._many).rows(
            statement, wanted.status, wanted.mode, wanted.created_from_ms, last_ms, *before, max(limit, 0) + 1
        )
        page = tuple(record_of(row) for row in rows[: max(limit, 0)])
        more = len(rows) > limit > 0
        return Page(page, encode_position(page[-1].created_ms, page[-1].id) if more else "")

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        if not owner or lease_ms <= 0:
            raise ValueError("claim: the owner must not be empty and lease_ms must be positive")
        now = self._clock.now_ms()
        until = now + lease_ms
        claimed = []
        for found in await self._submit(("claim", owner, max(limit, 0), until, now)):
            old = record_of(*found)
            taken = replace(
                old,
                owner=owner,
                epoch=old.epoch + 1,
                version=old.version + 1,
                lease_until_ms=until,
                due_ms=until,
                updated_ms=now,
            )
            claimed.append(Claimed(taken, old.lease_until_ms if old.owner else 0))
        return tuple(claimed)

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        now = self._clock.now_ms()
        return frozenset(await self._submit(("renew", owner, held, now + lease_ms, now)))

    async def release(self, owner: str) -> int:
        count: int = await self._submit(("release", owner, self._clock.now_ms()))
        return count

    async def wake(self, gids: tuple[str, ...]) -> int:
        count: int = await self._submit(("wake", tuple(dict.fromkeys(gids)), self._clock.now_ms()))
        return count

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        now = self._clock.now_ms()
        count, more = await self._submit(("wake_later", now + later_than_ms, NEVER_MS, max(limit, 0), now))
        return count, more

    async def purge(self, older_than_ms: int, limit: int) -> int:
        if self._fail.armed:
            await self._fail.hit("purge.before_delete")
        before_ms = self._clock.now_ms() - older_than_ms
        deleted = 0
        while deleted < limit:
            size = min(limit - deleted, _PURGE_SLICE)
            count: int = await self._submit(("purge", before_ms, size))
            deleted += count
            if count < size:
                break
            if self._fail.armed:
                await self._fail.hit("purge.half_deleted")
        return deleted

    async def reset(self) -> int:
        count: int = await self._submit(("reset",))
        return count

    async def stats(self) -> Stats:
        return stats_of(await self._reader(self._many).rows("count_unfinished", self._clock.now_ms()))

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        rows = await self._reader(self._single).rows("kv_get", category, key)
        return entry_of(rows[0]) if rows else None

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        size = max(limit, 0)
        if position:
            key = decode_key_position(position)
            rows = await self._reader(self._single).rows("kv_list_after", category, size + 1, key)
        else:
            rows = await self._reader(self._single).rows("kv_list_first", category, size + 1)
        page = tuple(entry_of(row) for row in rows[:size])
        return KeyValuePage(page, encode_key_position(page[-1].key) if page and len(rows) > size else "")

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        done: bool = await self._submit(("kv_put", category, key, value, self._clock.now_ms(), expect_version))
        return done

    async def kv_delete(self, category: str, key: str) -> bool:
        done: bool = await self._submit(("kv_delete", category, key))
        return done


def _lease(now: int, owner: str, lease_ms: int, status: Status) -> tuple[str, int]:
    """Owner and end of a lease that starts now; nobody holds one without an owner or a time."""
    if owner and lease_ms > 0 and not status.final:
        return owner, now + lease_ms
    return "", 0


def _file_system(path: Path) -> str:
    """The type of the file system that holds a file, as far as the system tells."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text("utf-8")
    except OSError:
        return kind
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        if len(point) >= len(best) and path.resolve().is_relative_to(point):
            best, kind = point, found
    return kind
