"""Branch calls over https: aiohttp, set up so that it does exactly what it is told.

It costs several times the CPU of the pool for plain HTTP (``pool.py``); in exchange TLS is in the
hands of a library that many people watch. Unlike the pool it never sends a request a second time.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from reefknot.callers.base import CallerSettings
from reefknot.callers.connection import Answer, ExchangeFailed
from reefknot.callers.target import Target

if TYPE_CHECKING:
    import aiohttp


class TlsClient:
    """Sends requests over TLS. aiohttp is imported when the first one is sent.

    Args:
        settings: limits and the TLS context.
    """

    def __init__(self, settings: CallerSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._in_flight = 0
        self._closed = False

    async def exchange(
        self,
        method: str,
        target: Target,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        timeout_seconds: float,
    ) -> Answer:
        """Send a request once and return the answer.

        Args:
            method: GET (without a body) or POST.
            target: where to.
            path: path and query, sent byte for byte.
            headers: all headers, Host included.
            body: the payload.
            timeout_seconds: the time limit for connecting, TLS, sending and the complete answer.

        Raises:
            ExchangeFailed: no complete answer came. ``heard`` is about the head of the answer here:
                the library does not tell whether a part of a head had come.
        """
        self._in_flight += 1
        try:
            return await self._exchange(method, target, path, headers, body, timeout_seconds)
        finally:
            self._in_flight -= 1
            if self._closed:
                await self.close()

    async def close(self) -> None:
        """Close the connections as soon as no call is in flight."""
        self._closed = True
        if self._session is not None and not self._in_flight:
            session, self._session = self._session, None
            await session.close()

    async def _exchange(
        self,
        method: str,
        target: Target,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        timeout_seconds: float,
    ) -> Answer:
        import aiohttp  # noqa: PLC0415 - a quarter of a second that a server without https saves
        import yarl  # noqa: PLC0415 - as above

        if self._session is None:
            self._session = self._open_session()
        host, port = target.address
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        heard = False
        try:
            async with self._session.request(
                method,
                # encoded: otherwise the percent escapes of the URL would be rewritten
                yarl.URL(f"https://{authority}{path}", encoded=True),
                data=body if method == "POST" else None,
                headers=headers,
                allow_redirects=False,
                # aiohttp rounds limits above the threshold up to full seconds, and has one of its
                # own for connecting.
                timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=None, ceil_threshold=math.inf),
            ) as response:
                heard = True
                body, encoding = await self._read(response), response.headers.getall("Content-Encoding", [])
                return Answer(response.status, body, ", ".join(encoding) if body else "")
        except TimeoutError:
            text = "no complete answer in time" if heard else "no answer in time"
            raise ExchangeFailed(text, heard=heard) from None
        except aiohttp.ClientResponseError as error:
            raise ExchangeFailed(f"the answer is not HTTP: {error.message}", heard=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = f"{authority}: {str(error) or type(error).__name__}"
            raise ExchangeFailed(text, heard=heard, lost=True) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.response_limit_bytes
        body = bytearray()
        too_large = (response.content_length or 0) > limit
        while not too_large and (part := await response.content.readany()):
            body += part
            too_large = len(body) > limit
        if too_large:
            response.close()
            raise ExchangeFailed(f"the answer is larger than {limit} bytes", heard=True)
        return bytes(body)

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp  # noqa: PLC0415 - as above

        settings = self._settings
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=settings.ssl_context or True,
                limit=0,
                limit_per_host=settings.connections_per_host,
                keepalive_timeout=settings.idle_seconds,
                loop=asyncio.get_running_loop(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        # A GET is repeated by aiohttp when the connection ends, even a new one. There is no public
        # switch; the test of a peer that hangs up on a fresh connection guards this line.
        session._retry_connection = False  # noqa: SLF001 - see above
        return session
