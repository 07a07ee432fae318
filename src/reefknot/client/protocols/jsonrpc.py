"""DTM's JSON-RPC: five methods over one path. Everything else goes over the HTTP routes of the same port."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reefknot.client.exchange import Request, Response
from reefknot.client.protocols.base import NOT_FOUND_TEXTS, Kind, Message, Reply, Verb
from reefknot.client.protocols.http import JSON, HttpProtocol, wire_fields
from reefknot.client.values import Page, Transaction, WorkflowRecord
from reefknot.wire import names
from reefknot.wire.outcome import reason_text

_METHODS = frozenset({Verb.NEW_GID, Verb.PREPARE, Verb.SUBMIT, Verb.ABORT, Verb.REGISTER})
_INVALID = frozenset({names.JSONRPC_PARSE_ERROR, names.JSONRPC_INVALID_REQUEST})


class _Gid(msgspec.Struct):
    gid: str


class _Error(msgspec.Struct):
    code: int
    message: str = ""


class _Envelope(msgspec.Struct):
    error: _Error | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class JsonRpcProtocol:
    """Speaks to ``…/api/json-rpc``.

    Args:
        url: the URL of the JSON-RPC path.
        http_prefix: the prefix of the HTTP routes.
    """

    def __init__(self, url: str, http_prefix: str) -> None:
        self._url = url
        self._http = HttpProtocol(http_prefix)

    def request(self, verb: Verb, message: Message, headers: Mapping[str, str], timeout: float) -> Request:
        """The request that says this; see ``ServerProtocol``."""
        if verb not in _METHODS:
            return self._http.request(verb, message, headers, timeout)
        # The id is for batches and for replies in another order; one HTTP exchange has neither.
        body = {"jsonrpc": "2.0", "id": "1", "method": verb.value, "params": wire_fields(message)}
        return Request("POST", self._url, {**JSON, **headers}, msgspec.json.encode(body), timeout)

    def reply(self, verb: Verb, response: Response) -> Reply:
        """What the response means; see ``ServerProtocol``."""
        outer = self._http.reply(verb, response)
        if verb not in _METHODS or outer.kind is not Kind.DONE:
            return outer
        try:
            envelope = msgspec.json.decode(response.body, type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Reply(Kind.UNKNOWN, reason_text(b"not a JSON-RPC answer: " + response.body))
        error = envelope.error
        if error is None:
            return Reply(Kind.DONE, "", bytes(envelope.result))
        text = reason_text(error.message)
        if error.code == names.JSONRPC_FAILURE:
            return Reply(Kind.FAILURE, text)
        # DTM never sends the code that it has for it, only the word at the end of another error's text.
        if error.code == names.JSONRPC_ONGOING or text.endswith(names.ONGOING):
            return Reply(Kind.ONGOING, text)
        if error.code in _INVALID:
            return Reply(Kind.INVALID, text)
        if error.code == names.JSONRPC_METHOD_NOT_FOUND:
            return Reply(Kind.ELSEWHERE, text)
        kind = Kind.MISSING if text.startswith(NOT_FOUND_TEXTS) else Kind.UNKNOWN
        return Reply(kind, f"JSON-RPC error {error.code} {text}")

    def gid(self, body: bytes) -> str:
        """The gid in the answer to ``NEW_GID``; see ``ServerProtocol``."""
        return msgspec.json.decode(body, type=_Gid).gid

    def transaction(self, body: bytes) -> Transaction | None:
        """The transaction in the answer to ``GET``; see ``ServerProtocol``."""
        return self._http.transaction(body)

    def page(self, body: bytes) -> Page:
        """The page in the answer to ``LIST``; see ``ServerProtocol``."""
        return self._http.page(body)

    def workflow(self, body: bytes) -> WorkflowRecord:
        """The workflow in the answer to ``PREPARE_WORKFLOW``; see ``ServerProtocol``."""
        return self._http.workflow(body)
