"""The messages of the gRPC services, translated into requests and back, and errors into status codes.

Codes are plain numbers here: these modules are read by programs without grpcio too.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

import msgspec

from reefknot.errors import (
    Invalid,
    NotFound,
    ReefknotError,
    Refused,
    RolledBack,
    TooLarge,
    Unavailable,
    Unfinished,
)
from reefknot.model import BranchRequest, Details, KeyValue, Options, TransactionRequest
from reefknot.wire import names, replies
from reefknot.wire.proto import dtmgimp_pb2, transactions_pb2

#: What transactions created over gRPC have as their protocol, whatever their URLs look like (as DTM).
PROTOCOL = "grpc"
#: A status travels in the trailers, where clients accept 8 KiB in all and more than ASCII counts threefold.
STATUS_TEXT_BYTES = 4_096

_STEPS = msgspec.json.Decoder(list[dict[str, str | None] | None] | None)


class ErrorCodes(NamedTuple):
    """The codes that depend on the method: where DTM also answers with an error, and for what is not there."""

    wrong: int
    missing: int


#: DTM's methods that panic on wrong requests, its methods that return an error, and ours.
DTM_PANICS = ErrorCodes(names.GRPC_INTERNAL, names.GRPC_INTERNAL)
DTM_RETURNS = ErrorCodes(names.GRPC_UNKNOWN, names.GRPC_UNKNOWN)
STANDARD = ErrorCodes(names.GRPC_INVALID_ARGUMENT, names.GRPC_NOT_FOUND)


def transaction_request(message: dtmgimp_pb2.DtmRequest) -> TransactionRequest:
    """Translate a request about one transaction.

    Raises:
        Invalid: ``Steps`` is not JSON of the wanted form.
    """
    options = message.TransOptions
    return TransactionRequest(
        gid=message.Gid,
        mode=message.TransType,
        steps=_steps(message.Steps),
        payloads=tuple(message.BinPayloads),
        query_prepared=message.QueryPrepared,
        protocol=PROTOCOL,
        custom_data=message.CustomedData,
        options=Options(
            wait=options.WaitResult,
            timeout_seconds=options.TimeoutToFail,
            request_timeout_seconds=options.RequestTimeout,
            retry_seconds=options.RetryInterval,
            retry_limit=options.RetryLimit,
            headers=dict(options.BranchHeaders),
        ),
        reason=message.RollbackReason,
        extra=dict(message.ReqExtra),
    )


def _steps(text: str) -> tuple[dict[str, str], ...]:
    if not text:
        return ()
    try:
        steps = _STEPS.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        problem = f"is not a JSON list of objects whose values are texts ({error})"
        fix = 'send for example [{"action":"host:port/package.Service/Method"}]'
        raise Invalid("Steps", problem, fix, status=500) from error
    return tuple({key: value or "" for key, value in (step or {}).items()} for step in steps or ())


def branch_request(message: dtmgimp_pb2.DtmBranchRequest) -> BranchRequest:
    """Translate the registration of a branch; the operation of a workflow's step stands in ``Data``, as with DTM."""
    return BranchRequest(
        gid=message.Gid,
        mode=message.TransType,
        branch_id=message.BranchID,
        payload=message.BusiPayload,
        fields=dict(message.Data),
    )


def progresses_reply(details: Details) -> dtmgimp_pb2.DtmProgressesReply:
    """A workflow with its recorded steps; and, which DTM leaves out, its result and what it was prepared with."""
    tx = details.tx
    return dtmgimp_pb2.DtmProgressesReply(
        Transaction=dtmgimp_pb2.DtmTransaction(
            Gid=tx.gid,
            Status=tx.status,
            RollbackReason=tx.reason,
            Result=tx.result,
            CustomedData=tx.body.custom_data,
        ),
        Progresses=[
            dtmgimp_pb2.DtmProgress(Status=op.status, BinData=op.payload, BranchID=op.branch_id, Op=op.op)
            for op in details.ops
        ],
    )


def transaction_message(details: Details) -> transactions_pb2.Transaction:
    """Everything an operator may ask about a transaction."""
    tx, body, options = details.tx, details.tx.body, details.tx.body.options
    return transactions_pb2.Transaction(
        gid=tx.gid,
        mode=tx.mode,
        status=tx.status,
        reason=tx.reason,
        result=tx.result,
        protocol=body.protocol,
        created_ms=tx.created_ms,
        updated_ms=details.updated_ms,
        finished_ms=details.finished_ms if tx.status.final else 0,
        due_ms=details.due_ms if details.due_ms < replies.LATEST_MS else 0,
        owner=details.owner,
        attempts=tx.attempts,
        parked=tx.parked,
        custom_data=body.custom_data,
        query_prepared=body.query_prepared,
        interval_seconds=details.interval_seconds,
        error=details.error,
        options=transactions_pb2.Options(
            wait=options.wait,
            timeout_seconds=options.timeout_seconds,
            request_timeout_seconds=options.request_timeout_seconds,
            retry_seconds=options.retry_seconds,
            retry_limit=options.retry_limit,
            concurrent=options.concurrent,
            headers=options.headers,
        ),
        ops=[
            transactions_pb2.BranchOp(
                branch_id=op.branch_id,
                op=op.op,
                url=op.url,
                status=op.status,
                payload=op.payload,
                tries=op.tries,
                error=op.error,
                changed_ms=op.changed_ms,
            )
            for op in details.ops
        ],
    )


def key_value_message(entry: KeyValue) -> transactions_pb2.KeyValue:
    """One entry of the key-value table."""
    return transactions_pb2.KeyValue(
        category=entry.category,
        key=entry.key,
        value=entry.value,
        version=entry.version,
        created_ms=entry.created_ms,
        updated_ms=entry.updated_ms,
    )


def error_status(error: ReefknotError, codes: ErrorCodes) -> tuple[int, str]:
    """The code and the text for an error.

    A definite failure is ABORTED and an unfinished transaction FAILED_PRECONDITION: clients of DTM look for
    these two. What DTM refuses too has its code; what only we refuse, the standard one.

    Args:
        error: what the coordinator reported.
        codes: those of the method.
    """
    _, fields = replies.error_reply(error)
    match error:
        case Refused() | RolledBack():
            code = names.GRPC_ABORTED
        case Unfinished():
            code = names.GRPC_FAILED_PRECONDITION
        case TooLarge():
            code = names.GRPC_RESOURCE_EXHAUSTED
        case Invalid(status=500):
            code = codes.wrong
        case Invalid():
            code = names.GRPC_INVALID_ARGUMENT
        case NotFound():
            code = codes.missing
        case Unavailable():
            code = names.GRPC_UNAVAILABLE
        case _:
            code = names.GRPC_UNKNOWN
    return code, status_text(fields["message"])


def status_text(text: str) -> str:
    """The text, cut in its middle if a client could not receive it with a status; its last word stays."""
    if len(text) * 12 <= STATUS_TEXT_BYTES or len(quote(text)) <= STATUS_TEXT_BYTES:
        return text
    head, _, word = text.rpartition(" ")
    mark = f" ...(truncated) {word}" if word in (names.FAILURE, names.ONGOING) else " ...(truncated)"
    # No character takes more than 12 bytes there.
    return head[: (STATUS_TEXT_BYTES - len(mark) * 3) // 12] + mark
