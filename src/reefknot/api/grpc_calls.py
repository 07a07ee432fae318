"""What all gRPC methods have in common: decoding, failpoints, errors as statuses, counting, draining."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from reefknot.clock import Clock
from reefknot.errors import Invalid, ReefknotError, Unavailable
from reefknot.failpoints import DropReply, FailpointError, Failpoints
from reefknot.observe import Observer
from reefknot.wire import names
from reefknot.wire.grpc import ErrorCodes, error_status
from reefknot.wire.outcome import reason_text

_log = logging.getLogger(__name__)

Asked = TypeVar("Asked", bound=Message)
Context = grpc.aio.ServicerContext[bytes, bytes]

CODES = {code.value[0]: code for code in grpc.StatusCode}


class Calls:
    """Makes the handlers of methods and knows which calls are running.

    A client that goes away does not interrupt a call that changes something: between a write and the
    start of the work that it allows there is no place to stop.
    """

    def __init__(self, clock: Clock, observer: Observer, failpoints: Failpoints) -> None:
        self._clock = clock
        self._observer = observer
        self._fail = failpoints
        self._running: set[asyncio.Future[Any]] = set()
        self._draining = False

    def unary(
        self, name: str, asked: type[Asked], answer: Callable[[Asked], Awaitable[Message]], codes: ErrorCodes
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of a method with one request and one reply.

        Args:
            name: the method's name, as it is counted.
            asked: the request's message.
            answer: makes the reply.
            codes: for errors.
        """

        async def call(body: bytes, context: Context) -> bytes:
            started, ok = self._clock.monotonic(), False
            if self._fail.armed:
                context.add_done_callback(self._answered)  # type: ignore[arg-type]  # the stub names a class, not a protocol
            try:
                reply = await asyncio.shield(self._track(self._reply(asked, body, answer)))
                ok = True
            except Exception as error:  # noqa: BLE001 - no request may end the process
                await self._fail_with(context, name, error, codes)
            finally:
                self._observer.request_served("grpc", name.lower(), ok, self._clock.monotonic() - started)
            return reply

        return grpc.unary_unary_rpc_method_handler(call)

    def stream(
        self, name: str, asked: type[Asked], answers: Callable[[Asked], AsyncIterator[Message]], codes: ErrorCodes
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of a method with one request and many replies; see ``unary``."""

        async def call(body: bytes, context: Context) -> AsyncIterator[bytes]:
            started, ok = self._clock.monotonic(), False
            try:
                with self._running_here():
                    async for reply in answers(await self._request(asked, body)):
                        yield reply.SerializeToString()
                ok = True
            except Exception as error:  # noqa: BLE001 - no request may end the process
                await self._fail_with(context, name, error, codes)
            finally:
                self._observer.request_served("grpc", name.lower(), ok, self._clock.monotonic() - started)

        return grpc.unary_stream_rpc_method_handler(call)

    def drain(self) -> None:
        """Refuse new calls from now on; the running ones go on."""
        self._draining = True

    async def finished(self, seconds: float) -> None:
        """Return when no call is running, or after so many seconds."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def _reply(self, asked: type[Asked], body: bytes, answer: Callable[[Asked], Awaitable[Message]]) -> bytes:
        reply = (await answer(await self._request(asked, body))).SerializeToString()
        if self._fail.armed:
            await self._fail.hit("api.before_ack")
        return reply

    async def _request(self, asked: type[Asked], body: bytes) -> Asked:
        if self._draining:
            raise Unavailable("the server is stopping")
        if self._fail.armed:
            await self._fail.hit("api.recv")
        try:
            return asked.FromString(body)
        except DecodeError as error:
            problem = f"the request is no {asked.DESCRIPTOR.full_name} ({reason_text(str(error), 200)})"
            raise Invalid("", problem, "send texts as UTF-8 and the fields of the .proto file") from error

    async def _fail_with(self, context: Context, name: str, error: Exception, codes: ErrorCodes) -> NoReturn:
        """End the call with the status of an error."""
        match error:
            case ReefknotError():
                code, text = error_status(error, codes)
            case DropReply():
                # What a client sees of a connection that breaks.
                code, text = names.GRPC_UNAVAILABLE, "the connection was closed"
            case _:
                _log.error("request failed", exc_info=error, extra={"api": name})
                code, text = names.GRPC_INTERNAL, "internal error; see the server's log"
        await context.abort(CODES[code], text)

    def _answered(self, _: object) -> None:
        with suppress(FailpointError, DropReply):
            self._fail.act("api.after_ack")

    def _track(self, work: Awaitable[bytes]) -> asyncio.Future[bytes]:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Somebody has to look at it even if the client went away.
            task.exception()

    @contextmanager
    def _running_here(self) -> Any:
        mark: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running.add(mark)
        try:
            yield
        finally:
            self._running.discard(mark)
            mark.cancel()
