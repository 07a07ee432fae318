"""What DTM's gRPC clients send: the same client program as over HTTP, through the other door."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc

from acceptance.application import TRANSFER, Application
from reefknot.testing import grpc_participant
from reefknot.testing.grpc_client import GrpcClient
from reefknot.testing.grpc_participant import Call, GrpcParticipant
from reefknot.testing.participant import Say
from reefknot.testing.server import Answer, LocalServer

SERVICE = "/busi.Busi"
#: Where the server resumes workflows; the same in every application.
RESUME = "/workflow.Workflow/Execute"
#: What the codes of gRPC are called over HTTP; the rest is 500.
STATUSES = {"OK": 200, "ABORTED": 409, "FAILED_PRECONDITION": 425}
CODES = {200: "OK", 409: "ABORTED", 425: "FAILED_PRECONDITION", 500: "UNKNOWN"}


class GrpcBank(GrpcParticipant):
    """A business whose paths are methods of one service, told what to answer in HTTP's words."""

    def url(self, method: str) -> str:
        return super().url(method_of(method))

    def script(self, path: str, answers: Iterable[Say]) -> None:
        super().script(method_of(path), [told(answer) for answer in answers])

    def always(self, path: str, answer: Say) -> None:
        super().always(method_of(path), told(answer))

    def on(self, path: str, handle: Callable[[Call], Say]) -> None:
        super().on(method_of(path), lambda call: told(handle(call)))

    def called(self, gid: str = "") -> list[str]:
        return [path.removeprefix(SERVICE) for path in super().called(gid)]


def method_of(path: str) -> str:
    """The method that stands for a path."""
    return RESUME if path == "/workflow/resume" else SERVICE + path


def told(answer: Say) -> grpc_participant.Say:
    """An answer in gRPC's words."""
    code = CODES[answer.status]
    text = "" if code == "OK" else answer.body.decode().removesuffix(" FAILURE").removesuffix(".")
    return grpc_participant.Say(code, text, seconds=answer.seconds)


class GrpcApplication(Application):
    """One client program that speaks gRPC to the server and to the bank. Use it as a context manager."""

    def __init__(self, server: LocalServer, bank: GrpcBank) -> None:
        super().__init__(server, bank, "grpc")
        self.client = GrpcClient(server.grpc_address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.channel.close()

    def post(self, verb: str, fields: dict[str, Any]) -> Answer:
        """Send a request over gRPC; the reply is told in HTTP's words."""
        message = branch_fields(fields) if verb == "registerBranch" else transaction_fields(fields)
        try:
            reply = self.client.dtm(verb[0].upper() + verb[1:], message)
        except grpc.RpcError as error:
            return failed(error)
        if verb != "prepareWorkflow":
            return Answer(200, b'{"dtm_result":"SUCCESS"}')
        tx = reply.Transaction
        transaction = {"status": tx.Status, "result": tx.Result, "rollback_reason": tx.RollbackReason}
        steps = [{"branch_id": step.BranchID, "op": step.Op, "status": step.Status} for step in reply.Progresses]
        return Answer(200, json.dumps({"transaction": transaction, "progresses": steps}).encode())

    def call(self, path: str, gid: str, mode: str, branch_id: str, op: str, **headers: str) -> Answer:
        """Call a branch as the client does itself: its identity is metadata."""
        identity = {"gid": gid, "trans_type": mode, "branch_id": branch_id, "op": op, "dtm": self.server.grpc_address}
        metadata = [*((f"dtm-{name}", value) for name, value in identity.items()), *headers.items()]
        target, _, method = self.bank.url(path).partition("/")
        with grpc.insecure_channel(target) as channel:
            try:
                body = channel.unary_unary(f"/{method}")(TRANSFER.encode(), timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                return failed(error)
        return Answer(200, body)


def failed(error: grpc.RpcError) -> Answer:
    """A status that is not OK."""
    status = STATUSES.get(error.code().name, 500)
    fields = {"dtm_result": {409: "FAILURE", 425: "ONGOING"}.get(status, ""), "message": error.details()}
    return Answer(status, json.dumps(fields | {"code": error.code().name}).encode())


def transaction_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The members of a JSON request as those of a ``DtmRequest``."""
    options = {
        "WaitResult": fields.get("wait_result", False),
        "TimeoutToFail": fields.get("timeout_to_fail", 0),
        "RequestTimeout": fields.get("request_timeout", 0),
        "RetryInterval": fields.get("retry_interval", 0),
        "RetryLimit": fields.get("retry_limit", 0),
        "BranchHeaders": fields.get("branch_headers", {}),
    }
    return {
        "Gid": fields.get("gid", ""),
        "TransType": fields.get("trans_type", ""),
        "TransOptions": options,
        "Steps": json.dumps(fields["steps"]) if "steps" in fields else "",
        "BinPayloads": [payload.encode() for payload in fields.get("payloads", ())],
        "CustomedData": fields.get("custom_data", ""),
        "QueryPrepared": fields.get("query_prepared", ""),
        "ReqExtra": fields.get("req_extra", {}),
        "RollbackReason": fields.get("rollback_reason", ""),
    }


def branch_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The members of a JSON registration as those of a ``DtmBranchRequest``."""
    known = {"Gid": "gid", "TransType": "trans_type", "BranchID": "branch_id"}
    message: dict[str, Any] = {name: fields[key] for name, key in known.items()}
    data = {key: value for key, value in fields.items() if key in ("confirm", "cancel", "url", "op", "status")}
    return {**message, "Data": data, "BusiPayload": fields.get("data", "").encode()}
