"""Leases expire under paused drivers: none of them does harm, and the same run finds a store without fencing."""

import pytest

from races.world import World
from reefknot.testing.invariants import violations

SEEDS = range(1, 9)
TRANSACTIONS = 48

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_driver_without_lease_does_nothing(seed):
    world = World(seed)
    history = await world.run(TRANSACTIONS)
    assert violations(history) == (), f"reproduce: pytest tests/races/test_fencing.py -k 'lease and {seed}'"
    assert len({ack.gid for ack in history.acks}) == len(history.final) == TRANSACTIONS
    assert len({call.owner for call in history.calls}) == 2


async def test_drivers_do_lose_their_leases_in_these_runs():
    takeovers = refused = 0
    for seed in SEEDS:
        world = World(seed)
        history = await world.run(TRANSACTIONS)
        takeovers += world.takeovers
        refused += sum(1 for write in history.writes if not write.accepted)
    assert takeovers >= 80
    assert refused >= 8


async def test_the_same_runs_find_a_store_without_fencing():
    found = set()
    for seed in SEEDS:
        history = await World(seed, fenced=False).run(TRANSACTIONS)
        found |= {sentence.partition(" ")[0] for sentence in violations(history)}
    assert "I9" in found
    assert found - {"I9"}, "it must show outside as well, not only in the log of writes"


async def test_a_seed_repeats():
    first, again = [(await World(5).run(12)).writes for _ in range(2)]
    assert first == again
