"""The server process: one node behind uvicorn and gRPC, from a Config to a clean stop.

Order of a start: logging, store, node, listeners, registration. Order of a stop, on SIGTERM or SIGINT:
deregistered, no new requests, running requests, running drives, leases released, gRPC's connections and the store
closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from reefknot import logs
from reefknot.api.connection import ClientConnection
from reefknot.callers.pool import show
from reefknot.clock import SystemClock
from reefknot.config import Config, SecretUrl
from reefknot.durability import require_full
from reefknot.errors import ConfigError
from reefknot.failpoints import Failpoints
from reefknot.node import Node
from reefknot.store import open_store
from reefknot.workers import WORKER_VARIABLE, Workers

if TYPE_CHECKING:
    from reefknot.api.grpc_server import GrpcServer

_log = logging.getLogger(__name__)

FAILPOINTS_VARIABLE = "REEFKNOT_FAILPOINTS"
#: The collector of cyclic garbage takes 3 % of the time at its default threshold, and our objects have few cycles.
GC_THRESHOLD = (50_000, 20, 20)
BACKLOG = 2_048
#: Longer than the keep-alive of the proxies and clients in front, so that they close first.
KEEP_ALIVE_SECONDS = 75


def serve(config: Config) -> int:
    """Run a server until it is told to stop.

    Returns:
        The exit code: 0 after a clean stop.

    Raises:
        ConfigError: a setting cannot be used: the port is taken, the store is in use.
        StoreUnavailable: the store does not answer.
    """
    logs.configure(config.log_level, config.log.outputs, config.log_format)
    if config.workers > 1 and WORKER_VARIABLE not in os.environ:
        return _serve_with_workers(config)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))
    return 0


def _serve_with_workers(config: Config) -> int:
    """Run several node processes on the same ports; this one only watches them.

    Each address is held by a socket that does not listen, so it is free to the workers and to nobody else.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_require_shared(config))
    with contextlib.ExitStack() as held:
        holder = held.enter_context(contextlib.closing(bound_socket(config.http_host, config.http_port, share=True)))
        port = holder.getsockname()[1]
        if config.grpc_port:
            grpc_host = config.grpc_host or config.http_host
            taken = bound_socket(grpc_host, config.grpc_port, share=True, names="GrpcHost, GrpcPort")
            held.enter_context(contextlib.closing(taken))
        _log.info("starting workers", extra={"workers": config.workers, "port": port})
        return Workers([sys.executable, "-m", "reefknot", *sys.argv[1:]], config.workers, port).run()


async def _require_shared(config: Config) -> None:
    """Refuse a store of one process once, here: workers that find each other in it would say less."""
    store = await open_store(config.store.location().reveal(), clock=SystemClock(), failpoints=Failpoints())
    try:
        if not store.shared:
            raise ConfigError(f"Workers: a {store.name} store belongs to one process; use 1, or a database server")
    finally:
        await store.close()


async def _serve(config: Config) -> None:
    failpoints = Failpoints.parse(os.environ.get(FAILPOINTS_VARIABLE, ""))
    if failpoints.armed:
        _log.warning("failpoints are armed: this server will misbehave on purpose")
    location: SecretUrl = config.store.location()
    port = int(os.environ.get(WORKER_VARIABLE) or config.http_port)
    listener = listen(config.http_host, port, share=config.workers > 1)
    with contextlib.closing(listener):
        clock = SystemClock()
        store = await open_store(location.reveal(), clock=clock, failpoints=failpoints)
        try:
            owner = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(6)}"
            node = Node(config, store, clock=clock, failpoints=failpoints, rng=random.SystemRandom(), owner=owner)
            if config.require_durability:
                await require_full(node.durability)
            grpc = node.grpc_server(config.grpc_port, share=config.workers > 1) if config.grpc_port else None
            host, port = listener.getsockname()[:2]
            _log.info(
                "serving",
                extra={
                    "http": f"http://{show((host, port))}/api/dtmsvr",
                    "grpc": grpc.address if grpc else "",
                    "store": str(location),
                    "owner": owner,
                },
            )
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signum, stop.set)
            await node.start()
            drain_seconds = 0.0
            try:
                gc.collect()
                gc.freeze()
                gc.set_threshold(*GC_THRESHOLD)
                drain_seconds = await serve_node(node, listener, config, stop, grpc)
            finally:
                await node.stop(drain_seconds)
                if grpc is not None:
                    await grpc.stop()
        finally:
            await store.close()
    _log.info("stopped")


def listen(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        host: the address.
        port: the port; 0 is any free one.
        share: whether other processes that also share may listen on it.

    Raises:
        ConfigError: the address cannot be used, or somebody listens there already.
    """
    listener = bound_socket(host, port, share=share)
    listener.listen(BACKLOG)
    return listener


def bound_socket(host: str, port: int, *, share: bool, names: str = "HttpHost, HttpPort") -> socket.socket:
    """A socket that has the address and does not listen yet; see ``listen``. ``names`` are the settings it is from."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        problem = f"cannot listen on {show((host, port))} ({error.strerror})"
        raise ConfigError(f"{names}: {problem}; choose another port") from error
    return bound


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to us: they stop more than the listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_node(
    node: Node, listener: socket.socket, config: Config, stop: asyncio.Event, grpc: GrpcServer | None = None
) -> float:
    """Answer requests until ``stop`` is set, then finish the ones that are running.

    The gRPC port stays open after that, so that whoever asks for our health is answered: stop it last.

    Returns:
        Seconds of ``ShutdownTimeout`` that are left for the drives.
    """
    server = _Uvicorn(
        uvicorn.Config(
            node.api,
            loop="none",
            http=ClientConnection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=config.shutdown_timeout,
        )
    )
    if grpc is not None:
        await grpc.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    # The sockets listen by now: whoever comes early waits a moment.
    node.registrations.start()
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    began = time.monotonic()
    # First of all clients learn that they had better ask another server.
    await node.registrations.withdraw()
    server.should_exit = True
    node.watching.stop()
    if grpc is not None:
        await asyncio.gather(serving, grpc.drain(config.shutdown_timeout))
    await serving
    return max(config.shutdown_timeout - (time.monotonic() - began), 0.0)
