"""Workflows that a real server resumes through a route of each web framework."""

import contextlib

import pytest

from reefknot import AsyncClient, Client, Failure
from reefknot.testing.server import LocalServer, free_port
from reefknot.testing.services import serving
from reefknot.workflows import AsyncWorkflow, AsyncWorkflows, Workflows, workflow
from sdk.contrib_apps import Ledger, greet
from sdk.test_contrib_web import django_service


@workflow("greet")
async def greet_async(w: AsyncWorkflow, name: str) -> str:
    if name == "nobody":
        raise Failure("there is nobody")

    async def said() -> str:
        return f"hello {name}"

    return await w.do(said)


def fastapi_app(url, callback):
    """Its client belongs to its event loop, and is closed there."""
    from fastapi import FastAPI

    from reefknot.contrib.fastapi import workflows

    client = AsyncClient(url)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(workflows(AsyncWorkflows(client, [greet_async], callback=callback)))
    return contextlib.nullcontext(app)


@contextlib.contextmanager
def starlette_app(url, callback):
    from starlette.applications import Starlette

    from reefknot.contrib.starlette import workflows

    with Client(url) as client:
        yield Starlette(routes=[workflows(Workflows(client, [greet], callback=callback))])


@contextlib.contextmanager
def flask_app(url, callback):
    from flask import Flask

    from reefknot.contrib.flask import workflows

    app = Flask(__name__)
    with Client(url) as client:
        app.register_blueprint(workflows(Workflows(client, [greet], callback=callback)))
        yield app


APPS = {"fastapi": fastapi_app, "starlette": starlette_app, "flask": flask_app}


@pytest.fixture(scope="module")
def server():
    with LocalServer() as server:
        yield server


@pytest.mark.parametrize("framework", sorted(APPS))
def test_the_server_resumes_a_workflow(server, framework):
    port = free_port()
    callback = f"http://127.0.0.1:{port}/workflow"
    with APPS[framework](server.url, callback) as app, serving(app, port):
        resumes(server, callback)


def test_the_server_resumes_a_workflow_in_django(server, tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", server.url, "")
    with django_service(ledger, "wsgi", {}) as url:
        resumes(server, f"{url}/workflow")


def resumes(server, callback):
    """Workflows that a program of its own stores, so that nothing of the service has run them before."""
    with Client(server.url) as client:
        elsewhere = Workflows(client, [greet], callback=callback)
        gid = elsewhere.start(greet, "alice")
        server.cron(60)
        assert server.wait_for(gid, "succeed") == "succeed"
        assert elsewhere.execution(gid).run(greet, "alice") == "hello alice"
        refused = elsewhere.start(greet, "nobody")
        server.cron(60)
        assert server.wait_for(refused, "failed") == "failed"
        assert client.get(refused).reason == "there is nobody"
