"""What the transaction manager knows about: transactions, branch operations, outcomes.

Times are whole milliseconds since the Unix epoch, UTC, and end in ``_ms``; durations say their
unit in the name. Everything here is an immutable value. ``Body`` and ``OpProgress`` are also the
stored form (msgpack arrays): a new field goes to the *end* and has a default, so that rows
written by the previous version stay readable.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TypeVar

import msgspec

EnumClass = TypeVar("EnumClass", bound=type[Enum])


def direct_members(enum: EnumClass) -> EnumClass:
    """Make the members of an enumeration plain attributes of its class.

    Python 3.11 finds ``Status.PREPARED`` through ``EnumType.__getattr__``: 220 ns instead of 14, some
    forty times in each transaction. Later versions do by themselves what this does.
    """
    for member in enum:
        type.__setattr__(enum, member.name, member)
    return enum


@direct_members
class Status(StrEnum):
    """Where a transaction or one of its branch operations stands."""

    PREPARED = "prepared"
    SUBMITTED = "submitted"
    ABORTING = "aborting"
    SUCCEED = "succeed"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Whether nothing can change any more."""
        return self is Status.SUCCEED or self is Status.FAILED


#: Statuses in which a transaction still has something to do.
UNFINISHED = (Status.PREPARED, Status.SUBMITTED, Status.ABORTING)


@direct_members
class Op(StrEnum):
    """The operations a branch can have. A workflow may use names of its own."""

    ACTION = "action"
    COMPENSATE = "compensate"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    MSG = "msg"


#: Query parameters that identify a branch call. A branch URL must not bring its own.
BRANCH_QUERY = ("branch_id", "gid", "op", "trans_type")


class Options(msgspec.Struct, frozen=True, array_like=True):
    """What the client asked for, as it asked for it (0 = not set)."""

    wait: bool = False
    timeout_seconds: int = 0
    request_timeout_seconds: int = 0
    retry_seconds: int = 0
    retry_limit: int = 0
    concurrent: bool = False
    headers: dict[str, str] = {}


class Body(msgspec.Struct, frozen=True, array_like=True):
    """The part of a transaction that never changes once it is submitted.

    ``timeout_seconds`` and ``retry_seconds`` are the effective values, resolved when the
    transaction was created: a later change of the server's settings does not touch them.
    ``topics`` holds the subscribers of each topic the steps name, as they were at creation.
    """

    steps: tuple[dict[str, str], ...] = ()
    payloads: tuple[bytes, ...] = ()
    query_prepared: str = ""
    protocol: str = "http"
    custom_data: str = ""
    options: Options = Options()
    timeout_seconds: int = 0
    retry_seconds: int = 10
    topics: dict[str, tuple[str, ...]] = {}


class BranchOp(msgspec.Struct, frozen=True):
    """One operation of one branch, with what is known about it so far."""

    branch_id: str
    op: str
    url: str
    payload: bytes = b""
    status: Status = Status.PREPARED
    tries: int = 0
    error: str = ""
    changed_ms: int = 0
    created_ms: int = 0


class OpProgress(msgspec.Struct, frozen=True, array_like=True):
    """The mutable part of one operation, as stored: keyed by its position among the operations."""

    status: Status = Status.PREPARED
    tries: int = 0
    error: str = ""
    changed_ms: int = 0


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """What is stored about the operations that were touched, by position.

    ``error`` says why the last visit got no further, where no operation has an error that says it.
    ``unsettled_until_ms`` outlives the driver that learned of it: until then a call of a driver that
    vanished may still be running, whoever drives meanwhile.
    """

    ops: dict[int, OpProgress] = {}
    unsettled_until_ms: int = 0
    error: str = ""


class Transaction(msgspec.Struct, frozen=True):
    """A global transaction as the engine sees it."""

    gid: str
    mode: str
    status: Status
    body: Body
    created_ms: int
    decided_ms: int = 0
    reason: str = ""
    result: str = ""
    attempts: int = 0
    parked: str = ""

    def timed_out(self, now_ms: int) -> bool:
        """Whether the transaction's own time limit has passed; a limit of 0 never does."""
        limit = self.body.timeout_seconds
        return limit > 0 and now_ms - self.created_ms >= limit * 1000


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a mode may look at when it decides what to do next.

    ``unsettled_until_ms``: until then a call that an earlier driver sent and did not record may
    still be running at the participant (0 = there is none). See P7 in docs/promises.md. What was
    recorded before ``unsettled_from_ms`` is not meant by that: its calls were answered.
    """

    tx: Transaction
    ops: tuple[BranchOp, ...] = ()
    unsettled_until_ms: int = 0
    unsettled_from_ms: int = 0


class Success(msgspec.Struct, frozen=True):
    """The branch did what was asked."""


class Failure(msgspec.Struct, frozen=True):
    """The branch refused, definitely."""

    reason: str = "FAILURE"


class Ongoing(msgspec.Struct, frozen=True):
    """The branch is still at work: ask again at the same interval."""

    note: str = ""


class Unknown(msgspec.Struct, frozen=True):
    """Nobody can say what happened: a timeout, a broken connection, an unclear answer.

    ``unreachable`` is true when the participant gave no answer at all.
    """

    error: str
    unreachable: bool = False


#: What a call of a branch came to. Callers translate every protocol into one of these four.
Outcome = Success | Failure | Ongoing | Unknown


class TransactionRequest(msgspec.Struct, frozen=True):
    """What a client asks about one transaction, translated from any protocol.

    ``extra`` carries what only some modes read (a workflow reports its end in it).
    """

    gid: str = ""
    mode: str = ""
    steps: tuple[dict[str, str], ...] = ()
    payloads: tuple[bytes, ...] = ()
    query_prepared: str = ""
    protocol: str = "http"
    custom_data: str = ""
    options: Options = Options()
    reason: str = ""
    extra: dict[str, str] = {}


class BranchRequest(msgspec.Struct, frozen=True):
    """What a client registers: one branch and the operations the server may have to call."""

    gid: str = ""
    mode: str = ""
    branch_id: str = ""
    payload: bytes = b""
    fields: dict[str, str] = {}


class KeyValue(msgspec.Struct, frozen=True):
    """One versioned entry; versions start at 1 and grow by 1 with each change."""

    id: int
    category: str
    key: str
    value: str
    version: int
    created_ms: int
    updated_ms: int


class Details(msgspec.Struct, frozen=True):
    """A transaction with everything an operator may ask about it.

    ``error`` says why the last visit got no further, where no operation has an error that says it.
    """

    id: int
    tx: Transaction
    ops: tuple[BranchOp, ...]
    owner: str
    updated_ms: int
    finished_ms: int
    due_ms: int
    interval_seconds: int
    error: str = ""
