"""One transaction while this node drives it: what is known, and what the store has accepted."""

from __future__ import annotations

import asyncio

import msgspec

from reefknot.coordinator.records import with_progress
from reefknot.engine.commands import Backoff, Call, Command, Move, Retry, Settle
from reefknot.engine.mode import Mode
from reefknot.model import BranchOp, Failure, Ongoing, OpProgress, Outcome, Snapshot, Status, Success, Unknown

#: Errors are kept for the operator, not for programs: this much of one is enough to read.
ERROR_CHARACTERS = 1_024
#: This much of one where the store cannot hold them all.
SHORT_ERROR_CHARACTERS = 64


class End(msgspec.Struct, frozen=True):
    """How a drive ended: the status the store accepted last, and why it is not further."""

    status: Status
    reason: str = ""
    trouble: str = ""


class Failed(msgspec.Struct, frozen=True):
    """A call that failed and is made again.

    Attributes:
        op: what was called.
        tries: calls that did not succeed, this one included.
        error: what it came to.
        first: whether nothing of this transaction had failed since something succeeded.
    """

    op: BranchOp
    tries: int
    error: str
    first: bool


class Drive:
    """The driver's memory of one transaction. It lives no longer than one claim.

    ``deadline`` is on the local monotonic clock and always earlier than the end of the lease in
    the store, because it was taken before the write that set the lease was sent.
    """

    __slots__ = (
        "alert_url",
        "called",
        "calls_sent",
        "deadline",
        "dirty",
        "epoch",
        "error",
        "failed",
        "gid",
        "grew",
        "mode",
        "moving",
        "pause_tries",
        "progress",
        "progressed",
        "retry",
        "running",
        "s",
        "stopping",
        "stored_status",
        "task",
        "trouble",
        "version",
        "waits_for",
    )

    def __init__(
        self, mode: Mode, s: Snapshot, progress: dict[int, OpProgress], epoch: int, version: int, deadline: float
    ) -> None:
        self.gid = s.tx.gid
        self.mode = mode
        self.s = s
        self.progress = progress
        self.epoch = epoch
        self.version = version
        self.deadline = deadline
        self.stored_status = s.tx.status
        self.task: asyncio.Task[None] | None = None
        #: Something is known that the store has not accepted yet.
        self.dirty = False
        #: Operations called in this drive; none is called twice.
        self.called: set[tuple[str, str]] = set()
        #: Calls that were sent and not answered yet.
        self.calls_sent = 0
        #: The server stops: this drive is cancelled though its lease is good.
        self.stopping = False
        self.running: dict[asyncio.Task[Outcome | None], Call] = {}
        #: A change of status that an answer asked for; it waits until no call is outstanding.
        self.moving: Move | None = None
        self.retry: Retry | None = None
        self.grew = False
        self.progressed = False
        self.pause_tries = 0
        self.trouble = ""
        #: Why this visit gets no further, where no operation's error says it.
        self.error = ""
        #: What is to be told in the log once it is known when it is repeated.
        self.failed: tuple[Failed, ...] = ()
        self.alert_url = ""
        #: The URL whose host gave no answer, if that is why this drive gives up.
        self.waits_for = ""

    @property
    def attempts(self) -> int:
        """Visits that failed in a row, this one included: a success in between starts afresh."""
        return (0 if self.progressed else self.s.tx.attempts) + (1 if self.grew else 0)

    def new_calls(self, commands: list[Command]) -> list[Call]:
        """The calls among the commands that this drive has not made yet; they count as made from now on."""
        fresh = []
        for command in commands:
            if isinstance(command, Call):
                key = (command.op.branch_id, command.op.op)
                if key not in self.called:
                    self.called.add(key)
                    fresh.append(command)
        return fresh

    def move(self, move: Move, now_ms: int) -> None:
        """Enter another status, in memory."""
        tx = self.s.tx
        moved = msgspec.structs.replace(tx, status=move.to, reason=move.reason or tx.reason, decided_ms=now_ms)
        self.s = Snapshot(moved, self.s.ops, self.s.unsettled_until_ms, self.s.unsettled_from_ms)
        self.moving = None
        self.failed = ()
        self.error = ""
        self.dirty = True

    def unsettled(self, until_ms: int) -> None:
        """Calls of this drive may go on at the participants until then, whoever drives next."""
        until_ms = max(until_ms, self.s.unsettled_until_ms)
        self.s = Snapshot(self.s.tx, self.s.ops, until_ms)
        self.dirty = True

    def shorten_errors(self) -> None:
        """Keep only the beginning of what the participants said."""
        for index, done in self.progress.items():
            self.progress[index] = msgspec.structs.replace(done, error=done.error[:SHORT_ERROR_CHARACTERS])

    def cancel_calls(self) -> None:
        """Drop the calls that are under way; what they do at the participant stays unknown."""
        for task in self.running:
            task.cancel()
        self.running.clear()

    def busy(self, url: str) -> None:
        """The participant's host takes no further call now: come back after the same interval."""
        self.waits_for = url
        self.trouble = self.error = "the participant's host does not answer; calls to it are rationed"
        self.retry = self.retry or Retry(Backoff.KEEP)

    def answered(self, call: Call, outcome: Outcome, now_ms: int) -> None:
        """Take in a branch's answer and what the mode makes of it."""
        call = self._tried(call, outcome, now_ms)
        for command in self.mode.answered(self.s, call, outcome):
            match command:
                case Settle(index, status, error):
                    self._settle(index, status, error, now_ms)
                case Move():
                    self.moving = self.moving or command
                case Retry(Backoff.SOON):
                    self.called.discard((call.op.branch_id, call.op.op))
                    self.pause_tries = max(self.pause_tries, call.op.tries)
                    self.failed += (Failed(call.op, call.op.tries, call.op.error, first=False),)
                case Retry(backoff):
                    if backoff is Backoff.GROW:
                        self._note_failure(call)
                    self.retry = command
                case _:
                    raise AssertionError(f"a mode cannot answer with {command}")

    def _note_failure(self, call: Call) -> None:
        before = self.s.tx.attempts
        # A call that is no operation has no count of its own.
        tries = call.op.tries if call.index >= 0 else before + 1
        self.grew = True
        self.failed += (Failed(call.op, tries, call.op.error, first=not before),)

    def _tried(self, call: Call, outcome: Outcome, now_ms: int) -> Call:
        match outcome:
            case Success():
                return call
            case Failure(text) | Ongoing(text) | Unknown(text):
                self.alert_url = call.op.url
                self.trouble = f"{call.op.op} {call.op.branch_id} {call.op.url}: {text[:ERROR_CHARACTERS]}"
        if isinstance(outcome, Unknown) and outcome.unreachable:
            self.waits_for = call.op.url
        op = call.op
        done = OpProgress(op.status, op.tries + 1, text[:ERROR_CHARACTERS], now_ms)
        op = with_progress(op, done)
        if call.index >= 0:
            self._store(call.index, done)
        else:
            self.error = done.error
        return Call(op, call.index, call.post)

    def _settle(self, index: int, status: Status, error: str, now_ms: int) -> None:
        self._store(index, OpProgress(status, self.s.ops[index].tries, error, now_ms))
        self.progressed = True

    def _store(self, index: int, done: OpProgress) -> None:
        ops = list(self.s.ops)
        ops[index] = with_progress(ops[index], done)
        self.progress[index] = done
        self.s = Snapshot(self.s.tx, tuple(ops), self.s.unsettled_until_ms, self.s.unsettled_from_ms)
        self.dirty = True
