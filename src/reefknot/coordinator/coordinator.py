"""One method for each verb. Every API translates a request, calls one of these, and translates back.

A verb that changes something returns only after the change is durable. Driving goes on in the
background; with the ``wait`` option the verb also waits for the end of the first drive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from reefknot.callers import Callers
from reefknot.coordinator.drive import End
from reefknot.coordinator.driving import Driving
from reefknot.coordinator.intake import Intake
from reefknot.coordinator.records import (
    branch_rows,
    content_hash,
    details,
    encode_body,
    merged_body,
    stored_body,
    transaction,
)
from reefknot.coordinator.settings import Settings
from reefknot.coordinator.topics import Topics
from reefknot.coordinator.waiting import Waiting
from reefknot.coordinator.watching import Watching
from reefknot.engine.admission import Limits, check_branch, check_gid
from reefknot.engine.mode import Mode
from reefknot.errors import GidConflict, Invalid, NotFound, Refused, RolledBack, Unfinished
from reefknot.failpoints import Failpoints
from reefknot.model import (
    UNFINISHED,
    BranchRequest,
    Details,
    KeyValue,
    Status,
    Transaction,
    TransactionRequest,
)
from reefknot.store.base import Created, Decision, Filter, KeyValuePage, Record, Store
from reefknot.wire.outcome import reason_text

#: How often a compare-and-set is repeated when the state changed between reading and deciding.
DECIDE_TRIES = 5
FORCED_REASON = "stopped by force; no branch was called for it"


class Coordinator:
    """The transaction manager's verbs.

    Args:
        kick: makes this node look for due transactions now.
    """

    def __init__(
        self,
        *,
        modes: Mapping[str, Mode],
        store: Store,
        callers: Callers,
        intake: Intake,
        driving: Driving,
        topics: Topics,
        waiting: Waiting,
        watching: Watching,
        settings: Settings,
        limits: Limits,
        new_gid: Callable[[], str],
        kick: Callable[[], None],
        failpoints: Failpoints,
    ) -> None:
        self._modes = modes
        self._store = store
        self._callers = callers
        self._intake = intake
        self._driving = driving
        self._waiting = waiting
        self._watching = watching
        self._settings = settings
        self._limits = limits
        self._kick = kick
        self._fail = failpoints
        self.topics = topics
        self.new_gid = new_gid

    # --- starting -------------------------------------------------------------------------------

    async def prepare(self, request: TransactionRequest) -> None:
        """Store a transaction whose client will submit or abort it.

        Raises:
            Refused: it exists and is past that; ``GidConflict`` if its content differs.
            Invalid: the request cannot be carried out.
        """
        mode = self._mode(request.mode)
        if self._fail.armed:
            await self._fail.hit("prepare.before_insert")
        found, _ = await self._intake.create(request, mode, Status.PREPARED)
        if self._fail.armed:
            await self._fail.hit("prepare.after_insert")
        if isinstance(found, Created):
            return
        self._same_mode(found, request.mode)
        if found.status is not Status.PREPARED:
            raise Refused(f"current status '{found.status}', cannot prepare. FAILURE")
        if found.request_hash != content_hash(request):
            raise GidConflict(f"gid {request.gid!r} is prepared with other content. FAILURE")

    async def prepare_workflow(self, request: TransactionRequest) -> Details:
        """Store a workflow, or find the one that exists, with the steps recorded so far."""
        mode = self._mode(request.mode)
        found, _ = await self._intake.create(request, mode, Status.PREPARED)
        if isinstance(found, Created):
            found = await self._record(request.gid)
        self._same_mode(found, request.mode)
        return details(mode, found, self._settings.retry_max_seconds)

    async def submit(self, request: TransactionRequest) -> None:
        """Start a transaction, or go on with a prepared one.

        A repetition with the same content has the same answer and starts nothing twice.

        Raises:
            Refused: its state forbids it; ``GidConflict`` if its content differs.
            RolledBack, Unfinished: with the wait option, how far it got.
            Invalid: the request cannot be carried out.
        """
        mode = self._mode(request.mode)
        if not mode.submit_creates:
            await self._report_end(request, mode)
            return
        if not request.options.wait:
            await self._submit(request, mode)
            return
        with self._waiting.join(request.gid) as future:
            await self._submit(request, mode)
            await self._wait(request, future)

    async def _submit(self, request: TransactionRequest, mode: Mode) -> None:
        if self._fail.armed:
            await self._fail.hit("submit.before_insert")
        drives = self._driving.has_room
        deadline = self._driving.deadline()
        found, body = await self._intake.create(
            request, mode, Status.SUBMITTED, owner=self._driving.owner if drives else ""
        )
        if self._fail.armed:
            await self._fail.hit("submit.after_insert")
        if isinstance(found, Created):
            if drives:
                tx = Transaction(request.gid, mode.name, Status.SUBMITTED, body, found.created_ms, found.created_ms)
                self._driving.created(mode, tx, deadline)
            else:
                self._kick()
            return
        for _ in range(DECIDE_TRIES):
            self._same_mode(found, request.mode)
            if found.status is not Status.PREPARED:
                await self._repeated_submit(request, found)
                return
            body = merged_body(stored_body(found), request)
            decision = Decision(
                gid=request.gid,
                expect=(Status.PREPARED,),
                status=Status.SUBMITTED,
                body=encode_body(body),
                request_hash=content_hash(request),
            )
            decided = await self._driving.decide(decision, mode)
            if decided is not None:
                return
            found = await self._record(request.gid)
        raise Unfinished(f"gid {request.gid!r} is being changed by others; repeat the submit")

    async def _repeated_submit(self, request: TransactionRequest, found: Record) -> None:
        """The gid was submitted before: the same answer for the same content, and nothing twice."""
        same = found.request_hash == content_hash(request)
        if found.status in (Status.ABORTING, Status.FAILED) or (found.status is Status.SUCCEED and not same):
            raise Refused(f"current status '{found.status}', cannot sumbmit. {found.reason} FAILURE")
        if not same:
            raise GidConflict(f"gid {request.gid!r} was submitted with other content. FAILURE")
        if found.status is Status.SUCCEED:
            self._waiting.ended(request.gid, End(Status.SUCCEED))
        elif not self._driving.drives(request.gid):
            await self._store.wake((request.gid,))
            self._kick()

    async def _report_end(self, request: TransactionRequest, mode: Mode) -> None:
        """The client's code says how it ended."""
        check_gid(request.gid, self._limits)
        move = mode.submit(request)
        reason, result = reason_text(move.reason), request.extra.get("result", "")
        decision = Decision(request.gid, (Status.PREPARED,), move.to, reason, result)
        if await self._driving.decide(decision, mode) is not None:
            return
        found = await self._store.get(request.gid)
        if found is None:
            raise NotFound(f"storage: NotFound: no {mode.name} with gid {request.gid!r}")
        self._same_mode(found, request.mode)
        if (found.status, found.reason, found.result) != (move.to, reason, result):
            raise Refused(f"current status '{found.status}', cannot sumbmit. FAILURE")

    # --- deciding from outside ------------------------------------------------------------------

    async def abort(self, request: TransactionRequest) -> None:
        """Roll back a prepared transaction.

        Raises:
            NotFound: there is no such gid.
            Refused: its mode or state forbids it.
            RolledBack, Unfinished: with the stored wait option, if the rollback is not complete.
        """
        check_gid(request.gid, self._limits)
        with self._waiting.join(request.gid) as future:
            for _ in range(DECIDE_TRIES):
                found = await self._record(request.gid)
                mode = self._modes[found.mode]
                body = stored_body(found)
                move = mode.abort(transaction(found, body), request)
                if found.status is move.to:
                    await self._store.wake((request.gid,))
                    self._kick()
                    return
                decision = Decision(request.gid, (found.status,), move.to, reason_text(move.reason))
                if await self._driving.decide(decision, mode) is None:
                    continue
                if body.options.wait and not move.to.final:
                    seconds = body.options.request_timeout_seconds or self._settings.wait_seconds
                    end = await self._watching.end(request.gid, future, seconds)
                    if end is None or end.status is not Status.FAILED:
                        raise Unfinished(end.trouble if end else f"gid {request.gid!r} is still being rolled back")
                return
        raise Unfinished(f"gid {request.gid!r} is being changed by others; repeat the abort")

    async def force_stop(self, gid: str) -> None:
        """End a transaction as failed without calling any branch.

        Raises:
            NotFound: there is no such gid.
            Refused: it is finished already.
        """
        check_gid(gid, self._limits)
        decision = Decision(gid, UNFINISHED, Status.FAILED, FORCED_REASON)
        found = await self._store.decide(decision)
        if found is None:
            found = await self._record(gid)
            raise Refused(f"global transaction force stop error. status: {found.status}. error: FAILURE")
        self._driving.stopped(gid, End(Status.FAILED, found.reason))

    async def register(self, request: BranchRequest) -> None:
        """Add a branch to a prepared transaction, or a recorded step to a workflow.

        Raises:
            Refused: no such transaction is prepared; ``GidConflict`` if the branch exists with other content.
            Invalid: the registration is wrong.
        """
        mode = self._modes.get(request.mode)
        if mode is None or not mode.registers:
            raise Invalid("trans_type", f"unknow trans type: {request.mode}", "branches: tcc, xa, workflow", status=500)
        ops = mode.register(request)
        check_branch(request, ops, self._limits)
        for op in ops:
            if op.url.startswith(("http://", "https://")) and (problem := self._callers.check("http", op.url)):
                raise Invalid(op.op, problem)
        if self._fail.armed:
            await self._fail.hit("register.before_insert")
        rows = branch_rows(ops)
        due_in_ms = self._settings.retry_seconds * 1000 if mode.register_extends else -1
        stored = await self._store.register(request.gid, mode.name, rows, due_in_ms)
        if self._fail.armed:
            await self._fail.hit("register.after_insert")
        if stored is None:
            raise Refused(f"no trans with gid: {request.gid} status: prepared found FAILURE")
        for asked, there in zip(rows, stored, strict=False):
            if (asked.op, asked.url, asked.payload, asked.status) != (there.op, there.url, there.payload, there.status):
                branch = f"{request.branch_id} {asked.op}"
                raise GidConflict(f"storage: UniqueKeyConflict: branch {branch} exists with other content. FAILURE")

    # --- operating ------------------------------------------------------------------------------

    async def get(self, gid: str) -> Details | None:
        """A transaction with its operations, or None."""
        found = await self._store.get(gid)
        return self._details(found) if found else None

    async def wait(self, gid: str, seconds: int) -> Details:
        """A transaction once it is finished, or as it is when the time is over or the server stops.

        Args:
            gid: which one.
            seconds: how long at most; 0, or more than the setting's longest wait, is that wait.

        Raises:
            NotFound: there is no such gid.
        """
        longest = self._settings.wait_seconds
        return self._details(await self._watching.finished(gid, min(seconds or longest, longest)))

    async def watch(self, gid: str) -> AsyncIterator[Details]:
        """A transaction now and again when it has changed, until it is finished.

        A change is seen within a second; several in that time may be seen as one.

        Raises:
            NotFound: there is no such gid.
            Unavailable: the server stops; watch it at another one.
        """
        async for record in self._watching.changes(gid):
            yield self._details(record)

    async def list(
        self, *, status: str, mode: str, created_from_ms: int, created_to_ms: int, limit: int, position: str
    ) -> tuple[list[Details], str]:
        """Transactions, newest first, and the position of the next page; empty filters do not restrict.

        Raises:
            Invalid: the position is none that was handed out.
        """
        wanted = Filter(status, mode, created_from_ms, created_to_ms)
        try:
            page = await self._store.list(wanted, limit, position)
        except ValueError as error:
            raise _bad_position(error) from error
        return [self._details(record) for record in page.records], page.position

    async def keys(self, category: str, limit: int, position: str) -> KeyValuePage:
        """Entries of the key-value table, by key.

        Raises:
            Invalid: the position is none that was handed out.
        """
        try:
            return await self._store.kv_list(category, limit, position)
        except ValueError as error:
            raise _bad_position(error) from error

    async def key(self, category: str, key: str) -> KeyValue | None:
        """One entry of the key-value table."""
        return await self._store.kv_get(category, key)

    async def wake(self, gid: str) -> None:
        """Try a transaction again now.

        Raises:
            NotFound: there is no such gid.
        """
        check_gid(gid, self._limits)
        if not await self._store.wake((gid,)):
            raise NotFound(f"no TransGlobal with gid: {gid} found")
        self._kick()

    async def wake_later(self, later_than_seconds: int, limit: int) -> tuple[int, bool]:
        """Try again now what is due later than that: how many, and whether more remain."""
        woken = await self._store.wake_later(later_than_seconds * 1000, limit)
        self._kick()
        return woken

    # --- shared ---------------------------------------------------------------------------------

    async def _wait(self, request: TransactionRequest, future: asyncio.Future[End]) -> None:
        # As long as the client itself waits for an answer.
        seconds = request.options.request_timeout_seconds or self._settings.wait_seconds
        end = await self._watching.end(request.gid, future, seconds)
        if end is None:
            raise Unfinished(f"gid {request.gid!r} is still running")
        if end.status in (Status.ABORTING, Status.FAILED):
            raise RolledBack(end.reason)
        if end.status is not Status.SUCCEED:
            raise Unfinished(f"gid {request.gid!r} is {end.status}: {end.trouble}")

    def _mode(self, name: str) -> Mode:
        mode = self._modes.get(name)
        if mode is None:
            known = ", ".join(sorted(self._modes))
            raise Invalid("trans_type", f"{name!r} is no transaction mode", f"send one of {known}", status=500)
        return mode

    def _same_mode(self, found: Record, mode: str) -> None:
        if found.mode != mode:
            raise GidConflict(f"gid {found.gid!r} is a {found.mode}, not a {mode}. FAILURE")

    async def _record(self, gid: str) -> Record:
        found = await self._store.get(gid)
        if found is None:
            raise NotFound(f"no TransGlobal with gid: {gid} found")
        return found

    def _details(self, record: Record) -> Details:
        # A mode of a newer version is shown without its operations.
        return details(self._modes.get(record.mode) or Mode(), record, self._settings.retry_max_seconds)


def _bad_position(error: ValueError) -> Invalid:
    return Invalid("position", f"convert to int error: {error}", "send next_position back", status=500)
