"""The network between banks, their server and their customers: it repeats, delays, reorders and loses.

Every address has its own port here. A request is passed on as it came; what happens to it is drawn anew
for each one:

    doubled   a copy is sent too: before it, together with it, or up to two seconds after its answer
    delayed   it waits, so that those behind it overtake it
    strayed   its sender hears nothing; it arrives up to two seconds later, when the sender has long moved on
    unheard   it is carried out, and the answer is lost
"""

import asyncio
import contextlib
import random
import re
import threading
import time
from collections import Counter
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from reefknot.testing.history import Call, result_of

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BUFFER_BYTES = 1 << 20


class Faults(NamedTuple):
    """How probable each fault is, and how long it lasts at most, in seconds."""

    doubled: float = 0.3
    delayed: float = 0.3
    strayed: float = 0.02
    unheard: float = 0.02
    longest_delay: float = 0.06
    latest: float = 2.0


CALM = Faults(0, 0, 0, 0)


class _Way:
    """The way to one address."""

    def __init__(self, name, target):
        self.name = name
        self.target = target
        self.idle = []


class Network:
    """Use it as a context manager; ``way`` gives the port that leads to an address.

    Args:
        seed: of everything that is drawn.
        faults: how probable each is.
    """

    def __init__(self, seed, faults=Faults()):  # noqa: B008 - it never changes
        self.faults = faults
        #: What was passed on and what was done to it, by the way's name and the fault's.
        self.counts = Counter()
        #: Calls of branches as their senders saw them.
        self.calls = []
        self._rng = random.Random(f"network {seed}")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._ways, self._servers, self._late, self._open = [], [], set(), set()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def way(self, name, target):
        """The port that leads to ``target``, a port of 127.0.0.1."""
        way = _Way(name, target)
        self._ways.append(way)
        return self._run(self._listen(way))

    def calm_down(self):
        """From now on everything arrives once and at once; what was held back is delivered first."""
        self.faults = CALM
        self._run(self._deliver())

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self, way):
        server = await asyncio.start_server(lambda *both: self._serve(way, *both), "127.0.0.1", 0, backlog=256)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def _deliver(self):
        while self._late:
            await asyncio.gather(*self._late)

    async def _close(self):
        for server in self._servers:
            server.close()
        tasks = [*self._open, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for way in self._ways:
            for connection in way.idle:
                await _hang_up(connection)

    async def _serve(self, way, reader, writer):
        task = asyncio.current_task()
        self._open.add(task)
        try:
            while request := await _message(reader):
                answer = await self._pass_on(way, request)
                if not answer:
                    break
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass  # the sender is gone, or the test ends
        finally:
            self._open.discard(task)
            await _hang_up((reader, writer))

    async def _pass_on(self, way, request):
        """The answer that the sender gets; empty if it gets none."""
        started_ms = time.time() * 1000
        answer = await self._carried(way, request)
        split = urlsplit(request.split(b" ", 2)[1].decode())
        query = dict(parse_qsl(split.query))
        if "branch_id" in query and "op" in query:
            result = result_of(int(answer.split(b" ", 2)[1])) if answer else "unclear"
            ended_ms = time.time() * 1000
            self.calls.append(Call(query["gid"], query["branch_id"], query["op"], started_ms, ended_ms, result))
        return answer

    async def _carried(self, way, request):
        faults, rng = self.faults, self._rng
        self._count(way, "passed")
        if rng.random() < faults.delayed:
            self._count(way, "delayed")
            await asyncio.sleep(rng.uniform(0, faults.longest_delay))
        if rng.random() < faults.strayed:
            self._count(way, "strayed")
            self._send_late(way, request)
            return b""
        copy = rng.choice(("before", "together", "after")) if rng.random() < faults.doubled else ""
        if copy:
            self._count(way, "doubled")
        if copy == "before":
            await _exchange(way, request)
        elif copy == "together":
            self._keep(_exchange(way, request))
        answer = await _exchange(way, request)
        if copy == "after":
            self._send_late(way, request)
        if answer and rng.random() < faults.unheard:
            self._count(way, "unheard")
            return b""
        return answer

    def _send_late(self, way, request):
        seconds = self._rng.uniform(0, self.faults.latest)

        async def later():
            await asyncio.sleep(seconds)
            await _exchange(way, request)

        self._keep(later())

    def _keep(self, work):
        task = self._loop.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _count(self, way, what):
        self.counts[way.name, what] += 1


async def _exchange(way, request):
    """Send a request to the address; the answer, empty if there is none."""
    connection = None
    try:
        connection = way.idle.pop() if way.idle else await _connected(way)
        reader, writer = connection
        writer.write(request)
        answer = await _message(reader)
    except (OSError, asyncio.IncompleteReadError):
        answer = b""
    except asyncio.CancelledError:
        if connection:
            await _hang_up(connection)
        raise
    if answer and b"\r\nconnection: close" not in answer.lower():
        way.idle.append(connection)
    elif connection:
        await _hang_up(connection)
    if not answer:
        # The address is gone, and with it everything that leads there.
        while way.idle:
            await _hang_up(way.idle.pop())
    return answer


async def _hang_up(connection):
    _, writer = connection
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _connected(way):
    connection = await asyncio.open_connection("127.0.0.1", way.target, limit=_BUFFER_BYTES)
    writer = connection[1]
    if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
        # Nobody listens there, and the kernel gave this end the very same port: it would keep the address out.
        await _hang_up(connection)
        raise ConnectionRefusedError(f"port {way.target} was connected with itself")
    return connection


async def _message(reader):
    """One request or answer, head and body; empty at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head + (await reader.readexactly(int(length[1])) if length else b"")
    except asyncio.IncompleteReadError:
        return b""
