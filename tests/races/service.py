"""What the races need in one event loop: nodes behind real HTTP, a business service, and a client."""

import asyncio
import contextlib
import json
import random
import re
import time
from urllib.parse import parse_qs

from reefknot.app import listen, serve_node
from reefknot.callers.base import CallerSettings
from reefknot.callers.client import BranchClient
from reefknot.callers.target import Targets
from reefknot.clock import SystemClock
from reefknot.config import Config
from reefknot.failpoints import Failpoints
from reefknot.node import Node
from reefknot.store import open_store
from reefknot.testing.effects import Effects
from reefknot.testing.history import Ack, Call, History, stored

_HEAD = re.compile(rb"(GET|POST) (/[^ ?]*)\??([^ ]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n{"dtm_result":"SUCCESS"} '
SLOW_SECONDS = 0.02


def now_ms():
    return time.time() * 1000


class Service:
    """Answers every branch call with success, ``/slow`` ones after a while, and keeps a log of them."""

    def __init__(self):
        self.calls = []
        self.bodies = []
        self.effects = Effects()
        self._server = None
        self._peers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for peer in self._peers:
            peer.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)
        await asyncio.sleep(0)

    def url(self, path):
        return f"http://127.0.0.1:{self._port}{path}"

    async def _serve(self, reader, writer):
        self._peers.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                await self._answer(head, body)
                writer.write(_OK)

    async def _answer(self, head, body):
        _, path, query = _HEAD.match(head).groups()
        fields = {key: values[0] for key, values in parse_qs(query.decode()).items()}
        key = fields["gid"], fields["branch_id"], fields["op"]
        position, started_ms = len(self.calls), now_ms()
        self.calls.append(Call(*key, started_ms, result=""))
        self.bodies.append((fields["gid"], body))
        if path == b"/slow":
            await asyncio.sleep(SLOW_SECONDS)
        self.effects.apply(*key)
        self.calls[position] = Call(*key, started_ms, now_ms())


class DistantStore:
    """A memory store as if behind a network: every call takes a moment before and after it is applied."""

    def __init__(self, inner, rng):
        self._inner = inner
        self._rng = rng
        self.now_ms = inner.now_ms
        self.name = inner.name

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def call(*args, **kwargs):
            await asyncio.sleep(self._rng.uniform(0, 0.003))
            result = await method(*args, **kwargs)
            await asyncio.sleep(self._rng.uniform(0, 0.003))
            return result

        return call


class Arena:
    """Nodes over one store with a client that asks any of them, and what came of it."""

    def __init__(self, seed, service):
        self.rng = random.Random(seed)
        self.service = service
        self.acks, self.seen, self.forced = [], [], set()
        self._targets = []
        self._client = BranchClient(CallerSettings(make_id=str, connections_per_host=256))

    @contextlib.asynccontextmanager
    async def serving(self, store_url, nodes):
        """Start the nodes; stop them in the end."""
        clock, failpoints, stop = SystemClock(), Failpoints(), asyncio.Event()
        store = await open_store(store_url, clock=clock, failpoints=failpoints)
        if store.name == "memory":
            store = DistantStore(store, self.rng)
        config = Config()
        running, started = [], []
        for number in range(nodes):
            node = Node(
                config, store, clock=clock, failpoints=failpoints, rng=random.SystemRandom(), owner=f"n{number}"
            )
            listener = listen("127.0.0.1", 0)
            await node.start()
            started.append(node)
            running.append(asyncio.ensure_future(serve_node(node, listener, config, stop)))
            self._targets.append(Targets().get(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        try:
            yield
        finally:
            await self._client.close()
            stop.set()
            await asyncio.gather(*running)
            for node in started:
                await node.stop()
            await store.close()

    async def ask(self, verb, gid, *, ends="", rows=(), **fields):
        """POST one verb to a random node; the status of the answer."""
        body = json.dumps({"gid": gid, **fields}).encode()
        target = self.rng.choice(self._targets)
        answer = await self._client.send("POST", target, f"/api/dtmsvr/{verb}", {}, body, 30.0)
        if answer.status == 200:
            self.acks.append(Ack(verb, gid, ends, rows))
        return answer.status

    async def at_once(self, *requests):
        """Send requests at the same time in random order; the statuses in the order given."""
        order = list(range(len(requests)))
        self.rng.shuffle(order)
        tasks = {index: asyncio.ensure_future(requests[index]) for index in order}
        await asyncio.gather(*tasks.values())
        return [tasks[index].result() for index in range(len(requests))]

    async def look(self, gid):
        """The transaction as some node shows it."""
        answer = await self._client.send(
            "GET", self.rng.choice(self._targets), f"/api/dtmsvr/query?gid={gid}", {}, b"", 30.0
        )
        assert answer.status == 200, answer.body
        return stored(json.loads(answer.body))

    async def end(self, gid):
        """Wait for the end; the final status."""
        until = time.monotonic() + 20
        while not (found := await self.look(gid)).finished_ms:
            assert time.monotonic() < until, f"{gid} is still {found.status}"
            await asyncio.sleep(0.01)
        self.seen.append(found)
        return found.status

    def calls(self, gid):
        """How often each operation of a transaction was called."""
        counts = {}
        for call in self.service.calls:
            if call.gid == gid:
                counts[call.branch_id, call.op] = counts.get((call.branch_id, call.op), 0) + 1
        return counts

    async def history(self):
        """Everything, with a last look at each transaction."""
        final = [await self.look(found.gid) for found in self.seen]
        return History(
            acks=tuple(self.acks),
            calls=tuple(self.service.calls),
            final=tuple(final),
            effects=self.service.effects.all,
            seen=tuple(self.seen),
            forced=frozenset(self.forced),
            # The one call that was allowed before a forced stop waits for a place and for a connection, on a busy
            # machine half a second; that it is only one, the race itself looks at.
            lease_ms=1_500,
            slack_ms=100,
        )
