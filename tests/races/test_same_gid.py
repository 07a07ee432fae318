"""Many clients at one gid at the same time: one execution, one decision, honest answers."""

import asyncio

import pytest

from races.service import Arena, Service, now_ms
from reefknot.testing.invariants import violations

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

#: Races that run at the same time.
SIDE_BY_SIDE = 24


@pytest.fixture
def anyio_backend():
    return "asyncio"


def saga(arena, payload="{}", path="/quick"):
    url = arena.service.url
    steps = [{"action": url(path), "compensate": url(path)}] * 3
    return {"trans_type": "saga", "steps": steps, "payloads": [payload] * 3}


def msg(arena, payload="{}"):
    url = arena.service.url
    steps = [{"action": url("/quick")}] * 2
    return {"trans_type": "msg", "steps": steps, "payloads": [payload] * 2, "query_prepared": url("/query")}


def once(branches, op):
    return {(branch, op): 1 for branch in branches}


ACTIONS = once(("01", "02", "03"), "action")


async def identical_submits(arena, gid, size):
    statuses = await arena.at_once(*(arena.ask("submit", gid, **saga(arena)) for _ in range(size)))
    assert set(statuses) == {200}
    assert await arena.end(gid) == "succeed"
    assert arena.calls(gid) == ACTIONS


async def different_submits(arena, gid, size):
    contents = [f'{{"amount":{number % 3}}}' for number in range(size)]
    statuses = await arena.at_once(*(arena.ask("submit", gid, **saga(arena, content)) for content in contents))
    won = {content for content, status in zip(contents, statuses, strict=True) if status == 200}
    lost = {content for content, status in zip(contents, statuses, strict=True) if status == 409}
    assert set(statuses) <= {200, 409}
    assert len(won) == 1
    assert not won & lost
    assert await arena.end(gid) == "succeed"
    assert arena.calls(gid) == ACTIONS
    assert {body.decode() for other, body in arena.service.bodies if other == gid} == won


async def different_modes(arena, gid, size):
    asked = [saga(arena) if number % 2 else msg(arena) for number in range(size)]
    statuses = await arena.at_once(*(arena.ask("submit", gid, **fields) for fields in asked))
    won = {fields["trans_type"] for fields, status in zip(asked, statuses, strict=True) if status == 200}
    assert set(statuses) == {200, 409}
    assert len(won) == 1
    assert await arena.end(gid) == "succeed"
    assert set(arena.calls(gid).values()) == {1}


async def prepare_tcc(arena, gid, branches=("01", "02")):
    assert await arena.ask("prepare", gid, trans_type="tcc") == 200
    for branch in branches:
        assert await register(arena, gid, branch) == 200


def register(arena, gid, branch):
    urls = {"confirm": arena.service.url("/confirm"), "cancel": arena.service.url("/cancel")}
    rows = ((branch, "cancel"), (branch, "confirm"))
    return arena.ask("registerBranch", gid, trans_type="tcc", branch_id=branch, rows=rows, **urls)


def one_decision(submits, aborts):
    """Whether the submits won; fails unless exactly one side did."""
    assert set(submits) in ({200}, {409})
    assert set(aborts) <= {200, 409}
    assert (set(submits) == {200}) != (200 in aborts)
    return submits[0] == 200


