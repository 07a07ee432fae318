"""The load generator, a process of its own: as many clients as there are connections.

Each client sends the requests of one transaction, one after the other, then the next transaction,
until the time or the number of transactions is used up. It takes a ``Load`` as one line on its
standard input and answers with one ``Sent``.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from typing import cast

import httptools
import msgspec
import uvloop

from reefknot.bench.workloads import GID, Template
from reefknot.clock import SystemClock
from reefknot.ids import gid_maker

#: A client that gets no answer for so long gives the measurement up.
ANSWER_SECONDS = 60.0


class Load(msgspec.Struct, frozen=True):
    """What to send: ``count`` transactions at most (0 = no limit) for at most ``seconds``."""

    port: int
    requests: tuple[Template, ...]
    connections: int
    seconds: float
    count: int = 0


class Sent(msgspec.Struct, frozen=True):
    """What came of it. Times of the monotonic clock in seconds; latencies of the last request of each transaction."""

    started: float
    ended: float
    transactions: int
    failures: int
    first_failure: str
    p50_ms: float
    p99_ms: float
    cpu_us: float


class _Run:
    """What all clients share."""

    def __init__(self, load: Load) -> None:
        self.new_gid = gid_maker(SystemClock(), random.Random().getrandbits)  # noqa: S311 - unique is enough
        self.requests = [_request(template) for template in load.requests]
        self.left = load.count or sys.maxsize
        self.until = time.monotonic() + load.seconds
        self.latencies: list[float] = []
        self.failures = 0
        self.first_failure = ""


class _Client(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self, run: _Run, done: asyncio.Future[None]) -> None:
        self._run = run
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._step = 0
        self._gid = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(f"the server closed a connection: {error}"))

    def begin(self) -> None:
        """Send the first request of the next transaction, if there is to be one."""
        run = self._run
        if run.left <= 0 or time.monotonic() >= run.until:
            if not self._done.done():
                self._done.set_result(None)
            return
        run.left -= 1
        self._gid = run.new_gid().encode()
        self._send(0)

    def _send(self, step: int) -> None:
        self._step = step
        self._body = b""
        request = self._run.requests[step].replace(GID.encode(), self._gid)
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        run = self._run
        took = time.perf_counter() - self._sent
        status = self._parser.get_status_code()
        if status != 200:
            run.failures += 1
            run.first_failure = run.first_failure or f"{status} {self._body[:200].decode(errors='replace')}"
            self.begin()
        elif self._step + 1 < len(run.requests):
            self._send(self._step + 1)
        else:
            run.latencies.append(took)
            self.begin()


def _request(template: Template) -> bytes:
    body = template.body.encode()
    head = f"POST {template.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _send_all(load: Load) -> Sent:
    loop = asyncio.get_running_loop()
    run = _Run(load)
    ends = [loop.create_future() for _ in range(load.connections)]
    make: Callable[[asyncio.Future[None]], Callable[[], _Client]] = lambda end: lambda: _Client(run, end)  # noqa: E731 - binds the loop's variable
    clients = [(await loop.create_connection(make(end), "127.0.0.1", load.port))[1] for end in ends]
    started, cpu = time.monotonic(), time.process_time()
    run.until = started + load.seconds
    for client in clients:
        client.begin()
    async with asyncio.timeout(load.seconds + ANSWER_SECONDS):
        await asyncio.gather(*ends)
    ordered = sorted(run.latencies) or [0.0]
    return Sent(
        started=started,
        ended=time.monotonic(),
        transactions=len(run.latencies),
        failures=run.failures,
        first_failure=run.first_failure,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)] * 1000,
        cpu_us=(time.process_time() - cpu) * 1_000_000,
    )


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_send_all(asked))) + b"\n")
