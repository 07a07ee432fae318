"""A client's connection: uvicorn's, with limits for the head of a request, and without other protocols than HTTP/1.1.

A request that asks for another protocol (``Upgrade: h2c``, which Java's HttpClient and ``curl --http2``
send with every request) is a request like any other to a server that stays with HTTP/1.1: RFC 9110,
section 7.8. The parser takes what follows its head for the other protocol instead, so such a
request is parsed once more without the question. Otherwise its body would be lost, or be the next request.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Request line and headers together. What is longer and does not arrive at once is answered with 400:
#: counting what arrives costs less than counting each header.
HEAD_BYTES = 65_536
#: How long a client may take to send them, also the first ones; then the connection is closed.
HEAD_SECONDS = 10.0


class OneWrite:
    """A transport that sends the head of a response together with its body.

    uvicorn writes them one after the other, and each write is a system call: joining them takes
    8 % off the CPU time of a submit. A head without a body goes out when the loop comes round.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Hold what looks like a head; send anything else with what is held."""
        if self._held:
            self._held += data
            self._flush()
        elif data.endswith(b"\r\n\r\n"):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ClientConnection(HttpToolsProtocol):
    """Joins writes, closes what sends its head too slowly, refuses a head that is too long, ignores ``Upgrade``.

    One timer for each connection, not for each request: it looks every ``head_seconds``, so a slow
    client has up to twice that time.
    """

    head_seconds = HEAD_SECONDS
    _watch: asyncio.TimerHandle
    #: When the head that is being waited for began, on the loop's clock; 0 while none is.
    _waiting_since = 0.0
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """Begin to watch."""
        super().connection_made(cast("asyncio.Transport", OneWrite(transport, self.loop)))
        self._waiting_since = self.loop.time()
        self._watch = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; refuse a head that is too long and still not complete."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(memoryview(data)[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        if self._waiting_since:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head of the request is longer than {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes, self._waiting_since = 0, self.loop.time()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._waiting_since = 0.0
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        """Leave a request that asks for another protocol alone; the base class asks in its callbacks.

        Raises:
            HttpParserError: it is CONNECT, of which HTTP/1.1 knows no other form; the parser takes nothing more.
        """
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("CONNECT is not offered")
        return True

    def _stay_with_http(self, rest: memoryview) -> None:
        """Parse the request whose head has just ended as if it had not asked for another protocol.

        Args:
            rest: what arrived behind its head: its body, and perhaps more requests.
        """
        while True:
            try:
                self._begin_again()
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError:
                return self._refuse()
            else:
                return None

    def _begin_again(self) -> None:
        """Give a new parser the head that the last one has read, without the question."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in the base class
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def _refuse(self) -> None:
        message = "Invalid HTTP request received."
        self.logger.warning(message)
        self.send_400_response(message)

    def _look(self) -> None:
        if self._waiting_since and self.loop.time() - self._waiting_since >= self.head_seconds:
            self.transport.close()
            return
        self._watch = self.loop.call_later(self.head_seconds, self._look)
