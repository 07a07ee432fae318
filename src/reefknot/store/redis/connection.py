"""One pipelined connection to one Redis server.

Commands go out together at the end of the event loop's turn in which they were given; answers
come back in order. So every caller that is busy at one moment shares one write, one read and, with
``appendfsync always``, one flush to the disk, without waiting for each other's batch to end.

A connection that breaks, or whose server is silent for too long, fails every command that has no
answer: nobody knows whether those were carried out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from ssl import SSLContext
from typing import Any, cast

import hiredis

from reefknot.errors import Overloaded, StoreUnavailable

#: Commands without an answer on one connection; more are refused.
_MAX_WAITING = 50_000

Word = str | bytes | int


class ServerError(Exception):
    """Redis answered a command with an error; it was not carried out.

    Args:
        text: the answer; its first word is the kind.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.kind, _, self.rest = text.partition(" ")


class Connection(asyncio.Protocol):
    """Sends commands and hands each its answer.

    Args:
        name: the server's address, for messages.
        timeout: seconds after which a server that owes an answer is taken for dead.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ServerError)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._outgoing: list[bytes] = []
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.lost: StoreUnavailable | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop: hand out the answers."""
        reader, waiting = self._reader, self._waiting
        self._heard = self._loop.time()
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                future = waiting.popleft()
                if future.done():
                    continue
                if isinstance(answer, ServerError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except (hiredis.HiredisError, IndexError):
            self.abort("sent something that is no answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.abort(f"closed the connection{f': {exc}' if exc else ''}")

    def answer_within(self, seconds: float) -> None:
        """From now on, how long the server may owe an answer."""
        self._timeout = seconds

    def send(self, *words: Word) -> asyncio.Future[Any]:
        """Queue a command; the future ends with the answer.

        The future raises ``ServerError`` for an error that Redis reports, ``StoreUnavailable`` if
        the connection is lost before the answer. Cancelling it does not take the command back.

        Raises:
            Overloaded: too many commands wait for their answers.
            StoreUnavailable: the connection is lost already.
        """
        if self.lost is not None:
            raise StoreUnavailable(str(self.lost))
        if len(self._waiting) >= _MAX_WAITING:
            raise Overloaded(f"{_MAX_WAITING} commands are waiting for Redis")
        if not self._waiting:
            self._heard = self._loop.time()
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        # The stub of hiredis says a tuple of one word.
        self._outgoing.append(hiredis.pack_command(cast("Any", words)))
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def abort(self, problem: str) -> None:
        """Let go of the connection; whoever waits gets ``StoreUnavailable`` with the problem."""
        if self.lost is None:
            self.lost = StoreUnavailable(f"Redis {self.name} {problem}")
        if self._transport is not None:
            self._transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._outgoing.clear()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(StoreUnavailable(str(self.lost)))

    def _flush(self) -> None:
        if self._transport is None or self.lost is not None:
            return
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._look)

    def _look(self) -> None:
        """Give the server up if it owes an answer and was silent for the whole time limit."""
        self._watch = None
        if not self._waiting:
            return
        rest = self._heard + self._timeout - self._loop.time()
        if rest <= 0:
            self.abort(f"did not answer for {self._timeout:g} s")
        else:
            self._watch = self._loop.call_later(rest, self._look)


async def connect(host: str, port: int, *, seconds: float, tls: SSLContext | None) -> Connection:
    """Open a connection.

    Args:
        host: name or address of the server.
        port: its port.
        seconds: how long connecting, and every answer, may take.
        tls: how to check the server, ``None`` for a plain connection.

    Raises:
        StoreUnavailable: the server cannot be reached.
    """
    name = f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(lambda: Connection(name, seconds), host, port, ssl=tls)
    except (OSError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis {name} cannot be reached: {str(error) or 'no answer'}") from error
    return connection
