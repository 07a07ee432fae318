"""The JSON-RPC API: five methods over one HTTP path, as DTM offers them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from reefknot.api.http import TEXT, Reply
from reefknot.clock import Clock
from reefknot.coordinator.coordinator import Coordinator
from reefknot.errors import ReefknotError, Refused, RolledBack, Unfinished
from reefknot.observe import Observer
from reefknot.wire import names, replies
from reefknot.wire.requests import branch_request, transaction_request

_log = logging.getLogger(__name__)


class RpcRequest(msgspec.Struct):
    """A request; DTM wants the id to be a text that is not empty."""

    jsonrpc: str = ""
    id: str = ""
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


class JsonRpcApi:
    """Answers the body of one request."""

    def __init__(self, coordinator: Coordinator, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._verbs = coordinator
        self._methods: dict[str, Callable[[bytes], Awaitable[object]]] = {
            "newGid": self._new_gid,
            "prepare": self._prepare,
            "submit": self._submit,
            "abort": self._abort,
            "registerBranch": self._register,
        }

    async def __call__(self, body: bytes) -> Reply:
        """The reply to one request; HTTP 200 unless the body is no request at all."""
        started = self._clock.monotonic()
        try:
            request = msgspec.json.decode(body, type=RpcRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _reply("", None, _error(names.JSONRPC_PARSE_ERROR, f"Parse json error: {error}"), 400, TEXT)
        if request.jsonrpc != "2.0" or not request.id:
            text = f"Bad json request: {body.decode(errors='replace')[:1024]}"
            return _reply(request.id, None, _error(names.JSONRPC_INVALID_REQUEST, text))
        method = self._methods.get(request.method)
        if method is None:
            text = f"Method not found: {request.method[:128]}"
            return _reply(request.id, None, _error(names.JSONRPC_METHOD_NOT_FOUND, text))
        reply, ok = await self._call(method, request)
        self._observer.request_served("json-rpc", request.method.lower(), ok, self._clock.monotonic() - started)
        return reply

    async def _call(self, method: Callable[[bytes], Awaitable[object]], request: RpcRequest) -> tuple[Reply, bool]:
        try:
            result = await method(bytes(request.params))
        except (Refused, RolledBack) as error:
            _, fields = replies.error_reply(error)
            return _reply(request.id, {}, _error(names.JSONRPC_FAILURE, fields["message"])), False
        except Unfinished as error:
            _, fields = replies.error_reply(error)
            return _reply(request.id, {}, _error(names.JSONRPC_INTERNAL_ERROR, fields["message"])), False
        except ReefknotError as error:
            return _reply(request.id, None, _error(names.JSONRPC_INTERNAL_ERROR, str(error))), False
        except Exception:  # noqa: BLE001 - no request may end the process
            _log.exception("request failed", extra={"api": request.method})
            text = "internal error; see the server's log"
            return _reply(request.id, None, _error(names.JSONRPC_INTERNAL_ERROR, text)), False
        return _reply(request.id, result, None), True

    async def _new_gid(self, params: bytes) -> object:
        return {"gid": self._verbs.new_gid()}

    async def _prepare(self, params: bytes) -> object:
        await self._verbs.prepare(transaction_request(params))
        return None

    async def _submit(self, params: bytes) -> object:
        await self._verbs.submit(transaction_request(params))
        return None

    async def _abort(self, params: bytes) -> object:
        await self._verbs.abort(transaction_request(params))
        return None

    async def _register(self, params: bytes) -> object:
        await self._verbs.register(branch_request(params))
        return None


def _error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message}


def _reply(
    request_id: str, result: object, error: dict[str, object] | None, status: int = 200, content_type: bytes = b""
) -> Reply:
    body = replies.json_bytes({"jsonrpc": "2.0", "id": request_id, "result": result, "error": error})
    return Reply(status, body, content_type) if content_type else Reply(status, body)
