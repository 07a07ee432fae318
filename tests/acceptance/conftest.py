"""Fixtures of the acceptance suite: a whole server on one store, a business, and a client between them.

Every row of ``rows.txt`` is a test. The marker ``conformance`` names the row, or several:

    @pytest.mark.conformance("TestSagaNormal")
    @pytest.mark.conformance("TestSagaAbnormal", differs="what is otherwise here, and why")
    @pytest.mark.conformance("TestXaDuplicate", part="what of the row is shown; the rest needs a client")

``deviation`` marks a test of a deliberate difference from DTM; its name stands in docs/compatibility.md.
``python tests/acceptance/conformance.py --write`` makes docs/conformance.md of the rows and markers.

Everything runs on every store; database servers are started for it. One store of choice, by name or
URL, with one command:

    ACCEPTANCE_STORE=postgres pytest tests/acceptance
    ACCEPTANCE_STORE='sqlite:///{directory}/own.db' pytest tests/acceptance
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acceptance.application import Application
from acceptance.grpc_application import GrpcApplication, GrpcBank
from reefknot.clock import SystemClock
from reefknot.failpoints import disarmed
from reefknot.store import open_store
from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer

#: Tests move the clock, so time is this process's; a name for each server keeps them apart.
STORES = {
    "memory": "memory://",
    "sqlite": "sqlite:///{directory}/reefknot.db",
    "postgres": "{postgres}?schema={name}&clock=process",
    "mariadb": "{mariadb}?clock=process",
    "redis": "{redis}?prefix={name}&clock=process",
    "redis-cluster": "{redis_cluster}?prefix={name}&clock=process",
}
SERVERS = ("postgres", "mariadb", "redis", "redis_cluster")
CHOSEN = os.environ.get("ACCEPTANCE_STORE", "")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "deviation(row): shows this row of the differences from DTM")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session", params=[CHOSEN] if CHOSEN else list(STORES))
def new_store_url(request) -> Callable[[Path], str]:
    """Makes the URL of an empty store; an embedded one is kept in the directory."""
    template = STORES.get(request.param, request.param)
    servers = {name: request.getfixturevalue(name) for name in SERVERS if f"{{{name}}}" in template}

    def url(directory: Path) -> str:
        name = f"test_{secrets.token_hex(6)}"
        places = {key: server.url for key, server in servers.items()}
        if "mariadb" in servers:
            places["mariadb"] = servers["mariadb"].create_database(name)
        return template.format(directory=directory, name=name, **places)

    return url


@pytest.fixture(scope="session")
def shared_server(new_store_url, tmp_path_factory) -> Iterator[LocalServer]:
    with LocalServer(new_store_url(tmp_path_factory.mktemp("store")), grpc=True) as server:
        yield server


def failed_tasks(server: LocalServer) -> list[str]:
    """The metric that counts background work that ended with a defect."""
    text = server.send("GET", "/api/metrics").body.decode()
    return [line for line in text.splitlines() if line.startswith("reefknot_task_failures_total")]


@pytest.fixture
def server(shared_server) -> Iterator[LocalServer]:
    """A server with default settings on an empty store; recovery only by ``cron``.

    After each test nothing may be left running and no background work of the server have failed.
    """
    before = failed_tasks(shared_server)
    yield shared_server
    shared_server.settle()
    assert failed_tasks(shared_server) == before
    shared_server.run(shared_server.store.reset())
    shared_server.run(shared_server.node.topics.refresh())


@pytest.fixture
def serve(new_store_url, tmp_path):
    """Starts a server with settings of its own on a store of its own; stopped after the test."""
    running: list[LocalServer] = []

    def start(**settings) -> LocalServer:
        directory = tmp_path / str(len(running))
        directory.mkdir()
        server = LocalServer(new_store_url(directory), **settings)
        running.append(server)
        return server.__enter__()

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture
def bank() -> Iterator[Participant]:
    """The business: every path succeeds unless a test scripts it."""
    with Participant() as participant:
        yield participant


@pytest.fixture
def app(request, server, bank) -> Application:
    """A client of the shared server whose branches are at the bank; it comes over HTTP unless parametrized."""
    return Application(server, bank, getattr(request, "param", "http"))


@pytest.fixture
def grpc_bank() -> Iterator[GrpcBank]:
    """The business over gRPC: every method succeeds unless a test scripts it."""
    with GrpcBank() as participant:
        yield participant


@pytest.fixture
def grpc_app(server, grpc_bank) -> Iterator[GrpcApplication]:
    """A client that comes over gRPC, and whose branches are at the bank's gRPC service."""
    with GrpcApplication(server, grpc_bank) as client:
        yield client


@pytest.fixture
async def store(new_store_url, tmp_path):
    """A store of its own without a server, and the clock that it reads."""
    opened = await open_store(new_store_url(tmp_path), clock=SystemClock(), failpoints=disarmed())
    yield opened
    await opened.close()
