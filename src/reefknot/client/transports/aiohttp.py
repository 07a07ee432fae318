"""HTTP through aiohttp: connections are kept and shared between tasks of one event loop."""

from __future__ import annotations

import asyncio
import os

from aiohttp import (
    ClientConnectorError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from yarl import URL

from reefknot.client.exchange import NotSent, Request, Response, check_head, check_size, check_status_line

#: Connections at once; more requests wait for one, which counts towards their time.
MOST_CONNECTIONS = 256
#: Headers that aiohttp would add and nobody here reads.
_LEFT_OUT = ("Accept-Encoding", "User-Agent")
_NOT_SENT = (ClientConnectorError, ConnectionTimeoutError, InvalidURL)


class AiohttpTransport:
    """The default transport of ``AsyncClient``; see ``reefknot.client.exchange.AsyncTransport``.

    A session belongs to the loop it is made in: a client that is used in another loop gets another one, and so
    does a process that was forked.

    Args:
        session: an own session. It is not closed here, and not used after a fork.
    """

    def __init__(self, session: ClientSession | None = None) -> None:
        self._given = session
        self._session: ClientSession | None = None
        self._process = os.getpid()
        self._of_parents: list[ClientSession] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, request: Request) -> Response:
        """Send it once and return the answer.

        Raises:
            NotSent: no connection could be made, or it is one of HTTP/2; or the session was given, and this
                process forked after that.
            Unreadable: the answer is too large, or compressed.
        """
        if self._process != os.getpid():
            self._leave_parent()
        session = self._given or self._own()
        try:
            async with session.request(
                request.method,
                # The URL is encoded already: another encoder would change what some servers compare.
                URL(request.url, encoded=True),
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
                timeout=ClientTimeout(request.timeout),
                skip_auto_headers=_LEFT_OUT,
            ) as answer:
                return Response(answer.status, await _read(answer))
        except _NOT_SENT as error:
            raise NotSent(str(error)) from error
        except ClientResponseError as error:
            check_status_line(error)
            raise

    async def close(self) -> None:
        """Close the session that was made here, in this process."""
        if self._process != os.getpid():
            return
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    def _leave_parent(self) -> None:
        """Forget the connections of the process that forked this one: each would get answers to the other.

        They are kept, as closing them would take them out of the selector that the loop shares with its parent's.

        Raises:
            NotSent: the session was given, so there is no other one.
        """
        if self._given is not None:
            raise NotSent("the session of this client was made before the process forked; make another client")
        if self._session is not None:
            self._of_parents.append(self._session)
        self._session, self._process = None, os.getpid()

    def _own(self) -> ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = ClientSession(
                connector=TCPConnector(limit=MOST_CONNECTIONS),
                # Two calls must not share what a third sets, and no proxy or netrc is taken from the surroundings.
                cookie_jar=DummyCookieJar(),
                trust_env=False,
                raise_for_status=False,
                auto_decompress=False,
            )
        return self._session


async def _read(answer: ClientResponse) -> bytes:
    check_head(answer.content_length, answer.headers.get("Content-Encoding"))
    body = bytearray()
    while part := await answer.content.readany():
        body += part
        check_size(len(body))
    return bytes(body)
