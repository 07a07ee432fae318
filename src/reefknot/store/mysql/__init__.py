"""The store in a MySQL or MariaDB database, for any number of nodes.

Time is the database's UTC clock, so neither the clocks of the nodes nor any time zone matters. New
transactions, drivers' reports, and decisions with registrations are committed in groups, each of the
three kinds on a connection of its own (see ``batches``); everything else runs on a few further ones.
Reads have connections of their own, whose transactions see one moment.

A commit whose reply is lost is never repeated: the caller gets ``StoreUnavailable``. A connection
that breaks is replaced at the next transaction.
"""

from __future__ import annotations

from asyncmy import errors

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
from reefknot.store.mysql import recovery
from reefknot.store.mysql import schema as tables
from reefknot.store.mysql.batches import CreateBatch, DecisionBatch, Outcome, Registration, Statements, WriteBatch
from reefknot.store.mysql.location import Location, parse_url
from reefknot.store.mysql.pool import Pool
from reefknot.store.mysql.rows import entry_of, record_of, stats_of
from reefknot.store.mysql.session import Command, Demotions, Row, Session
from reefknot.store.mysql.settings import durability_of
from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position
from reefknot.store.server_time import StoreTime
from reefknot.store.statements import load_statements

#: A purge deletes this many transactions per commit, so that others are not held up for long.
_PURGE_SLICE = 500

#: A transaction that exists and is gone when it is read is created again, so many times.
_CREATE_TRIES = 10

#: Seconds for a transaction that may have to read or delete much.
_LONG_SECONDS = 60.0


async def open(url: str, *, clock: Clock, failpoints: Failpoints) -> MySqlStore:
    """Open the database that a URL names; wait for its server, create or update the tables.

    Args:
        url: ``mysql://user:password@host:port/database``; docs/stores/mysql.md lists the options.
        clock: this process's clock; the store's time is the database's.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: the URL is wrong, the server refuses the user or the database, or the tables
            are of a newer version.
        StoreUnavailable: the server does not answer.
    """
    location = parse_url(url)
    sql = load_statements(tables.PACKAGE)
    session = Session(location, sql, Demotions())
    try:
        await tables.wait_for_server(session, location.wait, clock)
        await tables.migrate(session, sql, failpoints)
    finally:
        await session.close()
    store = MySqlStore(location, sql, clock, failpoints)
    try:
        await store.ask_time()
    except BaseException:
        await store.close()
        raise
    return store


async def pending_migrations(url: str) -> tuple[str, ...]:
    """The names of the migrations that ``open`` would apply; changes nothing."""
    sql = load_statements(tables.PACKAGE)
    session = Session(parse_url(url), sql, Demotions(), reads=True)
    try:
        await session.check_login()
        steps = await tables.pending(session, sql)
    finally:
        await session.close()
    return tuple(f"{step.version:04d}_{step.name}" for step in steps)


