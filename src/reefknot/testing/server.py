"""Whole servers for tests: one in this process with a clock to move, one as a process to kill."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from reefknot.app import FAILPOINTS_VARIABLE, listen, serve_node
from reefknot.config import Config
from reefknot.failpoints import Failpoints
from reefknot.node import Node
from reefknot.store import open_store
from reefknot.store.base import Store
from reefknot.testing.clock import ShiftedClock
from reefknot.testing.databases.processes import free_port

#: How long a test waits for something that should take milliseconds.
PATIENCE_SECONDS = 20.0
#: The same for a process to start: several at once on a busy machine take long.
START_SECONDS = 60.0

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """What a server answered."""

    status: int
    body: bytes
    content_type: str = ""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Sends plain HTTP requests to a server, as a program without an SDK would."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    @property
    def url(self) -> str:
        """The server's base URL as DTM's clients are given it."""
        return f"http://{self._host}:{self._port}/api/dtmsvr"

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_SECONDS * 3)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return Answer(response.status, response.read(), response.getheader("Content-Type") or "")

    def post(self, verb: str, fields: Mapping[str, object] | bytes) -> Answer:
        """POST to one of the ``/api/dtmsvr`` verbs."""
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return self.send("POST", f"/api/dtmsvr/{verb}", body)

    def get(self, verb: str, **query: object) -> Answer:
        """GET one of the ``/api/dtmsvr`` verbs."""
        return self.send("GET", f"/api/dtmsvr/{verb}?{urlencode(query)}")

    def jsonrpc(self, method: str, params: object, request_id: object = "1") -> Answer:
        """Call a method over JSON-RPC."""
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        return self.send("POST", "/api/json-rpc", json.dumps(body).encode())

    def new_gid(self) -> str:
        """A gid from the server."""
        gid: str = self.get("newGid").json()["gid"]
        return gid

    def status(self, gid: str) -> str:
        """The status of a transaction; empty if there is none."""
        found = self.get("query", gid=gid).json()["transaction"]
        return found["status"] if found else ""

    def branches(self, gid: str) -> list[str]:
        """The status of each branch row, in stored order."""
        return [row["status"] for row in self.get("query", gid=gid).json()["branches"]]

    def wait_for(self, gid: str, *statuses: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until the transaction has one of the statuses; fails after ``seconds``."""
        until = time.monotonic() + seconds
        while (status := self.status(gid)) not in statuses:
            if time.monotonic() > until:
                raise AssertionError(f"{gid} is {status!r} after {seconds} s, not one of {statuses}")
            time.sleep(0.01)
        return status


