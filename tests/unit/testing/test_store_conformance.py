import pytest

from reefknot.failpoints import disarmed
from reefknot.store.memory import MemoryStore
from reefknot.testing.clock import ManualClock
from reefknot.testing.conformance.store import SkipMissing
from reefknot.testing.conformance.store.lifecycle import LifecycleCases

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Honest(MemoryStore):
    missing = frozenset({"wake_later"})

    async def wake_later(self, later_than_ms, limit):
        raise NotImplementedError("wake_later")


class Silent(MemoryStore):
    missing = frozenset({"wake_later"})

    async def wake_later(self, later_than_ms, limit):
        return 0, False


def opener(kind):
    async def open_store():
        return kind(ManualClock(), disarmed())

    return open_store


async def test_cases_of_missing_methods_are_skipped():
    store = SkipMissing(await opener(Honest)())
    with pytest.raises(pytest.skip.Exception):
        await store.wake_later(0, 1)
    assert await store.wake(()) == 0


async def test_a_missing_method_must_say_so():
    await LifecycleCases().test_missing_methods_say_so(opener(Honest))
    with pytest.raises(pytest.fail.Exception):
        await LifecycleCases().test_missing_methods_say_so(opener(Silent))
