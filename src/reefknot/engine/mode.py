"""The contract of a transaction mode, and the defaults most modes share.

Theory of operation. A mode is asked again and again with what is stored now (``decide``), its
commands are carried out, and each branch's answer is put to it (``answered``). It keeps nothing
between calls, so a crash needs no special path: the next round is the same function on the same
rows. Three rules belong to the runner and keep modes simple:

* An operation is called once per drive, so a mode may return the same ``Call`` again.
* A ``Call`` starts only after everything recorded so far was accepted by the store.
* A ``Move`` waits until no call is outstanding.
"""

from __future__ import annotations

import msgspec

from reefknot.engine.commands import Backoff, Call, Command, Move, Retry, Settle
from reefknot.errors import Invalid, Refused
from reefknot.model import (
    Body,
    BranchOp,
    BranchRequest,
    Failure,
    Ongoing,
    Op,
    Options,
    Outcome,
    Snapshot,
    Status,
    Success,
    Transaction,
    TransactionRequest,
    Unknown,
)

#: A step whose URL starts with this goes to every subscriber of the topic, in modes that know topics.
TOPIC_SCHEME = "topic://"


class Mode:
    """A transaction mode: pure rules, no I/O, no clock."""

    #: The wire ``trans_type``, and the name of the file.
    name: str
    #: Whether a submit may create the transaction, or must find it prepared.
    submit_creates = True
    #: Whether clients register branches while the transaction is prepared.
    registers = False
    #: Whether a registration shows that the client is at work, so that the server's look is put off.
    register_extends = False

    def check(self, request: TransactionRequest) -> None:
        """Refuse a request whose mode-specific content cannot work.

        Raises:
            Invalid: naming the field, the problem and the fix.
        """

    def timeout_seconds(self, options: Options, default_seconds: int) -> int:
        """The effective time limit of a new transaction; 0 is none."""
        return options.timeout_seconds or default_seconds

    def first_visit_seconds(self, body: Body) -> int | None:
        """How long a prepared transaction may rest before the server looks at it; None is for ever."""
        return body.timeout_seconds or None

    def topics(self, request: TransactionRequest) -> tuple[str, ...]:
        """Names of the topics whose subscribers the steps of this request address."""
        return ()

    def branches(self, body: Body) -> tuple[BranchOp, ...]:
        """The operations known from the submitted steps, in stored order."""
        return ()

    def register(self, request: BranchRequest) -> tuple[BranchOp, ...]:
        """The operations that one registration adds, in stored order.

        Raises:
            Refused: this mode has no registered branches.
            Invalid: a field of the registration is wrong.
        """
        raise Refused(f"{self.name}: branches cannot be registered")

    def deadline_ms(self, tx: Transaction) -> int:
        """When the time limit changes what ``decide`` says; 0 if it does not in this status."""
        if tx.status is Status.PREPARED and tx.body.timeout_seconds:
            return tx.created_ms + tx.body.timeout_seconds * 1000
        return 0

    def submit(self, request: TransactionRequest) -> Move:
        """What a submit means: the status it decides, with reason or result."""
        return Move(Status.SUBMITTED)

    def abort(self, tx: Transaction, request: TransactionRequest) -> Move:
        """What an abort means now.

        Raises:
            Refused: this mode, or this status, cannot be aborted.
        """
        raise self.cannot_abort(tx)

    def decide(self, s: Snapshot, now_ms: int) -> list[Command]:
        """What to do next; an empty list means that only the client can go on."""
        raise NotImplementedError

    def answered(self, s: Snapshot, call: Call, outcome: Outcome) -> list[Command]:
        """What a branch's answer means. ``call.op.tries`` counts this attempt already."""
        match outcome:
            case Success():
                return [Settle(call.index, Status.SUCCEED)]
            case Ongoing():
                return [Retry(Backoff.KEEP)]
            case Failure() | Unknown():
                return [Retry(Backoff.GROW)]

    def cannot_abort(self, tx: Transaction) -> Refused:
        """The refusal of an abort, in DTM's words."""
        return Refused(f"trans type: '{tx.mode}' current status '{tx.status}', cannot abort. FAILURE")


class TwoPhase(Mode):
    """Modes whose client runs phase one itself, so that only phase two is ours (tcc, xa).

    The branches are independent of each other: all are called at once, started in order, so that
    one dead participant does not keep the others locked.
    """

    registers = True
    commit: Op
    rollback: Op
    newest_first = False
    post = False

    def abort(self, tx: Transaction, request: TransactionRequest) -> Move:
        """Roll back what is prepared; the client must name the mode, as with DTM."""
        if request.mode != tx.mode or tx.status not in (Status.PREPARED, Status.ABORTING):
            raise self.cannot_abort(tx)
        return Move(Status.ABORTING, request.reason)

    def decide(self, s: Snapshot, now_ms: int) -> list[Command]:
        """Time out, commit or roll back."""
        match s.tx.status:
            case Status.PREPARED:
                return prepared_timeout(s.tx, now_ms)
            case Status.SUBMITTED:
                return self._finish(s, self.commit, Status.SUCCEED)
            case Status.ABORTING:
                return self._finish(s, self.rollback, Status.FAILED)
            case _:
                return []

    def _finish(self, s: Snapshot, phase_two: Op, end: Status) -> list[Command]:
        waiting = [i for i, op in enumerate(s.ops) if op.op == phase_two and op.status is not Status.SUCCEED]
        if not waiting:
            return [Move(end)]
        if self.newest_first:
            waiting.reverse()
        return [Call(s.ops[i], i, self.post) for i in waiting]


def timeout_reason(tx: Transaction) -> str:
    """Why a transaction that ran out of time was rolled back, in DTM's words."""
    return f"Timeout after {tx.body.timeout_seconds} seconds"


def prepared_timeout(tx: Transaction, now_ms: int) -> list[Command]:
    """A prepared transaction: roll back once its time is over, otherwise wait for that moment."""
    if tx.timed_out(now_ms):
        return [Move(Status.ABORTING, timeout_reason(tx))]
    return [Retry(Backoff.KEEP, tx.created_ms + tx.body.timeout_seconds * 1000)]


def custom_fields(custom_data: str) -> dict[str, object]:
    """The members of ``custom_data``, keys in lower case (Go matches them without case).

    Raises:
        Invalid: it is not a JSON object.
    """
    if not custom_data:
        return {}
    try:
        members = msgspec.json.decode(custom_data, type=dict[str, object] | None)
    except msgspec.DecodeError as error:
        raise Invalid(
            "custom_data", f"is not a JSON object ({error})", "send a JSON object as text, or leave it out"
        ) from error
    return {key.lower(): value for key, value in (members or {}).items()}
