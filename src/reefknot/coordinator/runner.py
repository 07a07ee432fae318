"""Drives one transaction: ask the mode, carry out its commands, report the answers.

Theory of operation. The loop has one rule that everything else rests on: *an accepted fenced
write is the only permission to start the next branch call*. What is learned is collected in the
``Drive``; before new calls start it is written in one fenced write. A refused write ends the drive
at once. A change of status waits until no call is outstanding, so a compensation is never sent
while its action may still be running here. When nothing can be called any more the drive ends
with a last write that either finishes the transaction or gives it up until it is due again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from reefknot.callers import Callers
from reefknot.callers.base import BranchCall
from reefknot.clock import Clock
from reefknot.coordinator.alerts import Alerts
from reefknot.coordinator.drive import Drive, End
from reefknot.coordinator.failures import Failures
from reefknot.coordinator.hosts import Hosts
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.records import encode_progress, snapshot
from reefknot.coordinator.settings import Settings
from reefknot.engine.commands import Backoff, Call, Command, Move, Park, Retry
from reefknot.engine.schedule import interval_seconds, jittered_ms
from reefknot.errors import StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.model import Op, Outcome, Snapshot, Status, Success
from reefknot.observe import Observer
from reefknot.store.base import NEVER_MS, Store, Write

_log = logging.getLogger(__name__)

#: First pause before a call that a client's retry limit repeats within one drive; it doubles.
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 2.0
#: Pause between two attempts to learn what became of a write.
RELOAD_SECONDS = 0.2


class LeaseLost(Exception):
    """This drive may no longer act: its write was refused, or its time is over."""


class Runner:
    """Carries out what the engine decides, for any number of transactions at once."""

    def __init__(
        self,
        *,
        store: Store,
        callers: Callers,
        hosts: Hosts,
        leases: Leases,
        alerts: Alerts,
        clock: Clock,
        settings: Settings,
        owner: str,
        random: Callable[[], float],
        observer: Observer,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._callers = callers
        self._hosts = hosts
        self._leases = leases
        self._alerts = alerts
        self._failures = Failures(clock)
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._random = random
        self._observer = observer
        self._fail = failpoints

    async def drive(self, drive: Drive) -> End | None:
        """Take the transaction as far as it goes now.

        Returns:
            How far it got, or None if another driver has taken over.
        """
        self._leases.add(drive)
        try:
            end: End | None = await self._advance(drive)
        except LeaseLost:
            self._observer.write_refused(drive.s.tx.mode)
            return None
        except asyncio.CancelledError:
            if drive.stopping:
                await self._give_up_stopping(drive)
            raise
        except StoreUnavailable as error:
            _log.warning("store unavailable, drive ended", extra={"gid": drive.gid, "error": str(error)})
            return None
        except Exception:  # noqa: BLE001 - a transaction that cannot be driven must not stop the others
            _log.exception("transaction cannot be driven", extra={"gid": drive.gid})
            drive.cancel_calls()
            end = await self._give_up_broken(drive)
        finally:
            drive.cancel_calls()
            self._leases.remove(drive)
        seconds = (self._store.now_ms() - drive.s.tx.created_ms) / 1000
        self._observer.transaction_driven(drive.s.tx.mode, end is not None and not end.trouble, seconds)
        return end

    async def _advance(self, drive: Drive) -> End:
        while True:
            if drive.running and drive.moving:
                await self._some_answers(drive)
                continue
            commands: list[Command] = [drive.moving] if drive.moving else self._decide(drive)
            head = commands[0] if commands else None
            if isinstance(head, Move | Park):
                if drive.running:
                    await self._some_answers(drive)
                elif isinstance(head, Park):
                    return await self._park(drive, head)
                elif end := await self._move(drive, head):
                    return end
                continue
            calls = drive.new_calls(commands)
            if drive.dirty and (calls or drive.running):
                await self._record(drive)
            if calls:
                await self._start(drive, calls)
            elif drive.running:
                await self._some_answers(drive)
            else:
                return await self._give_up(drive, commands)

    def _decide(self, drive: Drive) -> list[Command]:
        return drive.mode.decide(drive.s, self._store.now_ms())

    async def _start(self, drive: Drive, calls: list[Call]) -> None:
        if drive.pause_tries:
            pause = min(PAUSE_SECONDS * 2.0 ** (drive.pause_tries - 1), PAUSE_SECONDS_MAX)
            drive.pause_tries = 0
            self._failures.repeated(drive, self._store.now_ms() + round(pause * 1000))
            await self._clock.sleep(pause)
        if len(calls) == 1 and not drive.running:
            self._take_in(drive, calls[0], await self._call(drive, calls[0]))
            return
        for call in calls:
            drive.running[asyncio.get_running_loop().create_task(self._call(drive, call))] = call

    async def _some_answers(self, drive: Drive) -> None:
        done, _ = await asyncio.wait(drive.running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            self._take_in(drive, drive.running.pop(task), task.result())

    def _take_in(self, drive: Drive, call: Call, outcome: Outcome | None) -> None:
        if outcome is None:
            drive.busy(call.op.url)
            return
        self._observer.branch_called(drive.s.tx.mode, call.op.op, isinstance(outcome, Success))
        drive.answered(call, outcome, self._store.now_ms())

    async def _call(self, drive: Drive, call: Call) -> Outcome | None:
        """Call one branch; None if its host takes no call now."""
        op, tx = call.op, drive.s.tx
        if not op.url:
            return Success()
        host = self._hosts.of(op.url)
        if not await self._hosts.enter(host):
            return None
        outcome: Outcome | None = None
        try:
            if self._clock.monotonic() >= drive.deadline:
                raise LeaseLost
            if self._fail.armed:
                await self._before_call(op.op)
            drive.calls_sent += 1
            outcome = await self._callers.call(
                BranchCall(
                    tx.gid,
                    tx.mode,
                    op.branch_id,
                    op.op,
                    op.url,
                    op.payload,
                    tx.body.protocol,
                    tx.body.options.headers,
                    self._request_timeout(drive),
                    call.post,
                )
            )
            drive.calls_sent -= 1
            if self._fail.armed:
                await self._after_call(op.op, call.index)
            return outcome
        finally:
            self._hosts.leave(host, outcome)

    def _request_timeout(self, drive: Drive) -> int:
        """Seconds that one call of this transaction may take."""
        return drive.s.tx.body.options.request_timeout_seconds or self._settings.request_timeout_seconds

    async def _before_call(self, op: str) -> None:
        if op == Op.MSG:
            await self._fail.hit("msg.before_checkback")
        if op in (Op.COMPENSATE, Op.CANCEL, Op.ROLLBACK):
            await self._fail.hit("saga.before_compensate")
        await self._fail.hit("call.before_send")

    async def _after_call(self, op: str, index: int) -> None:
        await self._fail.hit("call.sent_no_reply")
        if op == Op.MSG:
            await self._fail.hit("msg.after_checkback")
        elif index < 0:
            await self._fail.hit("workflow.callback_sent")
        await self._fail.hit("call.reply_before_record")

    async def _move(self, drive: Drive, move: Move) -> End | None:
        """Enter another status; the end of the drive if it is a final one.

        Any other status is entered in memory only: the write that permits the first call of the
        new phase, or the one that gives the transaction up, carries it. Not so where clients may
        register branches until the change is stored.
        """
        open_to_clients = drive.s.tx.status is Status.PREPARED and drive.mode.registers
        if self._fail.armed:
            if move.reason.startswith("Timeout"):
                await self._fail.hit("timeout.detected")
            if move.to is Status.ABORTING:
                await self._fail.hit("saga.before_abort")
            if move.to.final:
                await self._fail.hit("finish.before")
        drive.move(move, self._store.now_ms())
        if not move.to.final:
            if open_to_clients:
                await self._record(drive)
                await self._read_branches(drive)
            return None
        await self._record(drive)
        if self._fail.armed:
            await self._fail.hit("finish.after")
        return End(move.to, drive.s.tx.reason)

    async def _read_branches(self, drive: Drive) -> None:
        """Learn which branches were registered after this drive read the transaction.

        Raises:
            LeaseLost: somebody else drives it now.
            StoreUnavailable: the store does not answer.
        """
        record = await self._store.get(drive.gid)
        if record is None or (record.owner, record.epoch) != (self._owner, drive.epoch):
            raise LeaseLost
        seen, drive.progress = snapshot(drive.mode, record)
        drive.s = Snapshot(seen.tx, seen.ops, drive.s.unsettled_until_ms, drive.s.unsettled_from_ms)

    async def _park(self, drive: Drive, park: Park) -> End:
        await self._record(drive, lease_ms=0, due_in_ms=NEVER_MS, parked=park.reason)
        tx = drive.s.tx
        self._observer.transaction_parked(tx.mode)
        self._failures.parked(drive, park.reason)
        self._alerts.raised(tx.gid, tx.status, "", park.reason, drive.attempts)
        return End(tx.status, tx.reason, f"parked: {park.reason}")

    async def _give_up(self, drive: Drive, commands: list[Command]) -> End:
        """Nothing more can be done now: release the transaction until it is due again."""
        tx, now_ms = drive.s.tx, self._store.now_ms()
        retry = drive.retry or next((command for command in commands if isinstance(command, Retry)), None)
        reset = retry is not None and retry.backoff is Backoff.RESET
        attempts = 0 if reset else drive.attempts
        interval = interval_seconds(tx.body.retry_seconds, attempts, self._settings.retry_max_seconds)
        due_in_ms = jittered_ms(interval, self._random())
        if retry is not None and retry.not_before_ms:
            due_in_ms = max(retry.not_before_ms - now_ms, 0)
        if retry is None and not commands:  # only a client can go on with it
            due_in_ms = NEVER_MS
        deadline_ms = drive.mode.deadline_ms(tx)
        if deadline_ms > now_ms:
            due_in_ms = min(due_in_ms, deadline_ms - now_ms)
        most = self._settings.max_attempts
        if most and drive.grew and attempts >= most:
            return await self._park(drive, Park(f"gave up after {attempts} failed visits; the last: {drive.trouble}"))
        await self._record(drive, lease_ms=0, due_in_ms=due_in_ms, attempts=attempts)
        if drive.failed:
            self._failures.repeated(drive, now_ms + due_in_ms)
        if drive.waits_for:
            self._hosts.wait_for(self._hosts.of(drive.waits_for), drive.gid)
        if drive.grew and attempts >= self._settings.alert_after_attempts:
            self._alerts.raised(tx.gid, tx.status, drive.alert_url, drive.trouble, attempts)
        return End(tx.status, tx.reason, drive.trouble or "waits for its time")

    async def _give_up_broken(self, drive: Drive) -> End | None:
        """A transaction that cannot be driven backs off alone; it must not end the process or loop."""
        self._note_calls_cut_off(drive)
        drive.grew = True
        drive.trouble = drive.trouble or "the transaction cannot be driven; see the server's log"
        for attempt in ("as it is", "shortened"):
            try:
                return await self._give_up(drive, [Retry(Backoff.GROW)])
            except (LeaseLost, StoreUnavailable):
                return None
            except ValueError as error:  # the store cannot hold the report: the participants' texts make it long
                _log.error("report refused", extra={"gid": drive.gid, "report": attempt, "error": str(error)})
                drive.shorten_errors()
        return None

    async def _give_up_stopping(self, drive: Drive) -> None:
        """The server stops and waits no longer: leave the transaction to the next driver, at once."""
        self._note_calls_cut_off(drive)
        # A write may have been cut off too, and applied or not: what is known here includes it, so the
        # version is not compared; owner and epoch still hold. If that write changed the status this one
        # is refused: then no call was under way, and the release of all leases frees the transaction.
        drive.version = 0
        with contextlib.suppress(LeaseLost, StoreUnavailable):
            await self._record(drive, lease_ms=0, due_in_ms=0)

    def _note_calls_cut_off(self, drive: Drive) -> None:
        """Calls without an answer may go on at the participants: whoever drives next must know."""
        if drive.calls_sent:
            drive.unsettled(self._store.now_ms() + self._request_timeout(drive) * 1000)

    async def _record(
        self,
        drive: Drive,
        *,
        lease_ms: int = -1,
        due_in_ms: int = -1,
        attempts: int = -1,
        parked: str = "",
    ) -> None:
        """Write everything this drive knows, fenced.

        Raises:
            LeaseLost: the write was refused; nothing of it is stored.
            StoreUnavailable: the lease ran out before the store said what became of it.
        """
        tx = drive.s.tx
        write = Write(
            drive.gid,
            self._owner,
            drive.epoch,
            drive.stored_status,
            tx.status,
            encode_progress(drive.progress, self._unsettled_until(drive), drive.error),
            drive.attempts if attempts < 0 else attempts,
            tx.reason,
            parked,
            self._leases.lease_ms if lease_ms < 0 else lease_ms,
            due_in_ms,
            drive.version,
        )
        if self._fail.armed:
            await self._fail.hit("record.before_commit")
        deadline = self._leases.deadline()
        try:
            accepted = await self._store.write(write)
        except StoreUnavailable:
            accepted = await self._after_unknown_write(drive, write)
        if not accepted:
            raise LeaseLost
        if self._fail.armed:
            await self._fail.hit("record.after_commit")
        drive.deadline = deadline
        drive.stored_status = tx.status
        drive.version += 1
        drive.dirty = False

    def _unsettled_until(self, drive: Drive) -> int:
        until_ms = drive.s.unsettled_until_ms
        return until_ms if until_ms and until_ms > self._store.now_ms() else 0

    async def _after_unknown_write(self, drive: Drive, write: Write) -> bool:
        """Find out what became of a write whose outcome is unknown; repeat it if it did not happen.

        It may still arrive. It names the version it was made for, so it is applied once: if the
        repetition is refused, the next look tells whether that was why.
        """
        while self._clock.monotonic() < drive.deadline:
            await self._clock.sleep(RELOAD_SECONDS)
            try:
                found = await self._store.get(drive.gid)
                if found is None or (found.epoch, found.version) == (drive.epoch, drive.version + 1):
                    return found is not None
                if (found.owner, found.epoch, found.version) != (self._owner, drive.epoch, drive.version):
                    return False
                if await self._store.write(write):
                    return True
            except StoreUnavailable:
                continue
        raise StoreUnavailable(f"the lease of {drive.gid} ran out before the store answered")
