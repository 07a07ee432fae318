"""One request to somebody else, and what came back: the seam between the SDK and the network.

A transport carries a ``Request`` out and returns the ``Response``, whatever its status is. Bring
your own (an ``httpx`` client, a test client of your web framework) by writing one method::

    class MyTransport:
        def send(self, request: Request) -> Response:
            answer = httpx_client.request(request.method, request.url, content=request.body,
                                          headers=request.headers, timeout=request.timeout)
            return Response(answer.status_code, answer.content)

It may raise anything. ``NotSent``, ``ConnectionRefusedError`` and ``socket.gaierror`` mean that
nothing was sent; any other exception means that nobody knows. It must not follow redirects and not
repeat a request. If it has a method ``close``, the client calls it at its own end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

#: The largest answer that is read, in bytes. Branches and servers answer with a few kilobytes; what is larger
#: comes from something else, or is meant to fill the memory.
ANSWER_LIMIT_BYTES = 64 * 1024 * 1024

#: The head of a SETTINGS frame, which HTTP/2 begins with, as libraries quote a status line that they cannot read.
_HTTP2 = re.compile(r"\\+x00\\+x00(?:\\+x[0-9a-f]{2}|.)\\+x04(?:\\+x00){5}")


class Request(msgspec.Struct, frozen=True):
    """What to send.

    Attributes:
        method: the HTTP method; ``GRPC`` for a unary gRPC call.
        url: the whole URL, percent-encoded; ``grpc://host:port/Service/Method`` for gRPC.
        headers: HTTP headers, or the metadata of a gRPC call.
        body: the body, or the serialized message.
        timeout: seconds after which to give up.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float


class Response(msgspec.Struct, frozen=True):
    """What came back.

    Attributes:
        status: the HTTP status; for gRPC the status code's number.
        body: the body, or the serialized message; for gRPC with another code than 0 its text in UTF-8.
    """

    status: int
    body: bytes = b""


class NotSent(Exception):
    """Nothing was sent: the name is unknown, the connection was refused, or there was no time left."""


class SpeaksHttp2(NotSent):
    """The answer begins with a frame of HTTP/2, as a gRPC port's does: it has not understood the request."""

    def __init__(self) -> None:
        super().__init__("the answer is HTTP/2, so this looks like a gRPC port")


class Unreadable(Exception):
    """Something answered, but not with what can be read: nobody knows what happened."""


def check_head(length: int | None, encoding: str | None) -> None:
    """Refuse an answer by its head.

    Args:
        length: bytes of the body, as announced; None if they were not.
        encoding: its ``Content-Encoding``.

    Raises:
        Unreadable: it is too large, or compressed: nobody asked for that, and its words would not be found.
    """
    if length is not None:
        check_size(length)
    if encoding and encoding.strip().lower() != "identity":
        raise Unreadable(f"the answer is compressed ({encoding[:40]}), which was not asked for")


def check_size(size: int) -> None:
    """Refuse an answer by the bytes it has, or is said to have.

    Raises:
        Unreadable: they are too many.
    """
    if size > ANSWER_LIMIT_BYTES:
        raise Unreadable(f"the answer is larger than {ANSWER_LIMIT_BYTES} bytes")


def check_status_line(error: Exception) -> None:
    """See whether the status line that a library could not read is none because the other side speaks HTTP/2.

    Args:
        error: the library's, whose text quotes the line.

    Raises:
        SpeaksHttp2: that is so.
    """
    if _HTTP2.search(str(error)):
        raise SpeaksHttp2 from error


class Transport(Protocol):
    """Carries requests; must be safe to use from several threads."""

    def send(self, request: Request, /) -> Response:
        """Send it once and return the answer."""
        ...


class AsyncTransport(Protocol):
    """Carries requests; must be safe to use from several tasks."""

    async def send(self, request: Request, /) -> Response:
        """Send it once and return the answer."""
        ...
