"""HTTP through urllib3: connections are kept and shared between threads."""

from __future__ import annotations

import os
import ssl
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.util import SKIP_HEADER

from reefknot.client.environment import Time
from reefknot.client.exchange import NotSent, Request, Response, check_head, check_size, check_status_line

#: Connections to one host that are kept; more are made when more threads call at once.
KEPT_CONNECTIONS = 32
PART_BYTES = 64 * 1024
_NOT_SENT = (NewConnectionError, NameResolutionError, ConnectTimeoutError, LocationValueError, LocationParseError)
#: Headers that urllib3 would add and nobody here reads.
_LEFT_OUT = {"Accept-Encoding": SKIP_HEADER, "User-Agent": SKIP_HEADER}


class OneWriteConnection(HTTPConnection):
    """Sends the head of a request and its body together: one system call and one packet instead of two."""

    _parts: list[bytes] | None = None

    def request(self, *positional: Any, **named: Any) -> None:
        """Send a request; see ``urllib3.connection.HTTPConnection``."""
        self._parts = []
        try:
            super().request(*positional, **named)
            parts = b"".join(self._parts)
        finally:
            self._parts = None
        super().send(parts)

    def send(self, data: Any) -> None:
        """Send a part, or keep it until all are there."""
        if self._parts is None:
            super().send(data)
        else:
            self._parts.append(data)


class OneWritePool(urllib3.HTTPConnectionPool):
    """Connections to one host over plain HTTP."""

    ConnectionCls = OneWriteConnection


class Urllib3Transport:
    """The default transport of ``Client``; see ``reefknot.client.exchange.Transport``.

    A process that was forked makes connections of its own.

    Args:
        pool: an own pool manager, for example with a proxy or a private certificate authority.
    """

    def __init__(self, pool: urllib3.PoolManager | None = None) -> None:
        self._manager = pool or _manager()
        self._process = os.getpid()
        #: The pool of each ``scheme://host:port``: the manager takes 30 µs to find one.
        self._pools: dict[str, urllib3.HTTPConnectionPool] = {}
        self._time = Time()

    def send(self, request: Request) -> Response:
        """Send it once and return the answer.

        Raises:
            NotSent: no connection could be made, or it is one of HTTP/2.
            Unreadable: the answer is too large, or compressed.
        """
        if self._process != os.getpid():
            self._leave_parent()
        until = self._time.monotonic() + request.timeout
        origin, target = _split(request.url)
        try:
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = self._manager.connection_from_url(origin)
            answer = pool.urlopen(
                request.method,
                target,
                body=request.body,
                headers={**_LEFT_OUT, **request.headers},
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(total=request.timeout),
                preload_content=False,
            )
        except _NOT_SENT as error:
            raise NotSent(str(error)) from error
        except ProtocolError as error:
            check_status_line(error)
            raise
        except SSLError as error:
            if isinstance(error.args[0] if error.args else None, ssl.SSLCertVerificationError):
                raise NotSent(str(error)) from error
            raise
        try:
            body = self._read(answer, until)
        except BaseException:
            answer.close()
            raise
        finally:
            answer.release_conn()
        return Response(answer.status, body)

    def _read(self, answer: urllib3.BaseHTTPResponse, until: float) -> bytes:
        check_head(answer.length_remaining, answer.headers.get("Content-Encoding"))
        parts: list[bytes] = []
        size = 0
        # Each part within the time of all: the timeout of urllib3 is one for every piece that arrives.
        while part := answer.read1(PART_BYTES, decode_content=False):
            parts.append(part)
            size += len(part)
            check_size(size)
            if self._time.monotonic() > until:
                raise TimeoutError("no complete answer in time")
            if answer.length_remaining == 0:
                break
        return b"".join(parts)

    def _leave_parent(self) -> None:
        """Forget the connections of the process that forked this one: each would get answers to the other.

        That closes this process's copies of the sockets, of which the parent and the server notice nothing.
        """
        self._pools = {}
        self._manager.clear()
        self._process = os.getpid()

    def close(self) -> None:
        """Close the idle connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()
        self._manager.clear()


def _manager() -> urllib3.PoolManager:
    manager = urllib3.PoolManager(maxsize=KEPT_CONNECTIONS)
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "http": OneWritePool}
    return manager


def _split(url: str) -> tuple[str, str]:
    """A URL as ``scheme://host:port`` and what the request line says; a fragment stays here."""
    url = url.partition("#")[0]
    start = url.find("://") + 3
    ends = [place for place in (url.find("/", start), url.find("?", start)) if place >= 0]
    end = min(ends, default=len(url))
    target = url[end:]
    return url[:end], target if target.startswith("/") else f"/{target}"
