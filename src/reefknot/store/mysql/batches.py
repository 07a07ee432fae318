"""Many creates, reports or decisions in one transaction, each kind in few statements for all.

A class here serves one lane: a connection of its own with a queue in front of it (see
``groupcommit``). A batch of creates or reports is one packet with its commit. Rows go to the
database sorted by gid, so that two batches rarely wait for each other in a circle; where they do,
the database ends one of them and ``Session`` repeats it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from reefknot.model import Status
from reefknot.store.base import BranchRow, Created, Decision, NewTransaction, Record, Write
from reefknot.store.mysql.rows import branch_of, branches_by_id, create_values, record_of, write_values
from reefknot.store.mysql.session import Answer, Command, Row, Session, chunks
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

    def clock(self) -> Command:
        """The first statement of a transaction: it sets its time and its number."""
        batch = secrets.randbits(62)
        given = self.time.given
        if given is None:
            return self.sql["clock"], (batch,)
        return self.sql["clock_given"], (given, batch)

    def many(self, name: str, rows: Sequence[Row], between: str = ", ", *first: Any) -> Command:
        """A statement for several rows.

        Args:
            name: the statement.
            rows: their values.
            between: what stands between two rows.
            first: values of the statement that stand before those of the rows.
        """
        text = self.sql[name].replace("{rows}", between.join([self.sql[f"{name}_row"]] * len(rows)))
        return text, [*first, *(value for values in rows for value in values)]

    def listed(self, name: str, ids: Sequence[Any], *first: Any) -> Command:
        """A statement with a list of ids, of which there is at least one, after other values."""
        return self.sql[name].replace("{ids}", ", ".join(["%s"] * len(ids))), [*first, *ids]

    async def start(self, session: Session, *commands: Command) -> list[Answer]:
        """Open a transaction with its time, which is learnt, and run commands in the same packet."""
        sent = self.time.sent()
        answers = await session.script((self.clock(), (self.sql["now"], ()), *commands))
        self.time.replied(sent, answers[1].rows[0][0])
        return answers[2:]

    async def branches(self, session: Session, tx_ids: Sequence[int]) -> dict[int, tuple[BranchRow, ...]]:
        """The branches of these transactions."""
        if not tx_ids:
            return {}
        return branches_by_id(await session.rows(*self.listed("get_branches", tx_ids)))


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

    async def _insert(self, session: Session, rows: Sequence[Row]) -> Sequence[Row]:
        """The gids, ids and times of those that are new."""
        statements = self._statements
        inserts = [statements.many("create", part) for part in chunks(rows, session.max_packet)]
        created = statements.listed("created", [row[0] for row in rows])
        sent = statements.time.sent()
        found = (await session.script((statements.clock(), *inserts, created), commit=True))[-1].rows
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
        # The sort keeps the order of two reports of one transaction.
        places = sorted(range(len(batch)), key=lambda place: batch[place].gid)
        commands: list[Command] = []
        for place in places:
            name, values = write_values(batch[place])
            commands.append((self._statements.sql[name], values))
        answers = await self._session.run(
            lambda session: session.script((self._statements.clock(), *commands), commit=True)
        )
        results = [False] * len(batch)
        for place, answer in zip(places, answers[1:], strict=True):
            results[place] = answer.found == 1
        return results


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
        self.gid: bytes = row[0]
        self.id: int = row[1]
        self.mode: str = row[2].decode()
        self.status = Status(row[3].decode())
        self.owner: str = row[4].decode()
        self.epoch: int = row[5]
        self.finished = row[6] > 0
        self.now_ms: int = row[7]


Outcome = Record | tuple[BranchRow, ...] | None


class DecisionBatch:
    """Applies decisions and registrations, which take turns on each transaction."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def execute(self, batch: Sequence[Decision | Registration]) -> list[Outcome]:
        """The record after each decision, the rows after each registration, or None."""
        return await self._session.run(lambda session: self._apply(session, batch))

    async def _apply(self, session: Session, batch: Sequence[Decision | Registration]) -> list[Outcome]:
        results: list[Outcome] = [None] * len(batch)
        for turn in _turns(batch):
            operations = [batch[place] for place in turn]
            for place, outcome in zip(turn, await self._turn(session, operations), strict=True):
                results[place] = outcome
        return results

    async def _turn(self, session: Session, operations: Sequence[Decision | Registration]) -> list[Outcome]:
        """Apply operations on as many transactions: look at them all, then change them all."""
        locked, existing = await self._look(session, operations)
        results: list[Outcome] = []
        commands: list[Command] = []
        decided: list[tuple[int, int]] = []  # the place of a decision's result, and of the answers for it
        for operation in operations:
            held = locked.get(operation.gid.encode())
            found = existing.get(operation.gid, ())
            outcome: Outcome = None
            if held is None:
                pass
            elif isinstance(operation, Decision):
                if not held.finished and operation.fits(held.mode, held.status):
                    decided.append((len(results), len(commands) + 1))
                    commands += self._decide(held, operation)
            elif held.mode == operation.mode and held.status is Status.PREPARED:
                outcome = found or tuple(replace(branch, created_ms=held.now_ms) for branch in operation.branches)
                if not found:
                    commands += self._register(session, held, operation)
            results.append(outcome)
        if commands:
            answers = await session.script(commands)
            for place, answer in decided:
                branches = tuple(branch_of(row[1:]) for row in answers[answer + 1].rows)
                results[place] = record_of(answers[answer].rows[0], branches)
        return results

    async def _look(
        self, session: Session, operations: Sequence[Decision | Registration]
    ) -> tuple[dict[bytes, Locked], dict[str, tuple[BranchRow, ...]]]:
        """Lock the transactions; of registrations also find the rows that exist, in the order asked."""
        statements = self._statements
        wishes = [wish for wish in operations if isinstance(wish, Registration) and wish.branches]
        commands = [statements.clock(), statements.listed("lock", [wish.gid.encode() for wish in operations])]
        for wish in wishes:
            pairs = [(branch.branch_id.encode(), branch.op.encode()) for branch in wish.branches]
            commands.append(statements.many("find_branches", pairs, " OR ", wish.gid.encode()))
        sent = statements.time.sent()
        answers = await session.script(commands)
        held = [Locked(row) for row in answers[1].rows]
        if held:
            statements.time.replied(sent, held[0].now_ms)
        existing = {}
        for wish, answer in zip(wishes, answers[2:], strict=True):
            rows = {(row.branch_id, row.op): row for row in map(branch_of, answer.rows)}
            asked = [(branch.branch_id, branch.op) for branch in wish.branches]
            existing[wish.gid] = tuple(rows[pair] for pair in asked if pair in rows)
        return {row.gid: row for row in held}, existing

    def _decide(self, held: Locked, decision: Decision) -> list[Command]:
        """Change the transaction, then read it and its branches."""
        statements = self._statements
        return [
            (statements.sql["decide"], _decide_values(held, decision)),
            statements.listed("get", [held.gid]),
            statements.listed("get_branches", [held.id]),
        ]

    def _register(self, session: Session, held: Locked, wish: Registration) -> list[Command]:
        """Add the rows and move the due time."""
        statements = self._statements
        rows = [_branch_values(held, branch) for branch in wish.branches]
        return [
            *(statements.many("insert_branches", part) for part in chunks(rows, session.max_packet)),
            (statements.sql["touch"], (wish.due_in_ms >= 0, wish.due_in_ms, held.id)),
        ]


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
    """The values of ``decide``."""
    final = decision.status.final
    leased = bool(decision.owner) and decision.lease_ms > 0 and not final
    return (
        *(decision.status.value, decision.body, decision.request_hash, decision.reason.encode()),
        *(decision.result.encode(), decision.owner.encode() if leased else b"", leased, decision.lease_ms),
        *(not final, decision.due_in_ms, final, held.id),
    )


def _branch_values(held: Locked, branch: BranchRow) -> Row:
    """The values of ``insert_branches_row``."""
    return (
        *(held.id, branch.branch_id.encode(), branch.op.encode(), branch.url.encode(), branch.payload),
        branch.status.value,
    )