async def tcc_abort_against_submit(arena, gid, size):
    await prepare_tcc(arena, gid)
    half = max(1, size // 2)
    statuses = await arena.at_once(
        *(arena.ask("submit", gid, trans_type="tcc", ends="succeed") for _ in range(half)),
        *(arena.ask("abort", gid, trans_type="tcc", ends="failed") for _ in range(half)),
    )
    confirmed = one_decision(statuses[:half], statuses[half:])
    assert await arena.end(gid) == ("succeed" if confirmed else "failed")
    assert arena.calls(gid) == once(("01", "02"), "confirm" if confirmed else "cancel")


async def msg_abort_against_submit(arena, gid, size):
    assert await arena.ask("prepare", gid, **msg(arena)) == 200
    half = max(1, size // 2)
    statuses = await arena.at_once(
        *(arena.ask("submit", gid, **msg(arena), ends="succeed") for _ in range(half)),
        *(arena.ask("abort", gid, trans_type="msg", ends="failed") for _ in range(half)),
    )
    sent = one_decision(statuses[:half], statuses[half:])
    assert await arena.end(gid) == ("succeed" if sent else "failed")
    assert arena.calls(gid) == (once(("01", "02"), "action") if sent else {})


async def forced_stop_of_a_running_saga(arena, gid, size):
    assert await arena.ask("submit", gid, **saga(arena, path="/slow")) == 200
    await asyncio.sleep(arena.rng.uniform(0, 0.08))
    arena.forced.add(gid)
    acknowledged_ms = []

    async def stop():
        status = await arena.ask("forceStop", gid)
        acknowledged_ms.extend([now_ms()] if status == 200 else [])
        return status

    statuses = await arena.at_once(*(stop() for _ in range(size)))
    assert set(statuses) <= {200, 409}
    assert statuses.count(200) <= 1
    assert await arena.end(gid) == ("failed" if 200 in statuses else "succeed")
    if acknowledged_ms:
        await asyncio.sleep(0.1)
        late = [call for call in arena.service.calls if call.gid == gid and call.started_ms > acknowledged_ms[0]]
        assert len(late) <= 1, "only the call that was allowed before the stop may still arrive"
        assert all(ACTIONS.get(key) == count for key, count in arena.calls(gid).items())
    else:
        assert arena.calls(gid) == ACTIONS


async def register_against_submit(arena, gid, size):
    await prepare_tcc(arena, gid, ())
    branches = [f"{number:02d}" for number in range(1, size + 1)]
    *registered, submitted = await arena.at_once(
        *(register(arena, gid, branch) for branch in branches),
        arena.ask("submit", gid, trans_type="tcc", ends="succeed"),
    )
    assert submitted == 200
    assert set(registered) <= {200, 409}
    assert await arena.end(gid) == "succeed"
    acknowledged = [branch for branch, status in zip(branches, registered, strict=True) if status == 200]
    assert arena.calls(gid) == once(acknowledged, "confirm")


async def identical_registrations(arena, gid, size):
    await prepare_tcc(arena, gid, ())
    assert set(await arena.at_once(*(register(arena, gid, "01") for _ in range(size)))) == {200}
    assert await arena.ask("submit", gid, trans_type="tcc", ends="succeed") == 200
    assert await arena.end(gid) == "succeed"
    assert arena.calls(gid) == once(("01",), "confirm")


async def prepare_against_prepare(arena, gid, size):
    contents = [f'{{"amount":{number % 2}}}' for number in range(size)]
    statuses = await arena.at_once(*(arena.ask("prepare", gid, **msg(arena, content)) for content in contents))
    won = {content for content, status in zip(contents, statuses, strict=True) if status == 200}
    assert set(statuses) == {200, 409}
    assert len(won) == 1
    assert [status == 200 for status in statuses] == [content in won for content in contents]
    assert await arena.ask("submit", gid, **msg(arena, won.pop()), ends="succeed") == 200
    assert await arena.end(gid) == "succeed"
    assert arena.calls(gid) == once(("01", "02"), "action")


RACES = (
    identical_submits,
    different_submits,
    different_modes,
    tcc_abort_against_submit,
    msg_abort_against_submit,
    forced_stop_of_a_running_saga,
    register_against_submit,
    identical_registrations,
    prepare_against_prepare,
)


@pytest.mark.parametrize(
    ("store", "nodes", "races"),
    [("sqlite", 1, 900), ("memory", 1, 540), ("memory", 2, 720)],
    ids=["sqlite", "memory", "two-nodes"],
)
async def test_races(store, nodes, races, tmp_path):
    url = f"sqlite:///{tmp_path}/races.db" if store == "sqlite" else "memory://"
    async with Service() as service:
        arena = Arena(races, service)
        places = asyncio.Semaphore(SIDE_BY_SIDE)

        async def race(number):
            async with places:
                kind = RACES[number % len(RACES)]
                gid = f"{kind.__name__}-{number}"
                try:
                    await kind(arena, gid, arena.rng.choice((2, 2, 3, 4, 6, 10, 50)))
                except Exception as error:
                    raise AssertionError(f"{gid}: {error}") from error

        async with arena.serving(url, nodes):
            await asyncio.gather(*(race(number) for number in range(races)))
            history = await arena.history()
    assert len(history.final) == races
    assert violations(history) == ()
