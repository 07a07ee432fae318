import asyncio

import pytest

from reefknot.errors import Overloaded, StoreUnavailable
from reefknot.failpoints import Failpoints, disarmed
from reefknot.store.groupcommit import GroupCommit

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Ledger:
    """Commits batches of numbers; numbers in ``poison`` fail, and with them the whole batch."""

    def __init__(self, poison=()):
        self.poison = set(poison)
        self.batches = []
        self.tried = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def execute(self, batch):
        await self.gate.wait()
        self.tried.append(list(batch))
        if bad := self.poison.intersection(batch):
            raise ValueError(f"poison {min(bad)}")
        self.batches.append(list(batch))
        return [number * 10 for number in batch]


async def test_each_caller_gets_its_own_result_after_the_commit():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed())
    ledger.gate.clear()
    futures = [group.submit(number) for number in range(5)]
    await asyncio.sleep(0.01)
    assert not any(future.done() for future in futures)
    ledger.gate.set()
    assert await asyncio.gather(*futures) == [0, 10, 20, 30, 40]


async def test_what_queues_during_a_commit_makes_the_next_batch():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed())
    ledger.gate.clear()
    first = group.submit(0)
    await asyncio.sleep(0)
    rest = [group.submit(number) for number in (1, 2, 3)]
    ledger.gate.set()
    await asyncio.gather(first, *rest)
    assert ledger.batches == [[0], [1, 2, 3]]
    await group.submit(4)
    assert ledger.batches[-1] == [4]


async def test_batches_have_a_largest_size():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed(), max_batch=4)
    await asyncio.gather(*(group.submit(number) for number in range(10)))
    assert ledger.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("poison", [{0}, {15}, {7}, {3, 4}, {0, 5, 9, 15}, set(range(16))])
async def test_poison_fails_alone(poison):
    ledger = Ledger(poison)
    group = GroupCommit(ledger.execute, failpoints=disarmed())
    answers = await asyncio.gather(*(group.submit(number) for number in range(16)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if number in poison:
            assert isinstance(answer, ValueError)
            assert str(answer) == f"poison {number}"
        else:
            assert answer == number * 10
    committed = [number for batch in ledger.batches for number in batch]
    assert committed == [number for number in range(16) if number not in poison]
    assert await group.submit(99) == 990


async def test_one_poison_costs_few_attempts():
    ledger = Ledger({100})
    group = GroupCommit(ledger.execute, failpoints=disarmed())
    await asyncio.gather(*(group.submit(number) for number in range(256)), return_exceptions=True)
    assert len(ledger.tried) == 1 + 2 * 8


async def test_an_unknown_outcome_is_never_repeated():
    calls = []

    async def execute(batch):
        calls.append(list(batch))
        raise StoreUnavailable("gone")

    group = GroupCommit(execute, failpoints=disarmed())
    answers = await asyncio.gather(*(group.submit(number) for number in range(8)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 8
    assert calls == [list(range(8))]


async def test_full_queue_refuses():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed(), max_queue=3)
    ledger.gate.clear()
    futures = [group.submit(0)]
    await asyncio.sleep(0)
    futures += [group.submit(number) for number in (1, 2, 3)]
    with pytest.raises(Overloaded):
        group.submit(4)
    ledger.gate.set()
    assert await asyncio.gather(*futures) == [0, 10, 20, 30]
    assert await group.submit(5) == 50


async def test_close_finishes_what_was_accepted_and_refuses_more():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed(), max_batch=2)
    futures = [group.submit(number) for number in range(5)]
    await group.close()
    assert [future.result() for future in futures] == [0, 10, 20, 30, 40]
    with pytest.raises(StoreUnavailable):
        group.submit(6)
    await group.close()


async def test_a_caller_that_went_away_disturbs_nobody():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=disarmed())
    first, second = group.submit(1), group.submit(2)
    first.cancel()
    assert await second == 20
    assert ledger.batches == [[1, 2]]


async def test_a_lost_answer_after_the_commit_is_unknown_not_repeated():
    ledger = Ledger()
    group = GroupCommit(ledger.execute, failpoints=Failpoints({"group.batch_committed": "raise@1"}))
    answers = await asyncio.gather(group.submit(1), group.submit(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 2
    assert ledger.batches == [[1, 2]]
    assert await group.submit(3) == 30


async def test_failpoints_are_hit():
    ledger = Ledger({1})
    failpoints = Failpoints({"group.batch_built": "sleep:0", "group.bisect": "sleep:0"})
    group = GroupCommit(ledger.execute, failpoints=failpoints)
    await asyncio.gather(group.submit(0), group.submit(1), return_exceptions=True)
    assert failpoints.hits == {"group.batch_built": 3, "group.bisect": 1, "group.batch_committed": 1}
