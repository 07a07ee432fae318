"""Sends one request of a branch call: plain HTTP over the own pool, https over aiohttp."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reefknot.callers.base import CallerSettings
from reefknot.callers.connection import Answer
from reefknot.callers.pool import ConnectionPool
from reefknot.callers.target import Target
from reefknot.callers.tls import TlsClient

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: Headers that belong to the connection or delimit the message, and the one that lets participants compress
#: their answers, which are not decompressed: only the client itself sets them.
_OWN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class HeaderError(ValueError):
    """A header that cannot be sent; says which and why."""


class BranchClient:
    """Sends requests to branches.

    Args:
        settings: limits, user agent and TLS.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._pool = ConnectionPool(
            body_limit_bytes=settings.response_limit_bytes,
            idle_seconds=settings.idle_seconds,
            connections_per_host=settings.connections_per_host,
        )
        self._tls = TlsClient(settings)
        self._defaults = {
            "content-type": ("Content-Type", "application/json"),
            "accept": ("Accept", "application/json"),
            "user-agent": ("User-Agent", settings.user_agent),
        }
        self._default_lines = _lines(merge_headers(self._defaults, {}).values())

    async def send(
        self, method: str, target: Target, path: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answer:
        """Send a request once and return the answer, whatever its status is.

        Args:
            method: GET (without a body) or POST.
            target: where to; must not have a problem.
            path: path and query for the request line.
            headers: the branch headers; they override the default ones, whatever their case.
            body: the payload.
            timeout_seconds: the time limit for everything.

        Raises:
            ExchangeFailed: no complete answer came.
            HeaderError: a header cannot be sent; nothing was sent.
        """
        if target.secure:
            merged = merge_headers(self._defaults, headers)
            merged.setdefault("host", ("Host", target.host_header))
            return await self._tls.exchange(method, target, path, list(merged.values()), body, timeout_seconds)
        host, lines = target.host_header, self._default_lines
        if headers:
            merged = merge_headers(self._defaults, headers)
            _, host = merged.pop("host", ("Host", host))
            lines = _lines(merged.values())
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}{length}\r\n"
        return await self._pool.exchange(target.address, head.encode() + body, timeout_seconds)

    async def close(self) -> None:
        """Close idle connections; calls in flight end by themselves."""
        await self._pool.close()
        await self._tls.close()


def merge_headers(defaults: dict[str, tuple[str, str]], given: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Lay the given headers over the default ones.

    Args:
        defaults: lower-case name to name and value.
        given: name to value. Headers that only the client sets are left out.

    Raises:
        HeaderError: a name or value that would break the request.
    """
    merged = dict(defaults)
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise HeaderError(f"the header name {name!r} cannot be sent")
        if _FORBIDDEN_IN_VALUE.search(value):
            # The value may be a secret, so it is not shown.
            raise HeaderError(f"the value of the header {name} contains a control character")
        if name.lower() not in _OWN_HEADERS:
            merged[name.lower()] = (name, value.strip(" \t"))
    return merged


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)
