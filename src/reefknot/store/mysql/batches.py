"""Many creates, reports or decisions in one transaction, each kind in few statements for all.

A class here serves one lane: a connection of its own with a queue in front of it (see
``groupcommit``). Rows go to the database sorted by gid, so that two batches rarely wait for each
other in a circle; where they do, the database ends one of them and ``Session`` repeats it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from reefknot.model import Status
from reefknot.store.base import BranchRow, Created, Decision, NewTransaction, Record, Write
from reefknot.store.mysql.rows import Row, branch_of, branches_by_id, create_values, record_of, write_values
from reefknot.store.mysql.session import Session, chunks
from reefknot.store.server_time import StoreTime


class Statements:
    """The named statements, and how rows and the time get into them.

    Args:
        sql: what ``load_statements`` found.
        time: the store's time.
    """

    def __init__(self, sql: dict[str, str], time: StoreTime) -> None:
        self.sql = sql
        self.time = time

    def clock(self) -> tuple[str, tuple[Any, ...]]:
        """The text and the values that open a transaction: they set its time and its number."""
        batch = secrets.randbits(62)
        given = self.time.given
        if given is None:
            return self.sql["clock"] + "; ", (batch,)
        return self.sql["clock_given"] + "; ", (given, batch)

    def many(self, name: str, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """A statement for several rows, and its values."""
        row = self.sql[f"{name}_row"]
        between = ", " if row.startswith("(") else " UNION ALL "
        text = self.sql[name].replace("{rows}", between.join([row] * len(rows)))
        return text, [value for values in rows for value in values]

    def listed(self, name: str, ids: Sequence[Any]) -> str:
        """A statement with a list of ids, of which there is at least one."""
        return self.sql[name].replace("{ids}", ", ".join(["%s"] * len(ids)))

    async def start(self, session: Session) -> int:
        """Open a transaction; returns its time."""
        prefix, values = self.clock()
        sent = self.time.sent()
        ((now_ms,),) = await session.rows_second(prefix + self.sql["now"], values)
        self.time.replied(sent, now_ms)
        return int(now_ms)

    async def for_rows(self, session: Session, name: str, rows: Sequence[Row]) -> int:
        """Run a statement for several rows, in as many parts as the server's packet size asks for."""
        count = 0
        for part in chunks(rows, session.max_packet):
            count += await session.execute(*self.many(name, part))
        return count

    async def branches(self, session: Session, tx_ids: Sequence[int]) -> dict[int, tuple[BranchRow, ...]]:
        """The branches of these transactions."""
        if not tx_ids:
            return {}
        return branches_by_id(await session.rows(self.listed("get_branches", tx_ids), tx_ids))


class CreateBatch:
    """Inserts transactions that do not exist yet."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def execute(self, batch: Sequence[NewTransaction]) -> list[Created | None]:
        """One result per transaction: None if its gid exists."""
        first: dict[str, int] = {}
        for place, new in enumerate(batch):
            first.setdefault(new.gid, place)
        rows = [create_values(batch[first[gid]]) for gid in sorted(first)]
        found = await self._session.run(lambda session: self._insert(session, rows))
        results: list[Created | None] = [None] * len(batch)
        for gid, row_id, created_ms in found:
            results[first[gid.decode()]] = Created(row_id, created_ms)
        return results

    async def _insert(self, session: Session, rows: Sequence[Row]) -> list[Row]:
        """The gids, ids and times of those that are new."""
        statements = self._statements
        prefix, values = statements.clock()
        sent = statements.time.sent()
        for part in chunks(rows, session.max_packet):
            text, more = statements.many("create", part)
            await session.execute_last(prefix + text, [*values, *more])
            prefix, values = "", ()
        gids = [row[0] for row in rows]
        found = await session.rows(statements.listed("created", gids), gids)
        if found:
            statements.time.replied(sent, found[0][2])
        return found


class WriteBatch:
    """Applies drivers' reports whose fence still holds."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def execute(self, batch: Sequence[Write]) -> list[bool]:
        """One result per report: whether it was accepted."""
        turns = [[(place, write_values(batch[place])) for place in turn] for turn in _turns(batch)]
        return await self._session.run(lambda session: self._apply(session, len(batch), turns))

    async def _apply(self, session: Session, size: int, turns: Sequence[Sequence[tuple[int, Row]]]) -> list[bool]:
        results = [False] * size
        for turn in turns:
            refused = await self._refused(session, [row for _, row in turn])
            for place, row in turn:
                results[place] = row[0] not in refused
        return results

    async def _refused(self, session: Session, rows: Sequence[Row]) -> frozenset[bytes]:
        """Update rows; returns the gids of those that were not as expected."""
        prefix, values = self._statements.clock()
        accepted = 0
        for part in chunks(rows, session.max_packet):
            text, more = self._statements.many("write", part)
            accepted += await session.execute_last(prefix + text, [*values, *more])
            prefix, values = "", ()
        if accepted == len(rows):
            return frozenset()
        gids = [row[0] for row in rows]
        found = await session.rows(self._statements.listed("written", gids), gids)
        return frozenset(gids).difference(row[0] for row in found)


