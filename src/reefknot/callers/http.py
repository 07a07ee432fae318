"""Plain HTTP branch calls: the payload as the body, everything else in the query string."""

from __future__ import annotations

import asyncio

from reefknot.callers.base import BranchCall, CallerSettings, DiscoveryError
from reefknot.callers.client import BranchClient, HeaderError
from reefknot.callers.connection import Answer, ExchangeFailed
from reefknot.callers.pool import show
from reefknot.callers.services import Services
from reefknot.callers.target import Target, Targets, branch_query, is_jsonrpc, names_service, read_target
from reefknot.model import Outcome, Unknown
from reefknot.wire.outcome import http_outcome, reason_text


class HttpCaller:
    """Calls branches over ``http://`` and ``https://``, and over HTTP those that are found by service discovery.

    POST with the payload as JSON, or GET where there is none; ``branch_id``, ``gid``, ``op`` and
    ``trans_type`` are appended to the query of the URL.

    Args:
        settings: limits, matching, user agent, TLS and service discovery.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._matching = settings.matching
        self._client = BranchClient(settings)
        self._targets = Targets(settings.local_host)
        self._services = Services(settings.discovery, "http")

    def accepts(self, protocol: str, url: str) -> bool:
        """Every URL of an http transaction, and every http(s) URL of any other but JSON-RPC calls."""
        return (protocol == "http" or url.startswith(("http://", "https://"))) and not is_jsonrpc(protocol, url)

    def check(self, url: str) -> str:
        """What is wrong with the URL, in words; empty if it can be called."""
        if not names_service(url):
            return self._targets.get(url).problem
        return self._services.problem(url) or read_target(f"http://host{self._services.split(url)[1]}").problem

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once and say what it came to; see ``Caller.call``."""
        target = self._targets.get(call.url)
        if target.problem and (problem := self.check(call.url)):
            return Unknown(reason_text(f"the URL cannot be called: {problem}"), unreachable=True)
        try:
            if target.problem:
                answer = await self._call_service(call)
            else:
                answer = await self._send(call, target, call.timeout_seconds)
        except ExchangeFailed as failure:
            return Unknown(reason_text(failure.text), unreachable=not failure.heard)
        except (HeaderError, DiscoveryError) as error:
            return Unknown(reason_text(str(error)), unreachable=True)
        return http_outcome(answer.status, answer.body, self._matching, answer.encoding)

    async def _call_service(self, call: BranchCall) -> Answer:
        """Send the request to an address of the service; to the next one only if nothing was sent."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + call.timeout_seconds
        service, path = self._services.split(call.url)
        failure = ExchangeFailed("nobody is registered", heard=False, sent=False)
        for address in await self._services.addresses(service, call.timeout_seconds):
            target = self._targets.get(f"http://{show(address)}{path}")
            if target.problem:
                raise DiscoveryError(f"the address {show(address)} cannot be called: {target.problem}")
            try:
                return await self._send(call, target, deadline - loop.time())
            except ExchangeFailed as error:
                if error.sent or loop.time() >= deadline:
                    raise
                failure = error
        raise failure

    async def _send(self, call: BranchCall, target: Target, timeout_seconds: float) -> Answer:
        method = "POST" if call.payload or call.post else "GET"
        path = target.with_query(branch_query(call))
        return await self._client.send(method, target, path, call.headers, call.payload, timeout_seconds)

    async def close(self) -> None:
        """Close idle connections; calls in flight end by themselves."""
        await self._client.close()


def caller(settings: CallerSettings) -> HttpCaller:
    """Make the caller of this module."""
    return HttpCaller(settings)
