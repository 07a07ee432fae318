"""Plain HTTP branch calls: the payload as the body, everything else in the query string."""

from __future__ import annotations

from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.client import BranchClient, HeaderError
from reefknot.callers.connection import ExchangeFailed
from reefknot.callers.target import Targets, branch_query, is_jsonrpc
from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import http_outcome, reason_text


class HttpCaller:
    """Calls branches over ``http://`` and ``https://``.

    POST with the payload as JSON, or GET where there is none; ``branch_id``, ``gid``, ``op`` and
    ``trans_type`` are appended to the query of the URL.

    Args:
        settings: limits, matching, user agent and TLS.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._matching = settings.matching
        self._client = BranchClient(settings)
        self._targets = Targets(settings.local_host)

    def accepts(self, protocol: str, url: str) -> bool:
        """Every URL of an http transaction, and every http(s) URL of any other but JSON-RPC calls."""
        return (protocol == "http" or url.startswith(("http://", "https://"))) and not is_jsonrpc(protocol, url)

    def check(self, url: str) -> str:
        """What is wrong with the URL, in words; empty if it can be called."""
        return self._targets.get(url).problem

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once and say what it came to; see ``Caller.call``."""
        target = self._targets.get(call.url)
        if target.problem:
            return Unknown(reason_text(f"the URL cannot be called: {target.problem}"), unreachable=True)
        method = "POST" if call.payload or call.post else "GET"
        path = target.with_query(branch_query(call))
        try:
            answer = await self._client.send(method, target, path, call.headers, call.payload, call.timeout_seconds)
        except ExchangeFailed as failure:
            return Unknown(reason_text(failure.text), unreachable=not failure.heard)
        except HeaderError as error:
            return Unknown(reason_text(str(error)), unreachable=True)
        return http_outcome(answer.status, answer.body, self._matching)

    async def close(self) -> None:
        """Close idle connections; calls in flight end by themselves."""
        await self._client.close()


def caller(settings: CallerSettings) -> HttpCaller:
    """Make the caller of this module."""
    return HttpCaller(settings)