class MySqlStore:
    """Keeps transactions in the tables of one database. Made by ``open``."""

    name = "mysql"
    shared = True
    missing: frozenset[str] = frozenset()

    def __init__(self, location: Location, sql: dict[str, str], clock: Clock, failpoints: Failpoints) -> None:
        self._location = location
        self._fail = failpoints
        self._closed = False
        self._sql = sql
        self._time = StoreTime(clock, own=location.own_clock)
        self._statements = Statements(sql, self._time)
        self._claims = recovery.Claims(self._statements)
        self._purge = recovery.Purge(self._statements)
        half = location.connections // 2
        self._demotions = Demotions()
        changing = [Session(location, sql, self._demotions) for _ in range(half)]
        reading = [Session(location, sql, self._demotions, reads=True) for _ in range(location.connections - half)]
        self._changing = Pool(changing, location.timeout, location.max_idle - location.max_idle // 2)
        self._reading = Pool(reading, location.timeout, location.max_idle // 2)
        self._lanes = tuple(Session(location, sql, self._demotions) for _ in range(3))
        creates, writes, decisions = self._lanes
        self._creates: GroupCommit[NewTransaction, Created | None] = GroupCommit(
            CreateBatch(creates, self._statements).execute, failpoints=failpoints
        )
        self._writes: GroupCommit[Write, bool] = GroupCommit(
            WriteBatch(writes, self._statements).execute, failpoints=failpoints
        )
        self._decisions: GroupCommit[Decision | Registration, Outcome] = GroupCommit(
            DecisionBatch(decisions, self._statements).execute, failpoints=failpoints
        )

    def now_ms(self) -> int:
        return self._time.now_ms()

    async def ask_time(self) -> None:
        """Learn the database's time. Part of opening the store."""
        await self._changing.run(self._statements.start)

    async def ping(self) -> None:
        ask: Command = (self._sql["find_read_only"], ())
        (found,) = await self._changing.run(lambda session: self._statements.start(session, ask))
        if found.rows:
            self._demotions.count += 1
            name = found.rows[0][0]
            raise StoreUnavailable(f"MySQL {self._location.name}: the server takes no writes now ({name})")

    async def _rows(self, statement: str, *values: object, seconds: float = 0.0) -> list[Row]:
        """The rows of one statement."""
        return await self._reading.run(
            lambda session: session.rows(self._sql[statement], values), seconds=seconds, commits=False
        )

    async def durability(self) -> Durability:
        (settings,) = await self._rows("durability")
        cluster = {str(name): str(value) for name, value in await self._rows("find_cluster")}
        return durability_of(self._location.name, settings, cluster)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for group in (self._creates, self._writes, self._decisions):
            await group.close()
        for session in self._lanes:
            await session.close()
        await self._changing.close()
        await self._reading.close()

    async def create(self, new: NewTransaction) -> Created | Record:
        for _ in range(_CREATE_TRIES):
            if (created := await self._creates.submit(new)) is not None:
                return created
            if (existing := await self.get(new.gid)) is not None:
                return existing
            # It was purged meanwhile, or connections for reading lead to a server that others have left.
            self._demotions.count += 1
        raise StoreUnavailable(f"MySQL {self._location.name}: {new.gid!r} exists and cannot be read")

    async def write(self, write: Write) -> bool:
        if not write.owner:
            return False
        return await self._writes.submit(write)

    async def decide(self, decision: Decision) -> Record | None:
        outcome = await self._decisions.submit(decision)
        return outcome if isinstance(outcome, Record) else None

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        if len({(branch.branch_id, branch.op) for branch in branches}) < len(branches):
            raise ValueError(f"register {gid!r}: the same (branch_id, op) is given twice")
        outcome = await self._decisions.submit(Registration(gid, mode, branches, due_in_ms))
        return outcome if isinstance(outcome, tuple) else None

    async def get(self, gid: str) -> Record | None:
        gids = [gid.encode()]

        async def read(session: Session) -> Record | None:
            rows = await session.rows(*self._statements.listed("get", gids))
            if not rows:
                return None
            branches = await self._statements.branches(session, [rows[0][0]])
            return record_of(rows[0], branches.get(rows[0][0], ()))

        return await self._reading.run(read, commits=False)

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        before_ms, before_id = decode_position(position) if position else (NEVER_MS, 0)
        last_ms = wanted.created_to_ms or NEVER_MS
        size = max(limit, 0)
        statement = "list_by_creation"
        if wanted.status == Status.FAILED:
            statement = "list_failed"
        elif wanted.status and wanted.status != Status.SUCCEED:
            statement = "list_unfinished"
        status, mode = wanted.status.encode(), wanted.mode.encode()
        rows = await self._rows(
            statement,
            *(wanted.created_from_ms, last_ms, before_ms, before_ms, before_id, status, status, mode, mode, size + 1),
            seconds=_LONG_SECONDS,
        )
        page = tuple(record_of(row) for row in rows[:size])
        more = len(rows) > size > 0
        return Page(page, encode_position(page[-1].created_ms, page[-1].id) if more else "")

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        if not owner or lease_ms <= 0:
            raise ValueError("claim: the owner must not be empty and lease_ms must be positive")
        claimed = await self._changing.run(lambda session: self._claims.claim(session, owner, max(limit, 0), lease_ms))
        if claimed and self._fail.armed:
            await self._fail.hit("claim.committed_not_loaded")
        return claimed

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        mine = held if owner else ()
        return await self._changing.run(
            lambda session: recovery.renew(session, self._statements, owner, mine, lease_ms)
        )

    async def release(self, owner: str) -> int:
        return await self._changing.run(
            lambda session: recovery.release(session, self._statements, owner), seconds=_LONG_SECONDS
        )

    async def wake(self, gids: tuple[str, ...]) -> int:
        return await self._changing.run(lambda session: recovery.wake(session, self._statements, gids))

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        return await self._changing.run(
            lambda session: recovery.wake_later(session, self._statements, later_than_ms, max(limit, 0)),
            seconds=_LONG_SECONDS,
        )

    async def purge(self, older_than_ms: int, limit: int) -> int:
        if self._fail.armed:
            await self._fail.hit("purge.before_delete")
        await self._changing.run(self._statements.start)  # a closed store refuses, whatever the limit
        deleted = 0
        while deleted < limit:
            size = min(limit - deleted, _PURGE_SLICE)
            count = await self._purge_some(older_than_ms, size)
            deleted += count
            if count < size:
                break
            if self._fail.armed:
                await self._fail.hit("purge.half_deleted")
        return deleted

    async def _purge_some(self, older_than_ms: int, size: int) -> int:
        return await self._changing.run(
            lambda session: self._purge.some(session, older_than_ms, size), seconds=_LONG_SECONDS
        )

    async def reset(self) -> int:
        await self._changing.run(lambda session: session.execute(self._sql["delete_all_keys"]))
        deleted = 0
        while count := await self._changing.run(
            lambda session: recovery.delete_some(session, self._statements, _PURGE_SLICE), seconds=_LONG_SECONDS
        ):
            deleted += count
        return deleted

    async def stats(self) -> Stats:
        ask: Command = (self._sql["count_unfinished"], ())
        (counts,) = await self._reading.run(
            lambda session: self._statements.start(session, ask), seconds=_LONG_SECONDS, commits=False
        )
        return stats_of(counts.rows)

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        rows = await self._rows("kv_get", category.encode(), key.encode())
        return entry_of(rows[0]) if rows else None

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        size = max(limit, 0)
        if position:
            key = decode_key_position(position).encode()
            rows = await self._rows("kv_list_after", category.encode(), key, size + 1)
        else:
            rows = await self._rows("kv_list_first", category.encode(), size + 1)
        page = tuple(entry_of(row) for row in rows[:size])
        return KeyValuePage(page, encode_key_position(page[-1].key) if page and len(rows) > size else "")

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        entry = (category.encode(), key.encode())

        async def put(session: Session) -> bool:
            await self._statements.start(session)
            if expect_version:
                values = (value.encode(), *entry, expect_version)
                return await session.execute(self._sql["kv_update"], values) == 1
            try:
                return await session.execute(self._sql["kv_insert"], (*entry, value.encode())) == 1
            except errors.IntegrityError:
                return False

        return await self._changing.run(put)

    async def kv_delete(self, category: str, key: str) -> bool:
        entry = (category.encode(), key.encode())
        return await self._changing.run(lambda session: session.execute(self._sql["kv_delete"], entry)) == 1
