"""gRPC: servicers of grpcio, sync and asyncio.

    server = grpc.server(executor, interceptors=[BranchInterceptor()])       # grpc.aio: AsyncBranchInterceptor
    server.add_generic_rpc_handlers((asked(engine),))                        # grpc.aio: async_asked

    class Bank(BankServicer):
        def Out(self, request, context):
            with engine.begin() as connection:
                if branch(context).passes(connection):
                    ...
            return Empty()

The check-back is at ``host:port/reefknot.CheckBack/Asked``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, overload

import grpc
import grpc.aio

from reefknot.barrier import AsyncBarrier, Barrier, Branch
from reefknot.client import ambient
from reefknot.contrib.checkback import CheckBack
from reefknot.errors import Failure, Invalid, Ongoing, ReefknotError
from reefknot.wire import names
from reefknot.wire.outcome import reason_text

CHECK_BACK = "reefknot.CheckBack"

Status = tuple[grpc.StatusCode, str]
Pairs = Iterable[tuple[str, str | bytes]]
_PREFIX = "dtm-"
_IDENTITY = ("gid", "trans_type", "branch_id", "op")


class NotABranchCall(Invalid):
    """The call's metadata name no branch; the interceptors answer INVALID_ARGUMENT."""


@overload
def branch(context: grpc.ServicerContext, *, table: str = "") -> Barrier: ...


@overload
def branch(context: grpc.aio.ServicerContext[Any, Any], *, table: str = "") -> AsyncBarrier: ...


def branch(context: Any, *, table: str = "") -> Barrier | AsyncBarrier:
    """The barrier of the branch call that is served, by its metadata.

    Args:
        context: of the servicer's method. In a coroutine the barrier is an ``AsyncBarrier``; a plain method of
            an asyncio server runs in a thread and gets a ``Barrier``.
        table: the barrier's table; the usual one if empty.

    Raises:
        NotABranchCall: the metadata name no branch.
    """
    named = _named(context)
    if isinstance(context, grpc.ServicerContext) or not _in_event_loop():
        return Barrier(named.trans_type, named.gid, named.branch_id, named.op, table=table)
    return AsyncBarrier(named.trans_type, named.gid, named.branch_id, named.op, table=table)


class BranchInterceptor(grpc.ServerInterceptor):
    """``Failure`` from a servicer is ABORTED, ``Ongoing`` FAILED_PRECONDITION; other exceptions stay UNKNOWN.

    Calls that the servicer makes with the SDK, or through an ``AmbientInterceptor``, carry the transaction's
    trace. For ``grpc.server``.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the translation around a method's handler."""
        return _wrapped(continuation(handler_call_details), handler_call_details.invocation_metadata)


class AsyncBranchInterceptor(grpc.aio.ServerInterceptor):
    """The same for ``grpc.aio.server``."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the translation around a method's handler."""
        return _wrapped(await continuation(handler_call_details), handler_call_details.invocation_metadata)


class AmbientInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Sends the ambient transaction with unary calls: the trace, and as which branch the caller is served.

    What is called then is part of that branch: its barrier has the caller's gid, branch and operation. So
    two services that are called in this way need barrier tables of their own. For ``grpc.intercept_channel``.
    """

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Send one call."""
        given: Any = client_call_details
        metadata = _with_ambient(given.metadata or ())
        details = _Details(
            given.method,
            given.timeout,
            metadata,
            given.credentials,
            getattr(given, "wait_for_ready", None),
            getattr(given, "compression", None),
        )
        return continuation(details, request)


class AsyncAmbientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """The same for ``grpc.aio.insecure_channel(..., interceptors=[...])``."""

    async def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Send one call."""
        given: Any = client_call_details
        metadata = grpc.aio.Metadata(*_with_ambient(given.metadata or ()))
        return await continuation(given._replace(metadata=metadata), request)


def asked(source: Any, *, service: str = CHECK_BACK, table: str = "", prefix: str = "") -> grpc.GenericRpcHandler:
    """A handler that answers the server's question whether a message's local transaction committed.

    Args:
        source: gives connections to the database of the local transaction; see ``CheckBack``. Sync.
        service: the service's name; ``ask=`` of the message is ``host:port/<service>/Asked``.
        table: the barrier's table; the usual one if empty.
        prefix: of the barrier's keys in Redis.

    Raises:
        Invalid: connections cannot be got from the source, or the table's name cannot stand in a statement.
    """
    check_back = CheckBack(source, table=table, prefix=prefix)

    def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
        check_back.answer(_named(context))
        return b""

    return _service(service, "Asked", answer)


def async_asked(source: Any, *, service: str = CHECK_BACK, table: str = "", prefix: str = "") -> grpc.GenericRpcHandler:
    """The same for ``grpc.aio.server``; the source may be sync or async."""
    check_back = CheckBack(source, table=table, prefix=prefix)

    async def answer(_: bytes, context: Any) -> bytes:
        await check_back.answer_async(_named(context))
        return b""

    return _service(service, "Asked", answer)


class _Details(NamedTuple):
    """What grpcio reads of a call; its own class has no constructor."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


def _service(service: str, method: str, behavior: Callable[[Any, Any], Any]) -> grpc.GenericRpcHandler:
    """One method that takes and gives bytes, with the answers of the interceptors."""
    handler: Any = grpc.unary_unary_rpc_method_handler(_translating(behavior, None))
    return grpc.method_handlers_generic_handler(service, {method: handler})


def _wrapped(handler: Any, metadata: Any) -> Any:
    """A method's handler with the translation around it; others than unary ones are no branches."""
    if handler is None or handler.unary_unary is None:
        return handler
    return grpc.unary_unary_rpc_method_handler(
        _translating(handler.unary_unary, metadata),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _translating(behavior: Callable[[Any, Any], Any], metadata: Pairs | None) -> Callable[[Any, Any], Any]:
    if iscoroutinefunction(behavior) or iscoroutinefunction(getattr(behavior, "__call__", None)):  # noqa: B004 - grpcio takes objects too

        async def serve_async(request: Any, context: Any) -> Any:
            with _entered(context, metadata):
                try:
                    return await behavior(request, context)
                except (Failure, Ongoing, NotABranchCall) as error:
                    await context.abort(*_status(error))

        return serve_async

    def serve(request: Any, context: Any) -> Any:
        with _entered(context, metadata):
            try:
                return behavior(request, context)
            except (Failure, Ongoing, NotABranchCall) as error:
                context.abort(*_status(error))

    return serve


def _entered(context: Any, metadata: Pairs | None) -> AbstractContextManager[None]:
    pairs = _texts(context.invocation_metadata() if metadata is None else metadata)
    identity = {name: pairs.get(_PREFIX + name, "") for name in _IDENTITY}
    return ambient.entered(ambient.Ambient.of_call(identity, pairs))


def _status(error: ReefknotError) -> Status:
    """The code that the server reads, and the text that it keeps."""
    if isinstance(error, Failure):
        # ABORTED with exactly this word is how old clients of DTM say that something is ongoing.
        reason = f"refused: {error.reason}" if error.reason == names.ONGOING else error.reason
        return grpc.StatusCode.ABORTED, reason_text(reason)
    if isinstance(error, Ongoing):
        return grpc.StatusCode.FAILED_PRECONDITION, reason_text(error.note)
    return grpc.StatusCode.INVALID_ARGUMENT, reason_text(f"this is no branch call of a transaction: {error.what}")


def _named(context: Any) -> Branch:
    try:
        return Branch.from_metadata(context.invocation_metadata())
    except Invalid as error:
        raise NotABranchCall(error.field, error.problem, error.fix) from error


def _texts(metadata: Pairs) -> Mapping[str, str]:
    """The metadata that are texts; a key that ends in ``-bin`` has bytes."""
    return {key: value for key, value in metadata if isinstance(value, str)}


def _with_ambient(metadata: Pairs) -> list[tuple[str, str | bytes]]:
    """The metadata of a call, and the ambient transaction's where they have nothing of that name."""
    given = list(metadata)
    present = {key for key, _ in given}
    now = ambient.current()
    added: dict[str, str] = dict(now.trace)
    added |= {_PREFIX + name: getattr(now, name) for name in _IDENTITY if now.gid and getattr(now, name)}
    return given + [(key, value) for key, value in added.items() if key not in present]


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
