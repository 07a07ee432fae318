"""The conformance suite over every store of this package that needs no other program."""

import pytest

from reefknot.failpoints import disarmed
from reefknot.store import open_store as open_by_url
from reefknot.store import store_names
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store import StoreConformance

URLS = {
    "memory": ["memory://"],
    "sqlite": ["sqlite:///{directory}/store.db?writer=thread", "sqlite:///{directory}/store.db?writer=process"],
}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(params=[url for urls in URLS.values() for url in urls])
def open_store(request, tmp_path, clock):
    url = request.param.format(directory=tmp_path)
    return lambda: open_by_url(url, clock=clock, failpoints=disarmed())


@pytest.mark.anyio
class TestStores(StoreConformance):
    pass


def test_every_store_is_in_the_suite():
    assert set(store_names()) == set(URLS)
