"""Both faces of the client under one form: a test is written once and runs against each."""

import asyncio
import contextlib
import inspect

from reefknot import AsyncClient, Client

FACES = ("sync", "async")
PROTOCOLS = ("http", "json-rpc", "grpc")


def server_url(server, protocol):
    """Where a server of the test kit speaks this protocol."""
    base = server.url.removesuffix("/api/dtmsvr")
    return {"http": base, "json-rpc": f"{base}/api/json-rpc", "grpc": f"grpc://{server.grpc_address}"}[protocol]


@contextlib.contextmanager
def open_client(face, url, **options):
    """A client of that face; the asynchronous one is driven from here, call by call."""
    if face == "sync":
        with Client(url, **options) as client:
            yield client
        return
    with asyncio.Runner() as runner, Driven(AsyncClient(url, **options), runner) as client:
        yield client


class Driven:
    """An object of the asynchronous face whose coroutines are run where they are called."""

    def __init__(self, inner, runner):
        self._inner = inner
        self._runner = runner

    def __getattr__(self, name):
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        return lambda *positional, **named: self._out(value(*positional, **named))

    def __enter__(self):
        entered = self._run(self._inner.__aenter__())
        return self if entered is self._inner else entered

    def __exit__(self, *error):
        return self._run(self._inner.__aexit__(*error))

    def _out(self, value):
        if inspect.isawaitable(value):
            value = self._run(value)
        if value is self._inner:
            return self
        return Driven(value, self._runner) if type(value).__module__.startswith("reefknot.client._async") else value

    def _run(self, awaitable):
        async def awaited():
            return await awaitable

        return self._runner.run(awaited())
