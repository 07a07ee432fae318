"""The null business service, a process of its own: fixed answers, as cheap as they get.

Two ports: one that answers and one that accepts everything and never answers. ``/ongoing…`` is
answered with 425, everything else with 200. On its standard input it takes ``"hold"`` (the first
port stops answering as well) and ``"count"`` (tells how many calls came). It ends with its input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import msgspec
import uvloop

_DONE = b'{"dtm_result":"SUCCESS"}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_DONE), _DONE)
_ONGOING = b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\n\r\n"


class Ports(msgspec.Struct, frozen=True):
    """Where the service listens."""

    answering: int
    hanging: int


class _Service:
    """What all connections share."""

    def __init__(self) -> None:
        self.calls = 0
        self.hold = False


class _Connection(asyncio.Protocol):
    def __init__(self, service: _Service, *, hangs: bool) -> None:
        self._service = service
        self._hangs = hangs
        self._answer = _ANSWER
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._answer = _ONGOING if url.startswith(b"/ongoing") else _ANSWER

    def on_message_complete(self) -> None:
        self._service.calls += 1
        if not self._hangs and not self._service.hold:
            self._transport.write(self._answer)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    service = _Service()
    answering = await loop.create_server(lambda: _Connection(service, hangs=False), "127.0.0.1", 0, backlog=2048)
    hanging = await loop.create_server(lambda: _Connection(service, hangs=True), "127.0.0.1", 0, backlog=2048)
    _tell(Ports(answering.sockets[0].getsockname()[1], hanging.sockets[0].getsockname()[1]))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = msgspec.json.decode(line, type=str)
        if order == "count":
            _tell(service.calls)
        else:
            service.hold = order == "hold"


def _tell(message: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(_main())
