"""What the client returns: immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from reefknot.client.options import TransactionOptions
from reefknot.model import Status


class Outcome(msgspec.Struct, frozen=True):
    """How far a transaction was when the server answered.

    Attributes:
        gid: the transaction.
        status: ``submitted`` where nobody waited for its end; ``succeed`` or ``failed`` if it has ended.
        reason: why it was rolled back; empty if it was not.
    """

    gid: str
    status: Status
    reason: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What a branch answered that the client called itself.

    Attributes:
        status: the HTTP status, 2xx; 0 for a gRPC call.
        body: the body, or the serialized reply message.
    """

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return msgspec.json.decode(self.body)

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none become U+FFFD."""
        return self.body.decode(errors="replace")


class BranchState(msgspec.Struct, frozen=True):
    """One operation of one branch, as the server has it.

    Attributes:
        branch_id: the branch: ``01``, ``02``, …
        op: the operation, for example ``action`` or ``compensate``.
        url: what is called.
        status: ``prepared`` (not done yet), ``succeed`` or ``failed``.
        payload: what is sent.
        changed_at: when the server learned something of it last; None where the server does not say.
        tries: calls that did not succeed; 0 where the server does not say, as DTM's own.
        error: what the last of them came to; empty once one has succeeded. Over HTTP and JSON-RPC the
            words FAILURE and ONGOING are in lower case in it.
    """

    branch_id: str
    op: str
    url: str
    status: Status
    payload: bytes = b""
    changed_at: datetime | None = None
    tries: int = 0
    error: str = ""


class Transaction(msgspec.Struct, frozen=True):
    """One transaction, as the server has it. Times are aware and in UTC; None means not yet, or not known.

    Attributes:
        gid: its id.
        mode: ``saga``, ``msg``, ``tcc``, ``xa`` or ``workflow``.
        status: ``prepared``, ``submitted``, ``aborting``, ``succeed`` or ``failed``.
        reason: why it was rolled back.
        result: what a workflow returned, in base64.
        protocol: how its branches are called: ``http``, ``json-rpc`` or ``grpc``.
        branches: its operations, in the server's order; empty in a listing.
        created_at: when it was created.
        updated_at: when it changed last.
        finished_at: when it ended.
        due_at: when the server looks at it next.
        parked: why it waits for an operator; empty if it does not.
        custom_data: the JSON text of its mode.
        query_prepared: whom the server asks about it.
        attempts: visits in a row that ended with a failed call; 0 where the server does not say.
        error: why the last visit got no further, where no branch's error says it: what the check-back
            of a message or the call that resumes a workflow came to, or that a host is not called now
            because it does not answer.
    """

    gid: str
    mode: str
    status: Status
    reason: str = ""
    result: str = ""
    protocol: str = "http"
    branches: tuple[BranchState, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    due_at: datetime | None = None
    parked: str = ""
    custom_data: str = ""
    query_prepared: str = ""
    attempts: int = 0
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing can change any more."""
        return self.status.final


class Page(msgspec.Struct, frozen=True):
    """One page of a listing.

    Attributes:
        transactions: newest first.
        position: give it back to get the next page; empty if there is none.
    """

    transactions: tuple[Transaction, ...]
    position: str


class RecordedStep(msgspec.Struct, frozen=True):
    """One step that a workflow has recorded.

    Attributes:
        branch_id: the branch: ``01``, ``02``, …
        op: the operation.
        status: ``succeed`` or ``failed``.
        data: what it returned, or the text of its failure.
    """

    branch_id: str
    op: str
    status: Status
    data: bytes = b""


class WorkflowRecord(msgspec.Struct, frozen=True):
    """A workflow as the server has it.

    Attributes:
        gid: its id.
        status: ``prepared`` while it is not finished.
        reason: why it failed.
        result: what it returned, in base64.
        steps: what it has recorded so far, in the order of recording.
        custom_data: its name and arguments, as JSON text; empty where the server does not tell.
    """

    gid: str
    status: Status
    reason: str = ""
    result: str = ""
    steps: tuple[RecordedStep, ...] = ()
    custom_data: str = ""


class TransactionMessage(msgspec.Struct, frozen=True):
    """What the client says about a transaction, whatever the protocol is.

    Attributes:
        gid: its id.
        trans_type: its mode.
        steps: URLs by operation.
        payloads: one for each step.
        query_prepared: whom the server asks about it.
        protocol: how its branches are called; empty leaves that to the server's protocol.
        custom_data: the JSON text of the mode.
        options: what the caller asked for.
        concurrent: whether the branches may run at the same time.
        reason: why it is aborted.
        extra: what only one mode reads.
    """

    gid: str
    trans_type: str
    steps: tuple[dict[str, str], ...] = ()
    payloads: tuple[bytes, ...] = ()
    query_prepared: str = ""
    protocol: str = ""
    custom_data: str = ""
    options: TransactionOptions = TransactionOptions()
    concurrent: bool = False
    reason: str = ""
    extra: Mapping[str, str] = {}


class BranchMessage(msgspec.Struct, frozen=True):
    """What the client says about one branch.

    Attributes:
        gid: the transaction.
        trans_type: its mode.
        branch_id: the branch's id.
        payload: what its operations are called with, or what a workflow's step returned.
        fields: what the mode wants: ``confirm`` and ``cancel``, ``url``, or ``op`` and ``status``.
    """

    gid: str
    trans_type: str
    branch_id: str
    payload: bytes
    fields: Mapping[str, str]
