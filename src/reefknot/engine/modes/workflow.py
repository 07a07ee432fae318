"""Workflow: the client's code is the workflow; we only wake it up until it reports an end."""

from __future__ import annotations

import base64
import binascii

from reefknot.engine.commands import Backoff, Call, Command, Move, Park, Retry
from reefknot.engine.mode import Mode, custom_fields
from reefknot.errors import Invalid
from reefknot.model import (
    Body,
    BranchOp,
    BranchRequest,
    Failure,
    Ongoing,
    Options,
    Outcome,
    Snapshot,
    Status,
    Success,
    Transaction,
    TransactionRequest,
    Unknown,
)

#: The branch id of the wake-up call, which belongs to no branch.
CALLBACK_BRANCH = "00"


class Workflow(Mode):
    """A function in the client that records its steps here and reports how it ended."""

    name = "workflow"
    submit_creates = False
    registers = True
    register_extends = True

    def check(self, request: TransactionRequest) -> None:
        """The wake-up needs the workflow's name, and its input in base64."""
        wakeup(request.custom_data)

    def timeout_seconds(self, options: Options, default_seconds: int) -> int:
        """A workflow has no time limit on the server."""
        return 0

    def first_visit_seconds(self, body: Body) -> int | None:
        """The client runs it itself first; we look after one retry interval."""
        return body.retry_seconds

    def register(self, request: BranchRequest) -> tuple[BranchOp, ...]:
        """One recorded step with the status the client reports."""
        status = request.fields.get("status", "")
        if status not in (Status.PREPARED, Status.SUCCEED, Status.FAILED):
            raise Invalid("status", f"is {status!r}", "send 'succeed' or 'failed'")
        return (BranchOp(request.branch_id, request.fields.get("op", ""), "", request.payload, Status(status)),)

    def submit(self, request: TransactionRequest) -> Move:
        """The end that the client's code reports."""
        status = request.extra.get("status", "")
        if status not in (Status.SUCCEED, Status.FAILED):
            raise Invalid("req_extra.status", f"is {status!r}", "send 'succeed' or 'failed'")
        return Move(Status(status), request.extra.get("rollback_reason", ""))

    def decide(self, s: Snapshot, now_ms: int) -> list[Command]:
        """Wake the client's code; only the client can end a workflow."""
        if s.tx.status.final:
            return []
        if not s.tx.body.query_prepared:
            return [Park("the workflow has no query_prepared URL, so nothing can resume it")]
        name, data = wakeup(s.tx.body.custom_data)
        return [Call(BranchOp(CALLBACK_BRANCH, name, s.tx.body.query_prepared, data))]

    def answered(self, s: Snapshot, call: Call, outcome: Outcome) -> list[Command]:
        """The reply changes nothing by itself: a workflow that ended has reported it already."""
        match outcome:
            case Success() | Ongoing():
                return [Retry(Backoff.KEEP)]
            case Failure() | Unknown():
                return [Retry(Backoff.GROW)]

    def abort(self, tx: Transaction, request: TransactionRequest) -> Move:
        """Only the client's code, or a forced stop, ends a workflow."""
        raise self.cannot_abort(tx)


def wakeup(custom_data: str) -> tuple[str, bytes]:
    """The workflow's name and input, from ``{"name": …, "data": base64 or null}``.

    Raises:
        Invalid: a member has the wrong form.
    """
    custom = custom_fields(custom_data)
    name, data = custom.get("name") or "", custom.get("data") or ""
    if not isinstance(name, str) or not isinstance(data, str):
        raise Invalid("custom_data", "name and data are not both texts", 'send {"name": …, "data": base64}')
    try:
        return name, base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise Invalid(
            "custom_data", f"data is not base64 ({error})", "encode the workflow's input in base64"
        ) from error


mode = Workflow()
