"""The conformance suite over every store of this package."""

import secrets

import pytest

from reefknot.failpoints import disarmed
from reefknot.store import open_store as open_by_url
from reefknot.store import store_names
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store import StoreConformance

URLS = {
    "memory": ["memory://"],
    "sqlite": ["sqlite:///{directory}/store.db"],
    # Time is moved by hand here, so it is this process's; the tests of the store show the database's.
    "postgres": [
        "{postgres}?schema={name}&clock=process",
        "{postgres}?schema={name}&clock=process&pooler=1",
    ],
    "mysql": ["{mysql}?clock=process"],
    "redis": ["{redis}?prefix={name}&clock=process", "{redis_cluster}?prefix={name}&clock=process"],
}

#: Stores that need a server: its fixture is asked for when the first of its tests runs.
SERVERS = ("postgres", "mysql", "redis", "redis_cluster")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=[url for urls in URLS.values() for url in urls])
def open_store(request, tmp_path, clock):
    servers = {name: request.getfixturevalue(name).url for name in SERVERS if f"{{{name}}}" in request.param}
    url = request.param.format(directory=tmp_path, name=f"test_{secrets.token_hex(6)}", **servers)
    return lambda: open_by_url(url, clock=clock, failpoints=disarmed())


@pytest.mark.anyio
class TestStores(StoreConformance):
    pass


def test_every_store_is_in_the_suite():
    assert set(store_names()) == set(URLS)
