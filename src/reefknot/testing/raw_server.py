"""A server that writes exactly the bytes a test tells it to, and breaks whenever it is told to."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Peer:
    """The server's side of one connection.

    Args:
        reader: what the client sends.
        writer: what it receives.
        requests: where each complete request is noted.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: list[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._requests = requests

    async def request(self) -> bytes:
        """Read one complete request, head and body, and note it.

        Raises:
            asyncio.IncompleteReadError: the client closed the connection.
        """
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        self._requests.append(head + body)
        return head + body

    async def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            ConnectionError: the client closed the connection.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def stream(self, block: bytes, total_bytes: int) -> int:
        """Send a block again and again until the client closes the connection.

        Args:
            block: what to send.
            total_bytes: where to stop at the latest.

        Returns:
            How many bytes were sent.
        """
        sent = 0
        try:
            while sent < total_bytes and not self._writer.is_closing():
                await self.send(block)
                sent += len(block)
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        return sent

    async def closed(self) -> None:
        """Wait until the client closes the connection."""
        try:
            await self._reader.read()
        except ConnectionError:
            return

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


#: What happens on one connection; when it returns, the connection is closed.
Script = Callable[[Peer], Awaitable[None]]


def answering(*answers: bytes) -> Script:
    """A script that gives these answers to the requests of a connection, one each, and then closes it."""

    async def run(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    return run


def http_answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A complete HTTP/1.1 answer with a Content-Length."""
    lines = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Status", *headers, f"Content-Length: {len(body)}"))
    return lines.encode() + b"\r\n" + body


class RawServer:
    """A TCP or TLS server on a free port of 127.0.0.1; an asynchronous context manager.

    Args:
        scripts: the n-th connection gets the n-th script; the last one serves all further ones.
        ssl_context: for TLS.
    """

    def __init__(self, *scripts: Script, ssl_context: ssl.SSLContext | None = None) -> None:
        self._scripts: Sequence[Script] = scripts
        self._ssl_context = ssl_context
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        #: How many connections were accepted.
        self.connections = 0
        #: Every complete request that was read.
        self.requests: list[bytes] = []
        #: The port it listens on.
        self.port = 0

    def url(self, path: str = "/") -> str:
        """The URL of a path on this server."""
        return f"http{'s' if self._ssl_context else ''}://127.0.0.1:{self.port}{path}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl_context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        task = asyncio.ensure_future(self._run(script, Peer(reader, writer, self.requests), writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, script: Script, peer: Peer, writer: asyncio.StreamWriter) -> None:
        try:
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
