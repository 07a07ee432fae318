"""A user's service on a free port, in this process: for tests and examples.

    with serving(app) as url:                  # an ASGI or WSGI application
        client.saga().step(f"{url}/out", ...)

The service answers real requests over a real socket. What it needs to be killed in mid-call runs as a
process of its own instead: ``reefknot.testing.server.ServerProcess`` does that for the server.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn

from reefknot.app import listen

_START_SECONDS = 20.0


@contextlib.contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    """Serve an application while the block runs.

    Args:
        app: an ASGI or a WSGI application: FastAPI, Starlette, Flask, Django, or a plain function.
        port: on 127.0.0.1; 0 is any free one.

    Yields:
        Its base URL, such as ``http://127.0.0.1:41234``.

    Raises:
        RuntimeError: it did not start; its log says why.
    """
    with _asgi(app, port) if _is_asgi(app) else _wsgi(app, port) as url:
        yield url


def _is_asgi(app: Any) -> bool:
    """Whether it is called with scope, receive and send: a coroutine function, or an object whose call is one."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None))  # noqa: B004 - it is looked at, not called


@contextlib.contextmanager
def _asgi(app: Any, port: int) -> Iterator[str]:
    with contextlib.closing(listen("127.0.0.1", port)) as listener:
        config = uvicorn.Config(app, lifespan="auto", log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="asgi service", daemon=True)
        thread.start()
        until = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise RuntimeError("the service did not start; see the log of uvicorn")
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name is that of the base class
        logging.getLogger(__name__).debug(format, *args)


@contextlib.contextmanager
def _wsgi(app: Any, port: int) -> Iterator[str]:
    with make_server("127.0.0.1", port, app, server_class=_ThreadingServer, handler_class=_QuietHandler) as server:
        threading.Thread(target=server.serve_forever, name="wsgi service", daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
