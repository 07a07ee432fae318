# Written by scripts/twins.py from src/reefknot/client/_async/routing.py: change that file, then `make twins`.
"""Which transport carries a request: the one of its URL's scheme, made when it is first needed."""

from __future__ import annotations

from typing import Any

from reefknot.client.exchange import Request, Response, Transport
from reefknot.client.transports.defaults import grpc, http


class Routing:
    """Sends by URL: ``grpc://`` over gRPC, everything else over HTTP.

    Args:
        http: the caller's own transport for HTTP; it stays open, unless it has a ``close`` of its own.
    """

    def __init__(self, http: Transport | None) -> None:
        self._http = http
        self._grpc: Transport | None = None

    def send(self, request: Request) -> Response:
        """Send it once and return the answer; see ``Transport``."""
        if request.method == "GRPC":
            if self._grpc is None:
                self._grpc = grpc()
            return self._grpc.send(request)
        if self._http is None:
            self._http = http()
        return self._http.send(request)

    def close(self) -> None:
        """Close what can be closed; a later request opens it again."""
        for transport in (self._http, self._grpc):
            close: Any = getattr(transport, "close", None)
            if close is not None:
                close()
