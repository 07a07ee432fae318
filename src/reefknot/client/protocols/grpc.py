"""DTM's gRPC service, and our own for what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from google.protobuf.empty_pb2 import Empty

from reefknot.client.exchange import Request, Response
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
from reefknot.errors import Invalid
from reefknot.model import Status
from reefknot.wire import names
from reefknot.wire.outcome import reason_text
from reefknot.wire.proto import dtmgimp_pb2 as dtm
from reefknot.wire.proto import transactions_pb2 as ours

_DTM = "dtmgimp.Dtm"
_OURS = "reefknot.v1.Transactions"
_METHODS = {
    Verb.NEW_GID: f"{_DTM}/NewGid",
    Verb.PREPARE: f"{_DTM}/Prepare",
    Verb.SUBMIT: f"{_DTM}/Submit",
    Verb.ABORT: f"{_DTM}/Abort",
    Verb.REGISTER: f"{_DTM}/RegisterBranch",
    Verb.PREPARE_WORKFLOW: f"{_DTM}/PrepareWorkflow",
    Verb.SUBSCRIBE: f"{_DTM}/Subscribe",
    Verb.UNSUBSCRIBE: f"{_DTM}/Unsubscribe",
    Verb.GET: f"{_OURS}/Get",
    Verb.WAIT: f"{_OURS}/Wait",
    Verb.LIST: f"{_OURS}/List",
    Verb.FORCE_STOP: f"{_OURS}/ForceStop",
    Verb.RETRY_NOW: f"{_OURS}/RetryNow",
}
# Codes that only a client reads.
_PERMISSION_DENIED, _UNIMPLEMENTED, _UNAUTHENTICATED = 7, 12, 16

#: How gRPC tells of a message that is too large, to whichever side it came; newer ones put that side before it.
_ANSWER_TOO_LARGE = "Received message larger than max"

_KINDS = {
    names.GRPC_OK: Kind.DONE,
    names.GRPC_INVALID_ARGUMENT: Kind.INVALID,
    names.GRPC_NOT_FOUND: Kind.MISSING,
    _PERMISSION_DENIED: Kind.DENIED,
    names.GRPC_RESOURCE_EXHAUSTED: Kind.INVALID,
    names.GRPC_FAILED_PRECONDITION: Kind.ONGOING,
    names.GRPC_ABORTED: Kind.FAILURE,
    _UNIMPLEMENTED: Kind.ELSEWHERE,
    _UNAUTHENTICATED: Kind.DENIED,
}


class GrpcProtocol:
    """Speaks gRPC.

    Args:
        prefix: ``grpc://host:port`` or ``grpcs://host:port``.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def request(self, verb: Verb, message: Message, headers: Mapping[str, str], timeout: float) -> Request:
        """The request that says this; see ``ServerProtocol``."""
        match message:
            case TransactionMessage():
                body = _transaction_request(message)
            case BranchMessage():
                body = dtm.DtmBranchRequest(
                    Gid=message.gid,
                    TransType=message.trans_type,
                    BranchID=message.branch_id,
                    Data=dict(message.fields),
                    BusiPayload=message.payload,
                ).SerializeToString()
            case _:
                body = _fields_request(verb, message)
        return Request("GRPC", f"{self._prefix}/{_METHODS[verb]}", headers, body, timeout)

    def reply(self, verb: Verb, response: Response) -> Reply:
        """What the response means; see ``ServerProtocol``."""
        code = response.status
        if code == names.GRPC_OK:
            return Reply(Kind.DONE, "", response.body)
        text = reason_text(response.body)
        if code == _UNIMPLEMENTED:
            return Reply(Kind.ELSEWHERE, f"the server has no {_METHODS[verb]} over gRPC")
        # DTM's older way to say that it is not finished.
        if code == names.GRPC_ABORTED and text == names.ONGOING:
            return Reply(Kind.ONGOING, text)
        kind = _KINDS.get(code, Kind.UNKNOWN)
        if code == names.GRPC_RESOURCE_EXHAUSTED and _ANSWER_TOO_LARGE in text and not text.startswith("SERVER"):
            # gRPC's own words here: the request was carried out, and its answer is more than is read.
            kind = Kind.UNKNOWN
        if kind is Kind.UNKNOWN:
            # DTM's panics begin with a prefix of their own.
            found = text.removeprefix("dtm panic: ").startswith(NOT_FOUND_TEXTS)
            return Reply(Kind.MISSING if found else kind, f"gRPC code {code} {text}")
        return Reply(kind, text)

    def gid(self, body: bytes) -> str:
        """The gid in the answer to ``NEW_GID``; see ``ServerProtocol``."""
        return dtm.DtmGidReply.FromString(body).Gid

    def transaction(self, body: bytes) -> Transaction | None:
        """The transaction in the answer to ``GET``; see ``ServerProtocol``."""
        return _transaction(ours.Transaction.FromString(body))

    def page(self, body: bytes) -> Page:
        """The page in the answer to ``LIST``; see ``ServerProtocol``."""
        reply = ours.ListReply.FromString(body)
        return Page(tuple(_transaction(found) for found in reply.transactions), reply.position)

    def workflow(self, body: bytes) -> WorkflowRecord:
        """The workflow in the answer to ``PREPARE_WORKFLOW``; see ``ServerProtocol``."""
        reply = dtm.DtmProgressesReply.FromString(body)
        found = reply.Transaction
        steps = (RecordedStep(row.BranchID, row.Op, Status(row.Status), row.BinData) for row in reply.Progresses)
        return WorkflowRecord(
            found.Gid, Status(found.Status), found.RollbackReason, found.Result, tuple(steps), found.CustomedData
        )


