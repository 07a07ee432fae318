"""Several nodes over one real store, under faults.

Every run has a seed, and prints the command that repeats it. One store of choice, and longer:

    pytest tests/chaos/test_nodes.py --chaos-store redis --chaos-seconds 60 --chaos-seed 7
"""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from chaos.stores import STORES
from chaos.watch import StoreWatch
from reefknot.testing.server import ServerProcess

#: The stores that every run covers; a cluster only where it is asked for.
USUAL = ("postgres", "mariadb", "redis")

#: Everything that takes time is short, so that much happens in little time.
SETTINGS = {
    "REEFKNOT_RETRY_INTERVAL": "1",
    "REEFKNOT_RETRY_INTERVAL_MAX": "4",
    "REEFKNOT_REQUEST_TIMEOUT": "2",
    "REEFKNOT_TRANS_CRON_INTERVAL": "1",
    "REEFKNOT_SHUTDOWN_TIMEOUT": "2",
    "REEFKNOT_LOG_LEVEL": "warn",
}


def pytest_addoption(parser):
    group = parser.getgroup("chaos")
    group.addoption("--chaos-store", choices=sorted(STORES), help="run on this store only")
    group.addoption("--chaos-seconds", type=float, default=12.0, help="how long faults go on in each run")
    group.addoption("--chaos-seed", type=int, help="repeat the run with this seed")


def pytest_generate_tests(metafunc):
    if "store" in metafunc.fixturenames and not metafunc.definition.get_closest_marker("parametrize"):
        chosen = metafunc.config.getoption("chaos_store", None)
        metafunc.parametrize("store", [chosen] if chosen else USUAL, indirect=True, scope="session")


def missing(what):
    """Skip what needs a program that is not installed; continuous integration must have it."""
    if os.environ.get("CI"):
        pytest.fail(f"no {what} on this machine")
    pytest.skip(f"no {what} on this machine")


@pytest.fixture(scope="session")
def store(request):
    """A private server of the kind that the test's parameter names."""
    kind = STORES[request.param]
    if not kind.present():
        missing(f"{request.param} server")
    store = kind()
    with store.server:
        yield store


@pytest.fixture
def seconds(request):
    return request.config.getoption("chaos_seconds", 12.0)


@pytest.fixture
def seed(request, seconds):
    given = request.config.getoption("chaos_seed", None)
    seed = random.randrange(1_000_000) if given is None else given
    name = request.node.nodeid.partition("[")[2].rstrip("]")
    only = f" --chaos-store {name}" if name in STORES else ""
    print(f"repeat: pytest {request.node.path} --chaos-seconds {seconds:g} --chaos-seed {seed}{only}")
    return seed


@pytest.fixture
def watch(store):
    with StoreWatch(store.server.url) as watch:
        yield watch


@pytest.fixture
def start_nodes(store, tmp_path):
    """Starts server processes over the store; what is left of them is killed."""
    started = []

    def start(count, *environments, **settings):
        chosen = {f"REEFKNOT_{key.upper()}": str(value) for key, value in settings.items()}
        for number in range(count):
            own = environments[number] if environments else {}
            log = tmp_path / f"node-{number}.log"
            started.append(ServerProcess(store.server.url, environment={**SETTINGS, **chosen, **own}, log=log))
        with ThreadPoolExecutor() as several:
            list(several.map(ServerProcess.start, started))
        return started

    yield start
    for node in started:
        node.kill()
