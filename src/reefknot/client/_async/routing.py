"""Which transport carries a request: the one of its URL's scheme, made when it is first needed."""

from __future__ import annotations

from typing import Any

from reefknot.client.exchange import AsyncTransport, Request, Response
from reefknot.client.transports.defaults import async_grpc, async_http


class AsyncRouting:
    """Sends by URL: ``grpc://`` over gRPC, everything else over HTTP.

    Args:
        http: the caller's own transport for HTTP; it stays open, unless it has a ``close`` of its own.
    """

    def __init__(self, http: AsyncTransport | None) -> None:
        self._http = http
        self._grpc: AsyncTransport | None = None

    async def send(self, request: Request) -> Response:
        """Send it once and return the answer; see ``AsyncTransport``."""
        if request.method == "GRPC":
            if self._grpc is None:
                self._grpc = async_grpc()
            return await self._grpc.send(request)
        if self._http is None:
            self._http = async_http()
        return await self._http.send(request)

    async def close(self) -> None:
        """Close what can be closed; a later request opens it again."""
        for transport in (self._http, self._grpc):
            close: Any = getattr(transport, "close", None)
            if close is not None:
                await close()
