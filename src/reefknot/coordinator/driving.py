"""Starts drives: for what was created, decided or claimed on this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import msgspec

from reefknot.coordinator.drive import Drive, End
from reefknot.coordinator.leases import Leases
from reefknot.coordinator.records import snapshot
from reefknot.coordinator.runner import Runner
from reefknot.coordinator.settings import Settings
from reefknot.coordinator.tasks import Spawn
from reefknot.coordinator.waiting import Waiting
from reefknot.engine.mode import Mode
from reefknot.failpoints import Failpoints
from reefknot.model import Snapshot, Transaction
from reefknot.store.base import Claimed, Decision, Record, Store, Write

_log = logging.getLogger(__name__)


class Driving:
    """The drives of this node.

    Args:
        owner: this process in every lease: the node's name and a nonce of its start.
    """

    def __init__(
        self,
        *,
        modes: Mapping[str, Mode],
        store: Store,
        runner: Runner,
        leases: Leases,
        waiting: Waiting,
        settings: Settings,
        owner: str,
        spawn: Spawn,
        failpoints: Failpoints,
    ) -> None:
        self._modes = modes
        self._store = store
        self._runner = runner
        self._leases = leases
        self._waiting = waiting
        self._settings = settings
        self._spawn = spawn
        self._fail = failpoints
        self._live = 0
        self.owner = owner

    @property
    def has_room(self) -> bool:
        """Whether a new transaction can be driven at once, or must wait for the poller."""
        return self._live < self._settings.live_transactions

    @property
    def lease_ms(self) -> int:
        """The length of a lease."""
        return self._leases.lease_ms

    def deadline(self) -> float:
        """Until when a lease that is asked for now may be used; take it before the write is sent."""
        return self._leases.deadline()

    def drives(self, gid: str) -> bool:
        """Whether this node drives the gid now."""
        return self._leases.get(gid) is not None

    def created(self, mode: Mode, tx: Transaction, deadline: float) -> None:
        """Drive a transaction that was created just now; nothing is read back."""
        self._start(Drive(mode, Snapshot(tx, mode.branches(tx.body)), {}, 1, 1, deadline))

    def stopped(self, gid: str, end: End) -> None:
        """Somebody ended the transaction from outside: stop the local driver, tell who waits."""
        self._leases.drop(gid)
        self._waiting.ended(gid, end)

    async def decide(self, decision: Decision, mode: Mode) -> Record | None:
        """Decide from outside, and drive what is not finished by it; None if nothing changed."""
        if self._fail.armed:
            await self._fail.hit("decide.before_cas")
        leased = 0 if decision.status.final else self.lease_ms
        decision = msgspec.structs.replace(
            decision, mode=mode.name, owner=self.owner if leased else "", lease_ms=leased, due_in_ms=leased
        )
        deadline = self.deadline()
        record = await self._store.decide(decision)
        if self._fail.armed:
            await self._fail.hit("decide.after_cas")
            if decision.status.final:
                await self._fail.hit("workflow.decision_recorded")
        if record is None:
            return None
        if decision.status.final:
            self.stopped(decision.gid, End(decision.status, record.reason))
        else:
            self._leases.drop(decision.gid)
            seen, progress = snapshot(mode, record)
            self._start(Drive(mode, seen, progress, record.epoch, record.version, deadline))
        return record

    async def recover(self, claimed: Claimed, deadline: float) -> None:
        """Drive a transaction that the poller claimed."""
        record = claimed.record
        try:
            mode = self._modes[record.mode]
            seen, progress = snapshot(mode, record)
        except Exception:  # noqa: BLE001 - whatever is stored, it must not be tried again without end
            _log.exception("transaction cannot be read", extra={"gid": record.gid})
            await self._back_off_unread(record)
            return
        if claimed.abandoned_ms:
            seconds = seen.tx.body.options.request_timeout_seconds or self._settings.request_timeout_seconds
            until_ms = max(claimed.abandoned_ms + seconds * 1000, seen.unsettled_until_ms)
            from_ms = 0 if seen.unsettled_until_ms else claimed.abandoned_ms
            seen = Snapshot(seen.tx, seen.ops, until_ms, from_ms)
        drive = Drive(mode, seen, progress, record.epoch, record.version, deadline)
        drive.task = asyncio.current_task()
        await self._run(drive)

    async def _back_off_unread(self, record: Record) -> None:
        """Leave a transaction alone that this version cannot read: another one may."""
        seconds = self._settings.retry_max_seconds
        write = Write(
            gid=record.gid,
            owner=self.owner,
            epoch=record.epoch,
            expect=record.status,
            status=record.status,
            progress=record.progress,
            attempts=record.attempts + 1,
            due_in_ms=seconds * 1000,
        )
        await self._store.write(write)

    def _start(self, drive: Drive) -> None:
        self._live += 1
        drive.task = self._spawn(self._run_live(drive), "drive")

    async def _run_live(self, drive: Drive) -> None:
        try:
            await self._run(drive)
        finally:
            self._live -= 1

    async def _run(self, drive: Drive) -> None:
        end = await self._runner.drive(drive)
        if end is not None:
            self._waiting.ended(drive.gid, end)
