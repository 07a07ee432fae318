"""One keep-alive HTTP/1.1 connection with at most one request in flight.

The parser is httptools (llhttp). Everything a peer can do ends in one of two ways: the future that
``send`` returned gets an ``Answer``, or it gets ``ExchangeFailed`` and the connection is closed. What
a peer can make this process keep is limited: the body by ``body_limit_bytes``, everything else (headers,
interim answers, chunk headers, trailers) by a multiple of it and ``HEAD_LIMIT_BYTES``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

#: The most bytes before the body of an answer begins, interim (1xx) answers included.
HEAD_LIMIT_BYTES = 64 * 1024

#: Received bytes allowed for each byte of the body limit. A body in chunks of one byte takes 6.
_FRAMING_FACTOR = 8


class Answer(NamedTuple):
    """A complete answer: the status code, the body as it was sent, and its ``Content-Encoding``, if it has one."""

    status: int
    body: bytes
    encoding: str = ""


class ExchangeFailed(Exception):
    """No complete answer came.

    Args:
        text: what happened, in words.
        heard: whether at least one byte of an answer came.
        lost: whether the connection broke, as opposed to a time limit or a refused answer.
        sent: whether a part of the request may have been sent.
    """

    def __init__(self, text: str, *, heard: bool, lost: bool = False, sent: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.heard = heard
        self.lost = lost
        self.sent = sent


class Connection(asyncio.Protocol):
    """The protocol of one connection; the methods named ``on_...`` are called by the parser.

    Args:
        loop: the running event loop.
        closed: called once when the connection is gone, for whatever reason.
        body_limit_bytes: the largest body that is accepted.
    """

    __slots__ = (
        "_answer",
        "_body_limit",
        "_body_size",
        "_closed",
        "_future",
        "_head",
        "_heard",
        "_in_body",
        "_keep_alive",
        "_loop",
        "_parser",
        "_parts",
        "_received",
        "_timer",
        "_too_large",
        "_transport",
        "idle_since",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, closed: Callable[[Connection], None], body_limit_bytes: int
    ) -> None:
        self._loop = loop
        self._closed = closed
        self._body_limit = body_limit_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._future: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answer: Answer | None = None
        self._parts: list[bytes] = []
        self._body_size = 0
        self._received = 0
        self._heard = False
        self._in_body = False
        self._head = b""
        self._too_large = False
        self._keep_alive = True
        #: When the connection was last put aside, in the loop's time.
        self.idle_since = 0.0

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: nothing is in flight, and both sides are in step."""
        transport = self._transport
        return (
            self._keep_alive
            and self._future is None
            and transport is not None
            and not transport.is_closing()
            # A peer that answered without reading the whole request would read its rest as the next one.
            and not transport.get_write_buffer_size()
        )

    def send(self, request: bytes, timeout_seconds: float) -> asyncio.Future[Answer]:
        """Send a complete request; only on a new connection or one that is ``reusable``.

        Args:
            request: head and body.
            timeout_seconds: the time limit for sending and for the complete answer.

        Returns:
            A future of the answer. It raises ``ExchangeFailed``. Whoever cancels it closes the connection.
        """
        future = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            future.set_exception(ExchangeFailed("the connection is closed", heard=False, lost=True))
            return future
        self._future = future
        self._answer = None
        self._heard = False
        self._received = 0
        self._in_body = False
        self._timer = self._loop.call_later(timeout_seconds, self._expire)
        self._transport.write(request)
        return future

    def abort(self) -> None:
        """Close at once, without sending what is still buffered."""
        self._keep_alive = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._future is None:
            # Nobody asked. Whatever it is, it must not become the answer to the next request.
            self.abort()
            return
        self._heard = True
        self._received += len(data)
        if not self._in_body:
            self._head = self._head + data if self._head else data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep_alive = False
            self._answer = Answer(self._parser.get_status_code(), b"")
        except httptools.HttpParserError as error:
            if self._answer is None:
                self._fail(f"the answer is not HTTP: {error}")
                return
            self._keep_alive = False
        if self._answer is not None:
            self._finish(self._answer)
        elif self._too_large:
            self._fail(f"the answer is larger than {self._body_limit} bytes")
        elif self._received > HEAD_LIMIT_BYTES + _FRAMING_FACTOR * (self._body_limit if self._in_body else 0):
            self._fail("the head or the framing of the answer is too large")

    def eof_received(self) -> None:
        """Called by the event loop: the peer sends no more. It then closes the transport."""
        self._keep_alive = False
        if self._future is not None and self._in_body and not _is_delimited(self._head):
            # This is how a body ends that has neither a length nor chunks.
            self._finish(self._complete(self._parser.get_status_code(), b"".join(self._parts)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._keep_alive = False
        if self._future is not None:
            what = "in the middle of the answer" if self._heard else "without an answer"
            detail = f": {exc}" if exc is not None and str(exc) else ""
            self._fail(f"the connection ended {what}{detail}", lost=True)
        self._transport = None
        self._closed(self)

    def on_message_begin(self) -> None:
        """A message starts: the answer, an interim one, or something that nobody asked for."""
        if self._answer is not None:
            self._keep_alive = False
            return
        self._in_body = False
        self._too_large = False
        self._body_size = 0
        self._parts = []

    def on_headers_complete(self) -> None:
        """The body comes next."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return
        self._in_body = True
        if not self._parser.should_keep_alive():
            self._keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_size += len(body)
        if self._body_size > self._body_limit:
            self._too_large = True
        elif self._answer is None:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The message is complete; interim answers are passed over."""
        status = self._parser.get_status_code()
        if self._answer is not None or 100 <= status < 200:
            return
        if self._too_large:
            return
        parts = self._parts
        self._answer = self._complete(status, parts[0] if len(parts) == 1 else b"".join(parts))
        self._parts = []

    def _complete(self, status: int, body: bytes) -> Answer:
        # Headers are not read one by one, see _read_headers; nearly no answer has these words in its first read.
        encoded = body and b"content-encoding" in self._head.lower()
        return Answer(status, body, _read_headers(self._head).encoding if encoded else "")

    def _expire(self) -> None:
        self._fail("no complete answer in time" if self._heard else "no answer in time")

    def _finish(self, answer: Answer) -> None:
        future = self._end_request()
        if future is not None and not future.done():
            future.set_result(answer)

    def _fail(self, text: str, *, lost: bool = False) -> None:
        future = self._end_request()
        self._parts = []
        self.abort()
        if future is not None and not future.done():
            future.set_exception(ExchangeFailed(text, heard=self._heard, lost=lost))

    def _end_request(self) -> asyncio.Future[Answer] | None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._head = b""
        future, self._future = self._future, None
        return future


def _is_delimited(head: bytes) -> bool:
    """Whether a body says itself where it ends.

    Args:
        head: as for ``_read_headers``.
    """
    headers = _read_headers(head)
    return headers.broken or headers.delimited


def _read_headers(head: bytes) -> _Headers:
    """Read the headers of an answer.

    Only where they matter: the parser would call Python code for each header of each answer
    otherwise, 1 to 3 µs for a call.

    Args:
        head: the answer from its first byte to somewhere in its body, interim answers included.
    """
    headers = _Headers()
    try:
        httptools.HttpResponseParser(headers).feed_data(head)
    except httptools.HttpParserError:
        headers.broken = True
    return headers


class _Headers:
    """What the headers of a message say about its body; the methods are called by the parser."""

    def __init__(self) -> None:
        self.broken = False
        self.delimited = False
        self.encoding = ""

    def on_message_begin(self) -> None:
        self.delimited = False

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-length" or (lower == b"transfer-encoding" and value.lower().endswith(b"chunked")):
            self.delimited = True
        elif lower == b"content-encoding":
            self.encoding += f"{', ' if self.encoding else ''}{value.decode('latin-1').strip()}"