class Registration:
    """A call of ``register``, waiting for its turn."""

    def __init__(self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int) -> None:
        self.gid = gid
        self.mode = mode
        self.branches = branches
        self.due_in_ms = due_in_ms


class Locked:
    """What a batch knows of a transaction whose row it holds."""

    def __init__(self, row: Row) -> None:
        self.gid = row[0].decode()
        self.id: int = row[1]
        self.mode = row[2].decode()
        self.status = Status(row[3].decode())
        self.finished = row[4] > 0
        self.now_ms: int = row[5]


Outcome = Record | tuple[BranchRow, ...] | None


class DecisionBatch:
    """Applies decisions and registrations, which take turns on each transaction."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def execute(self, batch: Sequence[Decision | Registration]) -> list[Outcome]:
        """The record after each decision, the rows after each registration, or None."""
        turns = _turns(batch)
        return await self._session.run(lambda session: self._apply(session, batch, turns))

    async def _apply(
        self, session: Session, batch: Sequence[Decision | Registration], turns: Sequence[Sequence[int]]
    ) -> list[Outcome]:
        results: list[Outcome] = [None] * len(batch)
        for turn in turns:
            locked = await self._lock(session, [batch[place].gid.encode() for place in turn])
            decisions = []
            registrations = []
            for place in turn:
                operation = batch[place]
                held = locked.get(operation.gid)
                if held is None:
                    continue
                if isinstance(operation, Decision):
                    if not held.finished and held.status in operation.expect:
                        decisions.append((place, held, operation))
                elif held.mode == operation.mode and held.status is Status.PREPARED:
                    registrations.append((place, held, operation))
            if decisions:
                await self._decide(session, decisions, results)
            if registrations:
                await self._register(session, registrations, results)
        return results

    async def _lock(self, session: Session, gids: Sequence[bytes]) -> dict[str, Locked]:
        prefix, values = self._statements.clock()
        text = self._statements.listed("lock", gids)
        sent = self._statements.time.sent()
        found = [Locked(row) for row in await session.rows_second(prefix + text, [*values, *gids])]
        for held in found[:1]:
            self._statements.time.replied(sent, held.now_ms)
        return {held.gid: held for held in found}

    async def _decide(
        self, session: Session, decisions: Sequence[tuple[int, Locked, Decision]], results: list[Outcome]
    ) -> None:
        statements = self._statements
        await statements.for_rows(session, "decide", [_decide_values(held, made) for _, held, made in decisions])
        ids = [held.id for _, held, _ in decisions]
        gids = [made.gid.encode() for _, _, made in decisions]
        rows = {row[0]: row for row in await session.rows(statements.listed("get", gids), gids)}
        branches = await statements.branches(session, ids)
        for place, held, _ in decisions:
            results[place] = record_of(rows[held.id], branches.get(held.id, ()))

    async def _register(
        self, session: Session, registrations: Sequence[tuple[int, Locked, Registration]], results: list[Outcome]
    ) -> None:
        existing: dict[tuple[int, str, str], BranchRow] = {}
        pairs = [
            (held.id, branch.branch_id.encode(), branch.op.encode())
            for _, held, wish in registrations
            for branch in wish.branches
        ]
        for part in chunks(pairs, session.max_packet):
            for tx_id, *row in await session.rows(*self._statements.many("find_branches", part)):
                branch = branch_of(row)
                existing[tx_id, branch.branch_id, branch.op] = branch
        new_rows: list[Row] = []
        touched: list[Row] = []
        for place, held, wish in registrations:
            keys = [(held.id, branch.branch_id, branch.op) for branch in wish.branches]
            if found := tuple(existing[key] for key in keys if key in existing):
                results[place] = found
                continue
            results[place] = tuple(replace(branch, created_ms=held.now_ms) for branch in wish.branches)
            new_rows += (_branch_values(held, branch) for branch in wish.branches)
            touched.append((held.id, wish.due_in_ms))
        await self._statements.for_rows(session, "insert_branches", new_rows)
        await self._statements.for_rows(session, "touch", touched)


def _turns(batch: Iterable[Any]) -> list[list[int]]:
    """The places of a batch in as few turns as possible, each gid once a turn, in order and sorted."""
    turns: list[list[tuple[bytes, int]]] = []
    seen: dict[str, int] = {}
    for place, operation in enumerate(batch):
        turn = seen.get(operation.gid, 0)
        seen[operation.gid] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append((operation.gid.encode(), place))
    return [[place for _, place in sorted(turn)] for turn in turns]


def _decide_values(held: Locked, decision: Decision) -> Row:
    """The values of ``decide_row``."""
    final = decision.status.final
    leased = bool(decision.owner) and decision.lease_ms > 0 and not final
    return (
        *(held.id, decision.status.value, decision.body, decision.request_hash, decision.reason.encode()),
        *(decision.result.encode(), decision.owner.encode() if leased else b"", decision.lease_ms if leased else 0),
        *(-1 if final else decision.due_in_ms, final),
    )


def _branch_values(held: Locked, branch: BranchRow) -> Row:
    """The values of ``insert_branches_row``."""
    return (
        *(held.id, branch.branch_id.encode(), branch.op.encode(), branch.url.encode(), branch.payload),
        branch.status.value,
    )