class LocalServer(Client):
    """A whole server in this process: real HTTP on a free port, real store, a clock to move.

    Use it as a context manager. Its recovery runs only when ``cron`` is called, unless ``poll``.

    Args:
        store_url: the store to open.
        poll: whether recovery also runs by itself, as in production.
        grpc: whether it has a gRPC port too, a free one, unless ``grpc_port`` is among the settings.
        settings: fields of ``Config`` that differ from the defaults.
    """

    def __init__(
        self, store_url: str = "memory://", *, poll: bool = False, grpc: bool = False, **settings: Any
    ) -> None:
        self.clock = ShiftedClock()
        self.failpoints = Failpoints()
        self._store_url = store_url
        self._poll = poll
        self._config = Config(**{"grpc_port": free_port() if grpc else 0, **settings})
        self._listener = listen("127.0.0.1", 0)
        super().__init__(*self._listener.getsockname()[:2])
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="local server", daemon=True)
        self.node: Node
        self.store: Store
        #: Where it speaks gRPC, ``host:port``; empty if it does not.
        self.grpc_address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(PATIENCE_SECONDS)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - handed to the test's thread
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.store = await open_store(self._store_url, clock=self.clock, failpoints=self.failpoints)
        try:
            self.node = Node(
                self._config,
                self.store,
                clock=self.clock,
                failpoints=self.failpoints,
                rng=random.SystemRandom(),
                owner=f"test:{self._port}",
            )
            port = self._config.grpc_port
            grpc = self.node.grpc_server(port) if port else None
            self.grpc_address = grpc.address if grpc else ""
            await self.node.start(poll=self._poll)
            try:
                server = asyncio.create_task(serve_node(self.node, self._listener, self._config, self._stop, grpc))
                self._ready.set()
                await server
            finally:
                await self.node.stop()
                if grpc is not None:
                    await grpc.stop()
        finally:
            await self.store.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def settle(self) -> None:
        """Wait until this server drives nothing."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self.run(self._driving()):
            if time.monotonic() > until:
                raise AssertionError("the server is still driving transactions")
            time.sleep(0.005)

    async def _driving(self) -> int:
        """How much is being driven. On the loop, behind the drives that were started but have not run yet."""
        return len(self.node.leases) + self.node.poller.active

    def cron(self, plus: float = 0.0, *, look_ahead: float = 180.0) -> list[str]:
        """One round of recovery, as DTM's tests call it; returns the gids that were driven.

        Args:
            plus: seconds by which time goes on first, for good.
            look_ahead: also takes what is due within so many seconds, without moving time.
        """
        self.settle()
        self.clock.shift(plus)
        return self.run(self._cron(look_ahead))

    async def _cron(self, look_ahead: float) -> list[str]:
        deadline = self.node.leases.deadline()
        self.clock.shift(look_ahead)
        try:
            claimed = await self.store.claim(self.node.owner, 100, self.node.leases.lease_ms)
        finally:
            self.clock.shift(-look_ahead)
        drives = [self.node.driving.recover(one, deadline) for one in claimed]
        for ended in await asyncio.gather(*drives, return_exceptions=True):
            # A drive is cancelled when somebody decides from outside, for example the branch it calls.
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended
        return [one.record.gid for one in claimed]


class ServerProcess(Client):
    """A server as a process of its own, to be killed, stopped and started again.

    Args:
        store_url: the store; must outlive the process for a restart to make sense.
        failpoints: armed in the next start, by name.
        environment: further settings, for example ``REEFKNOT_RETRY_INTERVAL``.
        log: a file for its output.
        grpc: whether it has a gRPC port too, a free one.
    """

    def __init__(
        self,
        store_url: str,
        *,
        failpoints: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        grpc: bool = False,
    ) -> None:
        super().__init__("127.0.0.1", free_port())
        self._grpc_port = free_port() if grpc else 0
        #: Where it speaks gRPC, ``host:port``; empty if it does not.
        self.grpc_address = f"127.0.0.1:{self._grpc_port}" if grpc else ""
        self._store_url = store_url
        self._environment = dict(environment or {})
        self._log = log
        self.failpoints = dict(failpoints or {})
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            AssertionError: it ended or did not answer in time; the text has the end of its log.
        """
        environment = {**os.environ, **self._environment}
        environment[FAILPOINTS_VARIABLE] = ",".join(f"{name}={action}" for name, action in self.failpoints.items())
        command = [sys.executable, "-m", "reefknot", "serve", "--store", self._store_url]
        with Path(self._log or os.devnull).open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                [*command, "--http-port", str(self._port), "--grpc-port", str(self._grpc_port)],
                env=environment,
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the server did not start: {self.log_text()[-2000:]}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether the server answers a ping."""
        try:
            return self.send("GET", "/api/ping").status == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the process to end; its exit code, negative for a signal."""
        if self.process is None:
            raise AssertionError("the server was not started")
        return self.process.wait(seconds)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal, SIGKILL if not said otherwise, and wait for the end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
            self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """Stop cleanly; the exit code."""
        self.kill(signal.SIGTERM)
        return self.wait()

    def log_text(self) -> str:
        """What the process wrote."""
        return self._log.read_text(errors="replace") if self._log and self._log.exists() else ""
