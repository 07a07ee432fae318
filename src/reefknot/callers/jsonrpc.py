"""JSON-RPC 2.0 branch calls: the payload and the branch's identity as ``params``."""

from __future__ import annotations

import msgspec

from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.client import BranchClient, HeaderError
from reefknot.callers.connection import ExchangeFailed
from reefknot.callers.target import Targets, is_jsonrpc
from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import jsonrpc_outcome, reason_text


class JsonRpcCaller:
    """Calls branches over JSON-RPC: POST to the URL as it is, the method named by its query.

    Args:
        settings: limits, matching, user agent, TLS, and what makes the ids of the requests.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._matching = settings.matching
        self._make_id = settings.make_id
        self._client = BranchClient(settings)
        self._targets = Targets(settings.local_host)

    def accepts(self, protocol: str, url: str) -> bool:
        """An http(s) URL of a JSON-RPC transaction that contains the word ``method``."""
        return is_jsonrpc(protocol, url)

    def check(self, url: str) -> str:
        """What is wrong with the URL, in words; empty if it can be called."""
        target = self._targets.get(url)
        if target.problem or target.method:
            return target.problem
        return "its query does not name the JSON-RPC method, as in http://host/path?method=TransOut"

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once and say what it came to; see ``Caller.call``."""
        if problem := self.check(call.url):
            return Unknown(reason_text(f"the URL cannot be called: {problem}"), unreachable=True)
        target = self._targets.get(call.url)
        try:
            body = request_body(call, target.method, self._make_id())
        except (msgspec.DecodeError, RecursionError):
            return Unknown("the payload of a JSON-RPC branch must be a JSON object", unreachable=True)
        try:
            answer = await self._client.send("POST", target, target.path, call.headers, body, call.timeout_seconds)
        except ExchangeFailed as failure:
            return Unknown(reason_text(failure.text), unreachable=not failure.heard)
        except HeaderError as error:
            return Unknown(reason_text(str(error)), unreachable=True)
        return jsonrpc_outcome(answer.status, answer.body, self._matching, answer.encoding)

    async def close(self) -> None:
        """Close idle connections; calls in flight end by themselves."""
        await self._client.close()


def request_body(call: BranchCall, method: str, request_id: str) -> bytes:
    """The JSON-RPC request of a branch call.

    The members of the payload are passed on as they were written; those that identify the branch
    replace members of the same name. No payload is an empty object.

    Raises:
        msgspec.DecodeError: the payload is not a JSON object.
    """
    params: dict[str, object] = dict(msgspec.json.decode(call.payload or b"{}", type=dict[str, msgspec.Raw]))
    params |= {"gid": call.gid, "trans_type": call.mode, "branch_id": call.branch_id, "op": call.op}
    return msgspec.json.encode({"id": request_id, "jsonrpc": "2.0", "method": method, "params": params})


def caller(settings: CallerSettings) -> JsonRpcCaller:
    """Make the caller of this module."""
    return JsonRpcCaller(settings)
