"""The store in a PostgreSQL database, for any number of nodes.

Time is the database's: every statement takes it from ``clock_timestamp()``, so the clocks of the
nodes do not matter. New transactions and drivers' reports are committed in groups, each kind on a
connection of its own; everything else is one statement on one of a few further connections. No
state is kept in a connection beyond planner settings.

A commit whose reply is lost is never repeated: the caller gets ``StoreUnavailable``. A connection
that breaks is replaced at the next command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
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
from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position
from reefknot.store.postgres import schema as tables
from reefknot.store.postgres.connections import Connections, Connector, Fetch, Row
from reefknot.store.postgres.lanes import CreateLane, WriteLane
from reefknot.store.postgres.location import Location, parse_url
from reefknot.store.postgres.rows import (
    COLUMNS,
    branches_by_gid,
    branches_of,
    entry_of,
    from_text,
    record_of,
    stats_of,
    to_text,
    whole_record_of,
)
from reefknot.store.server_time import StoreTime

#: A purge deletes this many transactions per commit, so that others are not held up for long.
_PURGE_SLICE = 500

#: Seconds for statements that may have to read or delete much.
_LONG_SECONDS = 60.0
_RESET_SECONDS = 3_600.0

#: A transaction that exists and is gone when it is read is created again, so many times.
_CREATE_TRIES = 10

#: A registration that met another one of the same branches is tried again; it then sees their rows.
_REGISTER_TRIES = 10


async def open(url: str, *, clock: Clock, failpoints: Failpoints) -> PostgresStore:
    """Open the database that a URL names; wait for its server, create or update the tables.

    Args:
        url: ``postgres://user:password@host:port/database``; docs/stores/postgres.md lists the options.
        clock: this process's clock; the store's time is the database's.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: the URL is wrong, the server refuses the user or the database, or the tables
            are of a newer version.
        StoreUnavailable: the server does not answer.
    """
    location = parse_url(url)
    connector = Connector(location)
    connections = Connections(connector, location.connections, location.max_idle)
    try:
        await tables.wait_for_server(connections, location.address, location.wait, clock)
        await tables.migrate(connections, location.schema, failpoints)
        store = PostgresStore(location, connector, connections, clock, failpoints)
        await store.ask_time()
    except BaseException:
        await connections.close()
        raise
    return store


async def pending_migrations(url: str) -> tuple[str, ...]:
    """The names of the migrations that ``open`` would apply; changes nothing."""
    location = parse_url(url)
    connections = Connections(Connector(location), 1)
    try:
        steps = await tables.pending(connections, location.schema)
    finally:
        await connections.close()
    return tuple(f"{step.version:04d}_{step.name}" for step in steps)


def fill_migration(text: str, url: str) -> str:
    """A migration as it is sent: with the schema that the URL names."""
    return tables.filled(text, parse_url(url).schema)


class PostgresStore:
    """Keeps transactions in the tables of one schema. Made by ``open``."""

    name = "postgres"
    shared = True
    missing: frozenset[str] = frozenset()

    def __init__(
        self,
        location: Location,
        connector: Connector,
        connections: Connections,
        clock: Clock,
        failpoints: Failpoints,
    ) -> None:
        self._address = location.address
        self._connector = connector
        self._fail = failpoints
        self._closed = False
        self._sql = tables.statements_of(location.schema)
        self._time = StoreTime(clock, own=location.own_clock)
        self._connections = connections
        self._creates = CreateLane(connector, self._sql["create"], self._time, failpoints)
        self._writes = WriteLane(connector, self._sql["write"], self._time, failpoints)

    def now_ms(self) -> int:
        return self._time.now_ms()

    async def _rows(self, statement: str, *values: Any, seconds: float = 0) -> list[Row]:
        return await self._connections.fetch(self._sql[statement], *values, seconds=seconds)

    async def _timed(self, statement: str, *values: Any, seconds: float = 0) -> list[Row]:
        """The rows of a statement whose first parameter is the time to use."""
        return await self._connections.fetch(self._sql[statement], self._time.given, *values, seconds=seconds)

    async def ask_time(self) -> bool:
        """Learn the database's time; returns whether it takes no writes. Part of opening the store."""
        sent = self._time.sent()
        ((now_ms, read_only),) = await self._timed("ping")
        self._time.replied(sent, now_ms)
        return bool(read_only)

    async def ping(self) -> None:
        if await self.ask_time():
            self._connector.demoted()
            raise StoreUnavailable(f"{self._address}: the server takes no writes now (a standby, or read-only)")

    async def durability(self) -> Durability:
        ((fsync, commit, pages),) = await self._rows("durability")
        detail = f"PostgreSQL {self._address}: fsync={fsync}, synchronous_commit={commit}, full_page_writes={pages}"
        if fsync != "on":
            return Durability("process", detail)
        if commit == "off":
            return Durability("none", f"{detail}; a crash of the server loses the last commits")
        return Durability("full" if pages == "on" else "crash", detail)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._creates.close()
        await self._writes.close()
        await self._connections.close()

    async def create(self, new: NewTransaction) -> Created | Record:
        for _ in range(_CREATE_TRIES):
            if (created := await self._creates.submit(new)) is not None:
                return created
            if (existing := await self.get(new.gid)) is not None:
                return existing
            # It was purged meanwhile, or connections for reading lead to a server that others have left.
            self._connector.demoted()
        raise StoreUnavailable(f"{self._address}: {new.gid!r} exists and cannot be read")

    async def write(self, write: Write) -> bool:
        return await self._writes.submit(write)

    async def decide(self, decision: Decision) -> Record | None:
        final = decision.status.final
        leased = bool(decision.owner) and decision.lease_ms > 0 and not final
        values = (
            *(
                self._time.given,
                to_text(decision.gid),
                list(decision.expect),
                decision.status.value,
                to_text(decision.reason),
            ),
            *(to_text(decision.result), decision.body, decision.request_hash),
            *(to_text(decision.owner) if leased else "", decision.lease_ms if leased else 0, decision.due_in_ms),
            final,
            decision.mode,
        )

        async def work(fetch: Fetch) -> tuple[list[Row], list[Row]]:
            rows = await fetch(self._sql["decide"], *values)
            return rows, await fetch(self._sql["get_branches"], [row[1] for row in rows]) if rows else []

        sent = self._time.sent()
        rows, branches = await self._connections.steps(work)
        if not rows:
            return None
        decided = record_of(rows[0], branches_by_gid(branches).get(decision.gid, ()))
        self._time.replied(sent, decided.decided_ms)
        return decided

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        if len({(branch.branch_id, branch.op) for branch in branches}) < len(branches):
            raise ValueError(f"register {gid!r}: the same (branch_id, op) is given twice")
        stored = to_text(gid)
        ids, ops = [to_text(branch.branch_id) for branch in branches], [to_text(branch.op) for branch in branches]
        rest = (
            [to_text(branch.url) for branch in branches],
            [branch.payload for branch in branches],
            [branch.status.value for branch in branches],
        )
        added_values = (self._time.given, stored, to_text(mode), ids, ops, *rest, due_in_ms)

        async def work(fetch: Fetch) -> tuple[BranchRow, ...] | None:
            for _ in range(_REGISTER_TRIES):
                try:
                    added = await fetch(self._sql["register"], *added_values)
                except asyncpg.UniqueViolationError:
                    added = []
                if added:
                    return tuple(replace(branch, created_ms=added[0][0]) for branch in branches)
                if not await fetch(self._sql["find_prepared"], stored, to_text(mode)):
                    return None
                if existing := await fetch(self._sql["find_branches"], stored, ids, ops):
                    return branches_of(row[1:] for row in existing)
            raise StoreUnavailable(f"{self._address}: too many registrations of {gid!r} at the same time")

        return await self._connections.steps(work)

    async def get(self, gid: str) -> Record | None:
        rows = await self._rows("get", to_text(gid))
        return whole_record_of(rows[0]) if rows else None

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        before = decode_position(position) if position else (NEVER_MS, 0)
        last_ms = wanted.created_to_ms or NEVER_MS
        size = max(limit, 0)
        statement = "list_by_creation"
        if wanted.status == Status.FAILED:
            statement = "list_failed"
        elif wanted.status and wanted.status != Status.SUCCEED:
            statement = "list_unfinished"
        rows = await self._rows(
            statement,
            *(to_text(wanted.status), to_text(wanted.mode), wanted.created_from_ms, last_ms, *before, size + 1),
            seconds=_LONG_SECONDS,
        )
        page = tuple(record_of(row) for row in rows[:size])
        more = len(rows) > size > 0
        return Page(page, encode_position(page[-1].created_ms, page[-1].id) if more else "")

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        if not owner or lease_ms <= 0:
            raise ValueError("claim: the owner must not be empty and lease_ms must be positive")
        values = (self._time.given, to_text(owner), max(limit, 0), lease_ms)

        async def work(fetch: Fetch) -> tuple[list[Row], list[Row]]:
            rows = await fetch(self._sql["claim"], *values)
            if rows and self._fail.armed:
                await self._fail.hit("claim.committed_not_loaded")
            return rows, await fetch(self._sql["get_branches"], [row[1] for row in rows]) if rows else []

        sent = self._time.sent()
        rows, of_gids = await self._connections.steps(work)
        if not rows:
            return ()
        branches = branches_by_gid(of_gids)
        found = [(*row[COLUMNS:], record_of(row, branches.get(from_text(row[1]), ()))) for row in rows]
        found.sort(key=_due_order)
        self._time.replied(sent, found[0][2].updated_ms)
        return tuple(Claimed(record, abandoned_ms) for _, abandoned_ms, record in found)

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        pairs = sorted(set(held))
        gids, epochs = [to_text(gid) for gid, _ in pairs], [epoch for _, epoch in pairs]
        sent = self._time.sent()
        rows = await self._timed("renew", to_text(owner), gids, epochs, lease_ms)
        if rows:
            self._time.replied(sent, rows[0][1])
        names = dict(zip(gids, (gid for gid, _ in pairs), strict=True))
        return frozenset(names[gid] for gid, _ in rows)

    async def release(self, owner: str) -> int:
        return _only(await self._timed("release", to_text(owner)))

    async def wake(self, gids: tuple[str, ...]) -> int:
        return _only(await self._timed("wake", [to_text(gid) for gid in sorted(set(gids))]))

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        ((count, more),) = await self._timed("wake_later", later_than_ms, max(limit, 0), seconds=_LONG_SECONDS)
        return count, more

    async def purge(self, older_than_ms: int, limit: int) -> int:
        if self._fail.armed:
            await self._fail.hit("purge.before_delete")
        deleted = 0
        while deleted < limit:
            size = min(limit - deleted, _PURGE_SLICE)
            count = _only(await self._timed("purge", older_than_ms, size, seconds=_LONG_SECONDS))
            deleted += count
            if count < size:
                break
            if self._fail.armed:
                await self._fail.hit("purge.half_deleted")
        return deleted

    async def reset(self) -> int:
        return _only(await self._rows("reset", seconds=_RESET_SECONDS))

    async def stats(self) -> Stats:
        return stats_of(await self._timed("count_unfinished", seconds=_LONG_SECONDS))

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        rows = await self._rows("kv_get", to_text(category), to_text(key))
        return entry_of(rows[0]) if rows else None

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        size = max(limit, 0)
        if position:
            key = to_text(decode_key_position(position))
            rows = await self._rows("kv_list_after", to_text(category), size + 1, key)
        else:
            rows = await self._rows("kv_list_first", to_text(category), size + 1)
        page = tuple(entry_of(row) for row in rows[:size])
        return KeyValuePage(page, encode_key_position(page[-1].key) if page and len(rows) > size else "")

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        entry = (to_text(category), to_text(key), to_text(value))
        if expect_version == 0:
            return bool(await self._timed("kv_insert", *entry))
        return bool(await self._timed("kv_update", *entry, expect_version))

    async def kv_delete(self, category: str, key: str) -> bool:
        return bool(await self._rows("kv_delete", to_text(category), to_text(key)))


def _only(rows: Sequence[Row]) -> int:
    """The only value of the only row: a count."""
    count: int = rows[0][0]
    return count


def _due_order(found: tuple[int, int, Record]) -> tuple[int, int]:
    """The longest due first, then by age."""
    return found[0], found[2].id
