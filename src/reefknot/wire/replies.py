"""What the server answers over HTTP, as DTM writes it.

Keys in alphabetical order, ``<``, ``>`` and ``&`` escaped, times in RFC 3339, payloads in base64.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from reefknot.errors import Invalid, Refused, RolledBack, StoreUnavailable, Unavailable, Unfinished
from reefknot.model import BranchOp, Details, KeyValue, Options, Status
from reefknot.wire import names
from reefknot.wire.outcome import reason_text

#: The reply to every request that has no value to return.
DONE = b'{"dtm_result":"SUCCESS"}'
#: The year 9999, where RFC 3339 ends; what is due later is never due.
LATEST_MS = 253_370_764_800_000

_ENCODER = msgspec.json.Encoder(order="sorted")


def json_bytes(value: object) -> bytes:
    """JSON as Go writes it: sorted keys, HTML characters escaped."""
    text = _ENCODER.encode(value)
    if b"<" in text or b">" in text or b"&" in text:
        text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return text


def error_reply(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and body for an error.

    The text of a definite failure ends in ``FAILURE`` because clients look for that word; no other
    text may contain it, and none but an unfinished one ``ONGOING``. What a client sent may be part of
    a text: it is cut to a readable length and shown without control characters.
    """
    text = str(error)
    match error:
        case Refused() | RolledBack():
            message = text if text.endswith(names.FAILURE) else f"{text} {names.FAILURE}"
            return names.STATUS_FAILURE, {names.RESULT: names.FAILURE, "message": message}
        case Unfinished():
            message = text if text.endswith(names.ONGOING) else f"{text} {names.ONGOING}"
            return names.STATUS_ONGOING, {names.RESULT: names.ONGOING, "message": message}
        case Invalid():
            return error.status, {"message": reason_text(text)}
        case StoreUnavailable():
            return 503, {"message": reason_text(f"the store is not available: {text}; repeat the request")}
        case Unavailable():
            return 503, {"message": reason_text(f"{text}; repeat the request later")}
        case _:
            return 500, {"message": reason_text(text)}


def query_reply(details: Details | None) -> dict[str, Any]:
    """The body of ``query``; an unknown gid has a null transaction."""
    if details is None:
        return {"branches": [], "transaction": None}
    return {"branches": branch_fields(details), "transaction": transaction_fields(details)}


def workflow_reply(details: Details) -> dict[str, Any]:
    """The body of ``prepareWorkflow``: the transaction and the steps recorded so far."""
    return {"progresses": branch_fields(details), "transaction": transaction_fields(details)}


def list_reply(found: Iterable[Details], position: str) -> dict[str, Any]:
    """The body of ``all``; DTM answers null where nothing was found by gid."""
    return {"next_position": position, "transactions": [transaction_fields(details) for details in found]}


def transaction_fields(details: Details) -> dict[str, Any]:
    """One transaction as DTM shows it, with ``attempts`` and ``error``, which DTM does not have.

    Empty fields are left out unless DTM always sends them.
    """
    tx, body = details.tx, details.tx.body
    options = option_fields(body.options)
    ended = time_text(details.finished_ms)
    fields = {
        "gid": tx.gid,
        "trans_type": tx.mode,
        "steps": list(body.steps),
        "payloads": [payload.decode("utf-8", "replace") for payload in body.payloads],
        "status": tx.status,
        "query_prepared": body.query_prepared,
        "protocol": body.protocol,
        "finish_time": ended if tx.status is Status.SUCCEED else None,
        "rollback_time": ended if tx.status is Status.FAILED else None,
        "result": tx.result,
        "rollback_reason": tx.reason,
        "options": json_bytes(options).decode(),
        "custom_data": body.custom_data,
        "next_cron_interval": details.interval_seconds,
        "next_cron_time": time_text(details.due_ms),
        "owner": details.owner,
        "attempts": tx.attempts,
        "error": _shown_error(details.error),
        "ext_data": json_bytes({"parked": tx.parked}).decode() if tx.parked else "",
        **options,
    }
    shown = {key: value for key, value in fields.items() if value or key == "concurrent"}
    return shown | {
        "id": details.id,
        "create_time": time_text(tx.created_ms),
        "update_time": time_text(details.updated_ms),
    }


def option_fields(options: Options) -> dict[str, Any]:
    """The options under DTM's names; ``concurrent`` is always there."""
    fields = {
        "wait_result": options.wait,
        "timeout_to_fail": options.timeout_seconds,
        "request_timeout": options.request_timeout_seconds,
        "retry_interval": options.retry_seconds,
        "branch_headers": options.headers,
        "retry_limit": options.retry_limit,
    }
    return {key: value for key, value in fields.items() if value} | {"concurrent": options.concurrent}


def branch_fields(details: Details) -> list[dict[str, Any]]:
    """The operations as DTM's branch rows, with ``tries`` and ``error``, which DTM does not have."""
    return [_branch(number, op, details) for number, op in enumerate(details.ops, start=1)]


def _branch(number: int, op: BranchOp, details: Details) -> dict[str, Any]:
    created_ms = op.created_ms or details.tx.created_ms
    fields = {
        "url": op.url,
        "bin_data": base64.b64encode(op.payload).decode(),
        "finish_time": time_text(op.changed_ms) if op.status.final else None,
        "tries": op.tries,
        "error": _shown_error(op.error),
    }
    return {key: value for key, value in fields.items() if value} | {
        "id": number,
        "gid": details.tx.gid,
        "branch_id": op.branch_id,
        "op": op.op,
        "status": op.status,
        "create_time": time_text(created_ms),
        "update_time": time_text(op.changed_ms or created_ms),
    }


def _shown_error(text: str) -> str:
    """An error without the two words that DTM's clients look for in every answer of the server."""
    return text.replace(names.FAILURE, names.FAILURE.lower()).replace(names.ONGOING, names.ONGOING.lower())


def key_value_fields(entry: KeyValue) -> dict[str, Any]:
    """One entry as DTM shows it."""
    return {
        "id": entry.id,
        "create_time": time_text(entry.created_ms),
        "update_time": time_text(entry.updated_ms),
        "cat": entry.category,
        "k": entry.key,
        "v": entry.value,
        "version": entry.version,
    }


def time_text(ms: int) -> str | None:
    """RFC 3339 with milliseconds, UTC; None for a time that is not set or never comes."""
    if not 0 < ms < LATEST_MS:
        return None
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
