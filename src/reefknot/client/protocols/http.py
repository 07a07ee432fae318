"""DTM's HTTP routes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast
from urllib.parse import urlencode

import msgspec

from reefknot.client.exchange import Request, Response
from reefknot.client.payload import as_text
from reefknot.client.protocols.base import NOT_FOUND_TEXTS, Kind, Message, Reply, Verb
from reefknot.client.values import (
    BranchMessage,
    BranchState,
    Page,
    RecordedStep,
    Transaction,
    TransactionMessage,
    WorkflowRecord,
)
from reefknot.model import Failure, Ongoing, Status, Success
from reefknot.wire.outcome import Matching, http_outcome, reason_text

JSON = {"Content-Type": "application/json"}
_GETS = frozenset({Verb.NEW_GID, Verb.GET, Verb.WAIT, Verb.LIST, Verb.SUBSCRIBE, Verb.UNSUBSCRIBE})
_INVALID = frozenset({400, 413, 414, 415, 422, 431})
_ELSEWHERE = frozenset({404, 405})


class WireTransaction(msgspec.Struct, omit_defaults=True):
    """The body of prepare, submit, abort and prepareWorkflow."""

    gid: str
    trans_type: str
    steps: tuple[dict[str, str], ...] = ()
    payloads: list[str] = []
    query_prepared: str = ""
    protocol: str = ""
    custom_data: str = ""
    wait_result: bool = False
    timeout_to_fail: int = 0
    request_timeout: int = 0
    retry_interval: int = 0
    retry_limit: int = 0
    branch_headers: Mapping[str, str] = {}
    concurrent: bool = False
    rollback_reason: str = ""
    req_extra: Mapping[str, str] = {}


class _Error(msgspec.Struct):
    message: str = ""


class _Gid(msgspec.Struct):
    gid: str


class _Row(msgspec.Struct):
    branch_id: str = ""
    op: str = ""
    url: str = ""
    status: str = ""
    bin_data: bytes = b""
    update_time: datetime | None = None
    tries: int = 0
    error: str = ""


class _Found(msgspec.Struct):
    gid: str = ""
    trans_type: str = ""
    status: str = ""
    rollback_reason: str = ""
    result: str = ""
    protocol: str = "http"
    create_time: datetime | None = None
    update_time: datetime | None = None
    finish_time: datetime | None = None
    rollback_time: datetime | None = None
    next_cron_time: datetime | None = None
    ext_data: str = ""
    custom_data: str = ""
    query_prepared: str = ""
    attempts: int = 0
    error: str = ""


class _Parked(msgspec.Struct):
    parked: str = ""


class _Query(msgspec.Struct):
    transaction: _Found | None = None
    branches: list[_Row] | None = None


class _List(msgspec.Struct):
    transactions: list[_Found] | None = None
    next_position: str = ""


class _Workflow(msgspec.Struct):
    transaction: _Found
    progresses: list[_Row] | None = None


class HttpProtocol:
    """Speaks to ``…/api/dtmsvr``.

    Args:
        prefix: the URL of the routes, without a slash at its end.
    """

    def __init__(self, prefix: str) -> None:
        self._urls = {verb: f"{prefix}/{verb}" for verb in Verb}

    def request(self, verb: Verb, message: Message, headers: Mapping[str, str], timeout: float) -> Request:
        """The request that says this; see ``ServerProtocol``."""
        url = self._urls[verb]
        if verb in _GETS:
            query = urlencode(cast("Mapping[str, str]", message))
            return Request("GET", f"{url}?{query}" if query else url, headers, b"", timeout)
        return Request("POST", url, {**JSON, **headers}, msgspec.json.encode(wire_fields(message)), timeout)

    def reply(self, verb: Verb, response: Response) -> Reply:
        """What the response means; see ``ServerProtocol``."""
        status, body = response.status, response.body
        if status in _INVALID:
            return Reply(Kind.INVALID, f"HTTP {status} {_message(body)}")
        if status in _ELSEWHERE:
            return Reply(Kind.ELSEWHERE, f"HTTP {status} {_message(body)}")
        if status in {401, 403}:
            return Reply(Kind.DENIED, f"HTTP {status} {_message(body)}")
        if status == 429:
            return Reply(Kind.BUSY, _message(body))
        match http_outcome(status, body, Matching.EXACT):
            case Success():
                return Reply(Kind.DONE, "", body)
            case Failure():
                return Reply(Kind.FAILURE, _message(body))
            case Ongoing():
                return Reply(Kind.ONGOING, _message(body))
        if 300 <= status < 400:
            return Reply(Kind.ELSEWHERE, f"HTTP {status}: the server sends the client elsewhere")
        text = _message(body)
        return Reply(Kind.MISSING if text.startswith(NOT_FOUND_TEXTS) else Kind.UNKNOWN, f"HTTP {status} {text}")

    def gid(self, body: bytes) -> str:
        """The gid in the answer to ``NEW_GID``; see ``ServerProtocol``."""
        return msgspec.json.decode(body, type=_Gid).gid

    def transaction(self, body: bytes) -> Transaction | None:
        """The transaction in the answer to ``GET``; see ``ServerProtocol``."""
        answer = msgspec.json.decode(body, type=_Query)
        return _transaction(answer.transaction, answer.branches or ()) if answer.transaction else None

    def page(self, body: bytes) -> Page:
        """The page in the answer to ``LIST``; see ``ServerProtocol``."""
        answer = msgspec.json.decode(body, type=_List)
        return Page(tuple(_transaction(found, ()) for found in answer.transactions or ()), answer.next_position)

    def workflow(self, body: bytes) -> WorkflowRecord:
        """The workflow in the answer to ``PREPARE_WORKFLOW``; see ``ServerProtocol``."""
        answer = msgspec.json.decode(body, type=_Workflow)
        found = answer.transaction
        steps = (
            RecordedStep(row.branch_id, row.op, Status(row.status), row.bin_data) for row in answer.progresses or ()
        )
        return WorkflowRecord(
            found.gid, Status(found.status), found.rollback_reason, found.result, tuple(steps), found.custom_data
        )


def wire_fields(message: Message) -> WireTransaction | Mapping[str, str]:
    """The fields of a POST, as HTTP and JSON-RPC have them.

    Raises:
        Invalid: a payload is no text.
    """
    match message:
        case TransactionMessage():
            return WireTransaction(
                message.gid,
                message.trans_type,
                message.steps,
                [as_text(payload, f"steps[{number}].data") for number, payload in enumerate(message.payloads)],
                message.query_prepared,
                message.protocol,
                message.custom_data,
                message.options.wait,
                message.options.timeout,
                message.options.request_timeout,
                message.options.retry_every,
                message.options.retry_limit,
                message.options.headers,
                message.concurrent,
                message.reason,
                message.extra,
            )
        case BranchMessage():
            return {
                "gid": message.gid,
                "trans_type": message.trans_type,
                "branch_id": message.branch_id,
                "data": as_text(message.payload, "data"),
                **message.fields,
            }
    return message


def _message(body: bytes) -> str:
    """What an error's body says."""
    try:
        text = msgspec.json.decode(body, type=_Error).message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = ""
    return reason_text(text or body)


def _transaction(found: _Found, rows: list[_Row] | tuple[()]) -> Transaction:
    branches = (
        BranchState(
            row.branch_id,
            row.op,
            row.url,
            Status(row.status),
            row.bin_data,
            row.update_time,
            row.tries,
            row.error,
        )
        for row in rows
    )
    return Transaction(
        gid=found.gid,
        mode=found.trans_type,
        status=Status(found.status),
        reason=found.rollback_reason,
        result=found.result,
        protocol=found.protocol,
        branches=tuple(branches),
        created_at=found.create_time,
        updated_at=found.update_time,
        finished_at=found.finish_time or found.rollback_time,
        due_at=found.next_cron_time,
        parked=msgspec.json.decode(found.ext_data, type=_Parked).parked if found.ext_data else "",
        custom_data=found.custom_data,
        query_prepared=found.query_prepared,
        attempts=found.attempts,
        error=found.error,
    )
