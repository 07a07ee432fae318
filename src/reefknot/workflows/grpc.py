"""How a server resumes workflows over gRPC: DTM's service ``workflow.Workflow``, for a gRPC server of yours.

server = grpc.server(ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((service(flows),))

server = grpc.aio.server()
server.add_generic_rpc_handlers((async_service(flows),))

The callback of such workflows is the server's address, ``host:port``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from reefknot.errors import Ongoing, RolledBack
from reefknot.wire.proto.workflow_pb2 import WorkflowData
from reefknot.workflows import records
from reefknot.workflows._async.registry import AsyncWorkflows
from reefknot.workflows._sync.registry import Workflows

_log = logging.getLogger("reefknot.workflows")

_SERVICE, _METHOD = "workflow.Workflow", "Execute"


def service(flows: Workflows) -> grpc.GenericRpcHandler:
    """The service for a ``grpc.server``: it resumes these workflows, each in a thread of the server."""

    def execute(request: WorkflowData, context: grpc.ServicerContext) -> Empty:
        name, gid = _identity(context.invocation_metadata())
        try:
            flows.resume(name, gid, request.Data)
        except Exception as error:  # noqa: BLE001 - the server is told, and calls again
            _refuse(context, *_said(error, gid))
        return Empty()

    return _handler(execute)


def async_service(flows: AsyncWorkflows) -> grpc.GenericRpcHandler:
    """The service for a ``grpc.aio.server``: it resumes these workflows, each in a task."""

    async def execute(request: WorkflowData, context: grpc.aio.ServicerContext[Any, Any]) -> Empty:
        name, gid = _identity(context.invocation_metadata() or ())
        try:
            await flows.resume(name, gid, request.Data)
        except Exception as error:  # noqa: BLE001 - as above
            await context.abort(*_said(error, gid))
        return Empty()

    return _handler(execute)


def _handler(execute: Any) -> grpc.GenericRpcHandler:
    method = grpc.unary_unary_rpc_method_handler(execute, WorkflowData.FromString, Empty.SerializeToString)
    return grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method})


def _identity(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[str, str]:
    """The workflow's name and gid."""
    values = {key: value for key, value in metadata if isinstance(value, str)}
    return values.get("dtm-op", ""), values.get("dtm-gid", "")


def _said(error: Exception, gid: str) -> tuple[grpc.StatusCode, str]:
    """The answer to the server when a workflow did not succeed."""
    if isinstance(error, RolledBack):
        return grpc.StatusCode.ABORTED, error.reason
    if isinstance(error, Ongoing):
        return grpc.StatusCode.FAILED_PRECONDITION, error.note
    _log.error("workflow %s was interrupted; the server calls again", gid, exc_info=error)
    return grpc.StatusCode.UNKNOWN, records.interruption(error)


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("unreachable")
