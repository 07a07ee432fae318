"""HTTP through urllib3: connections are kept and shared between threads."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from reefknot.client.exchange import NotSent, Request, Response

#: Connections to one host that are kept; more are made when more threads call at once.
KEPT_CONNECTIONS = 32
KEPT_HOSTS = 32
_NOT_SENT = (NewConnectionError, NameResolutionError, ConnectTimeoutError, LocationValueError)


class Urllib3Transport:
    """The default transport of ``Client``; see ``reefknot.client.exchange.Transport``.

    Args:
        pool: an own pool manager, for example with a proxy or a private certificate authority.
    """

    def __init__(self, pool: urllib3.PoolManager | None = None) -> None:
        self._pool = pool or urllib3.PoolManager(num_pools=KEPT_HOSTS, maxsize=KEPT_CONNECTIONS)

    def send(self, request: Request) -> Response:
        """Send it once and return the answer.

        Raises:
            NotSent: no connection could be made.
        """
        try:
            parts = urlsplit(request.url)
            pool = self._pool.connection_from_host(parts.hostname, parts.port, parts.scheme)
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            answer = pool.urlopen(
                request.method,
                target,
                body=request.body,
                headers=request.headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(total=request.timeout),
            )
        except _NOT_SENT as error:
            raise NotSent(str(error)) from error
        except SSLError as error:
            if isinstance(error.args[0] if error.args else None, ssl.SSLCertVerificationError):
                raise NotSent(str(error)) from error
            raise
        return Response(answer.status, answer.data)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()
