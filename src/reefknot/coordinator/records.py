"""What is stored ⇄ what the engine sees."""

from __future__ import annotations

import hashlib

import msgspec

from reefknot.engine.mode import Mode
from reefknot.engine.schedule import interval_seconds
from reefknot.model import (
    Body,
    BranchOp,
    Details,
    OpProgress,
    Options,
    Progress,
    Snapshot,
    Transaction,
    TransactionRequest,
)
from reefknot.store.base import BranchRow, Record

_ENCODER = msgspec.msgpack.Encoder()
_BODY = msgspec.msgpack.Decoder(Body)
_PROGRESS = msgspec.msgpack.Decoder(Progress)

encode_body = _ENCODER.encode


def encode_progress(ops: dict[int, OpProgress], unsettled_until_ms: int = 0, error: str = "") -> bytes:
    """The stored form of what is known; nothing takes no room."""
    if not (ops or unsettled_until_ms or error):
        return b""
    return _ENCODER.encode(Progress(ops, unsettled_until_ms, error))


def decode_progress(stored: bytes) -> Progress:
    """What is known about the operations that were touched."""
    return _PROGRESS.decode(stored) if stored else Progress({})


def content_hash(request: TransactionRequest) -> bytes:
    """Sixteen bytes that are equal for requests with equal content.

    Content is what decides which branches are called with what. Options that only say how
    (timeouts, headers, waiting) may differ between two attempts of one client.
    """
    content = (
        request.mode,
        request.steps,
        request.payloads,
        request.query_prepared,
        request.protocol,
        request.custom_data,
        request.options.concurrent,
    )
    return hashlib.blake2b(_ENCODER.encode(content), digest_size=16).digest()


def merged_body(stored: Body, request: TransactionRequest) -> Body:
    """What a submit adds to a prepared transaction: options it sets, and its custom_data.

    The branches stay those that were prepared.
    """
    ours, theirs = stored.options, request.options
    options = Options(
        wait=theirs.wait or ours.wait,
        timeout_seconds=theirs.timeout_seconds or ours.timeout_seconds,
        request_timeout_seconds=theirs.request_timeout_seconds or ours.request_timeout_seconds,
        retry_seconds=theirs.retry_seconds or ours.retry_seconds,
        retry_limit=theirs.retry_limit or ours.retry_limit,
        concurrent=theirs.concurrent or ours.concurrent,
        headers=theirs.headers or ours.headers,
    )
    return msgspec.structs.replace(
        stored,
        options=options,
        custom_data=request.custom_data or stored.custom_data,
        timeout_seconds=theirs.timeout_seconds or stored.timeout_seconds,
        retry_seconds=theirs.retry_seconds or stored.retry_seconds,
    )


def branch_rows(ops: tuple[BranchOp, ...]) -> tuple[BranchRow, ...]:
    """Registered operations as the store keeps them."""
    return tuple(BranchRow(op.branch_id, op.op, op.url, op.payload, op.status) for op in ops)


def transaction(record: Record, body: Body) -> Transaction:
    """The transaction of a record."""
    return Transaction(
        gid=record.gid,
        mode=record.mode,
        status=record.status,
        body=body,
        created_ms=record.created_ms,
        decided_ms=record.decided_ms,
        reason=record.reason,
        result=record.result,
        attempts=record.attempts,
        parked=record.parked,
    )


def snapshot(mode: Mode, record: Record, unsettled_until_ms: int = 0) -> tuple[Snapshot, dict[int, OpProgress]]:
    """What the engine sees of a record, and the progress it was made of."""
    body = _BODY.decode(record.body)
    progress = decode_progress(record.progress)
    ops = [*mode.branches(body)]
    ops += [
        BranchOp(row.branch_id, row.op, row.url, row.payload, row.status, created_ms=row.created_ms)
        for row in record.branches
    ]
    for index, done in progress.ops.items():
        ops[index] = with_progress(ops[index], done)
    until_ms = max(unsettled_until_ms, progress.unsettled_until_ms)
    return Snapshot(transaction(record, body), tuple(ops), until_ms), progress.ops


def with_progress(op: BranchOp, done: OpProgress) -> BranchOp:
    """The operation with what happened to it."""
    return BranchOp(
        op.branch_id, op.op, op.url, op.payload, done.status, done.tries, done.error, done.changed_ms, op.created_ms
    )


def details(mode: Mode, record: Record, retry_max_seconds: int) -> Details:
    """Everything an operator may ask about a record.

    Of operations that are not known here (a listed record comes without its registered branches, and
    an older version does not know a newer mode) nothing is shown.
    """
    known = len(mode.branches(_BODY.decode(record.body))) + len(record.branches)
    progress = decode_progress(record.progress)
    if any(index >= known for index in progress.ops):
        shown = {index: done for index, done in progress.ops.items() if index < known}
        record = msgspec.structs.replace(record, progress=encode_progress(shown))
    seen, _ = snapshot(mode, record)
    return Details(
        id=record.id,
        tx=seen.tx,
        ops=seen.ops,
        owner=record.owner,
        updated_ms=record.updated_ms,
        finished_ms=record.finished_ms,
        due_ms=record.due_ms,
        interval_seconds=interval_seconds(seen.tx.body.retry_seconds, record.attempts, retry_max_seconds),
        error="" if seen.tx.status.final else progress.error,
    )


def stored_body(record: Record) -> Body:
    """The body of a record."""
    return _BODY.decode(record.body)