def _transaction_request(message: TransactionMessage) -> bytes:
    if message.concurrent:
        fix = "start it with a client for http://…, or leave concurrent out"
        raise Invalid("concurrent", "DTM's gRPC messages have no field for it", fix)
    request = dtm.DtmRequest(
        Gid=message.gid,
        TransType=message.trans_type,
        TransOptions=dtm.DtmTransOptions(
            WaitResult=message.options.wait,
            TimeoutToFail=message.options.timeout,
            RetryInterval=message.options.retry_every,
            BranchHeaders=dict(message.options.headers),
            RequestTimeout=message.options.request_timeout,
            RetryLimit=message.options.retry_limit,
        ),
        CustomedData=message.custom_data,
        BinPayloads=message.payloads,
        QueryPrepared=message.query_prepared,
        Steps=msgspec.json.encode(message.steps).decode() if message.steps else "",
        ReqExtra=dict(message.extra),
        RollbackReason=message.reason,
    )
    return request.SerializeToString()


def _fields_request(verb: Verb, fields: Mapping[str, str]) -> bytes:
    message: Any
    match verb:
        case Verb.NEW_GID:
            message = Empty()
        case Verb.SUBSCRIBE | Verb.UNSUBSCRIBE:
            message = dtm.DtmTopicRequest(Topic=fields["topic"], URL=fields["url"], Remark=fields.get("remark", ""))
        case Verb.LIST:
            message = ours.ListRequest(
                status=fields.get("status", ""),
                mode=fields.get("transType", ""),
                limit=int(fields.get("limit", "0")),
                position=fields.get("position", ""),
            )
        case Verb.WAIT:
            message = ours.WaitRequest(gid=fields["gid"], seconds=int(fields["seconds"]))
        case _:
            kinds = {Verb.GET: ours.GetRequest, Verb.FORCE_STOP: ours.ForceStopRequest}
            message = kinds.get(verb, ours.RetryNowRequest)(gid=fields["gid"])
    return cast("bytes", message.SerializeToString())


def _transaction(found: Any) -> Transaction:
    branches = (
        BranchState(
            op.branch_id, op.op, op.url, Status(op.status), op.payload, _time(op.changed_ms), op.tries, op.error
        )
        for op in found.ops
    )
    return Transaction(
        gid=found.gid,
        mode=found.mode,
        status=Status(found.status),
        reason=found.reason,
        result=found.result,
        protocol=found.protocol,
        branches=tuple(branches),
        created_at=_time(found.created_ms),
        updated_at=_time(found.updated_ms),
        finished_at=_time(found.finished_ms),
        due_at=_time(found.due_ms),
        parked=found.parked,
        custom_data=found.custom_data,
        query_prepared=found.query_prepared,
        attempts=found.attempts,
        error=found.error,
    )


def _time(ms: int) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
