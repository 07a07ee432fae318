"""The JSON-RPC API over one HTTP path: DTM's five methods, and the other verbs under their names over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec

from reefknot.api.http import TEXT, Reply
from reefknot.api.lookups import JsonParameters, Lookups, Parameters
from reefknot.clock import Clock
from reefknot.coordinator.coordinator import Coordinator
from reefknot.errors import ReefknotError, Refused, RolledBack, Unfinished
from reefknot.observe import Observer
from reefknot.wire import names, replies
from reefknot.wire.outcome import reason_text
from reefknot.wire.requests import branch_request, transaction_request

_log = logging.getLogger(__name__)

#: The params of a request to its result.
Method = Callable[[bytes], Awaitable[object]]


class RpcRequest(msgspec.Struct):
    """A request; DTM wants the id to be a text that is not empty. Null counts as missing, as in Go."""

    jsonrpc: str | None = ""
    id: str | None = ""
    method: str | None = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


class JsonRpcApi:
    """Answers the body of one request."""

    def __init__(self, coordinator: Coordinator, lookups: Lookups, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._verbs = coordinator
        self._methods: dict[str, Method] = {
            "newGid": self._new_gid,
            "prepare": self._prepare,
            "submit": self._submit,
            "abort": self._abort,
            "registerBranch": self._register,
            "prepareWorkflow": self._prepare_workflow,
            "forceStop": self._force_stop,
            "resetNextCronTime": self._wake,
            "query": _named(lookups.query),
            "wait": _named(lookups.wait),
            "all": _named(lookups.all),
            "resetCronTime": _named(lookups.wake_later),
            "subscribe": _named(lookups.subscribe),
            "unsubscribe": _named(lookups.unsubscribe),
            "deleteTopic": _named(lookups.delete_topic),
            "scanKV": _named(lookups.scan_keys),
            "queryKV": _named(lookups.query_key),
        }

    async def __call__(self, body: bytes) -> Reply:
        """The reply to one request; HTTP 200 unless the body is no request at all."""
        started = self._clock.monotonic()
        try:
            request = msgspec.json.decode(body, type=RpcRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _reply("", None, _error(names.JSONRPC_PARSE_ERROR, f"Parse json error: {error}"), 400, TEXT)
        except RecursionError:
            text = "Parse json error: the JSON is nested too deeply"
            return _reply("", None, _error(names.JSONRPC_PARSE_ERROR, text), 400, TEXT)
        request_id, name = request.id or "", request.method or ""
        if request.jsonrpc != "2.0" or not request_id:
            text = f"Bad json request: {reason_text(body)}"
            return _reply(request_id, None, _error(names.JSONRPC_INVALID_REQUEST, text))
        method = self._methods.get(name)
        if method is None:
            text = f"Method not found: {reason_text(name, 128)}"
            return _reply(request_id, None, _error(names.JSONRPC_METHOD_NOT_FOUND, text))
        result, error_object = await self._call(method, name, bytes(request.params))
        ok = error_object is None
        self._observer.request_served("json-rpc", name.lower(), ok, self._clock.monotonic() - started)
        return _reply(request_id, result, error_object)

    async def _call(self, method: Method, name: str, params: bytes) -> tuple[object, dict[str, object] | None]:
        """The ``result`` and the ``error`` of the reply."""
        try:
            return await method(params), None
        except ReefknotError as error:
            _, fields = replies.error_reply(error)
            definite = isinstance(error, Refused | RolledBack)
            code = names.JSONRPC_FAILURE if definite else names.JSONRPC_INTERNAL_ERROR
            return {} if definite or isinstance(error, Unfinished) else None, _error(code, fields["message"])
        except Exception:  # noqa: BLE001 - no request may end the process
            _log.exception("request failed", extra={"api": name})
            return None, _error(names.JSONRPC_INTERNAL_ERROR, "internal error; see the server's log")

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

    async def _prepare_workflow(self, params: bytes) -> object:
        return replies.workflow_reply(await self._verbs.prepare_workflow(transaction_request(params)))

    async def _force_stop(self, params: bytes) -> object:
        await self._verbs.force_stop(transaction_request(params).gid)
        return None

    async def _wake(self, params: bytes) -> object:
        await self._verbs.wake(transaction_request(params).gid)
        return None


def _named(handle: Callable[[Parameters], Awaitable[object]]) -> Method:
    """A method whose params are named values."""

    async def call(params: bytes) -> object:
        return await handle(JsonParameters(params))

    return call


def _error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message}


def _reply(
    request_id: str, result: object, error: dict[str, object] | None, status: int = 200, content_type: bytes = b""
) -> Reply:
    body = replies.json_bytes({"jsonrpc": "2.0", "id": request_id, "result": result, "error": error})
    return Reply(status, body, content_type) if content_type else Reply(status, body)
