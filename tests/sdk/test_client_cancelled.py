"""A task that is cancelled inside a block, or while it waits for an answer; and many tasks over one client."""

import asyncio
import threading

import pytest

from reefknot import AsyncClient, Client, OutcomeUnknown
from reefknot.model import Status
from reefknot.testing.participant import Participant, Say
from reefknot.testing.server import LocalServer

ROUTES = "/api/dtmsvr"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def called(dtm):
    return [call.path.rpartition("/")[2] for call in dtm.calls]


async def cancelled(task, until):
    """Cancel a task as soon as that is so."""
    while not until():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.anyio
async def test_task_that_is_cancelled_in_the_block_aborts():
    with Participant() as dtm:
        async with AsyncClient(dtm.url("")) as client:

            async def transfer():
                async with client.tcc("g-1"):
                    await asyncio.sleep(60)

            await cancelled(asyncio.ensure_future(transfer()), lambda: dtm.calls)
        assert called(dtm) == ["prepare", "abort"]
        assert b"CancelledError" in dtm.calls[-1].body


@pytest.mark.anyio
async def test_task_that_is_cancelled_while_it_submits_does_not_abort():
    with Participant() as dtm:
        dtm.always(f"{ROUTES}/submit", Say(seconds=0.5))
        async with AsyncClient(dtm.url("")) as client:

            async def transfer():
                async with client.tcc("g-1"):
                    pass

            await cancelled(asyncio.ensure_future(transfer()), lambda: len(dtm.calls) == 2)
        assert called(dtm) == ["prepare", "submit"]


@pytest.mark.anyio
async def test_many_tasks_share_one_client():
    with LocalServer() as server, Participant() as bank:
        async with AsyncClient(server.url) as client:

            async def transfer():
                async with client.saga(wait=True) as saga:
                    saga.step(bank.url("/out"))
                return saga.outcome

            outcomes = await asyncio.gather(*(transfer() for _ in range(50)))
        assert {outcome.status for outcome in outcomes} == {Status.SUCCEED}
        assert len({outcome.gid for outcome in outcomes}) == len(bank.calls) == 50


def test_many_threads_share_one_client():
    with LocalServer() as server, Participant() as bank, Client(server.url) as client:
        outcomes = []

        def transfer():
            for _ in range(5):
                with client.saga(wait=True) as saga:
                    saga.step(bank.url("/out"))
                outcomes.append(saga.outcome)

        threads = [threading.Thread(target=transfer) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {outcome.status for outcome in outcomes} == {Status.SUCCEED}
        assert len({outcome.gid for outcome in outcomes}) == len(bank.calls) == 50


def test_client_may_be_used_in_a_second_event_loop():
    with LocalServer() as server:
        client = AsyncClient(server.url)

        async def once():
            async with client:
                return await client.new_gid()

        assert asyncio.run(once()) != asyncio.run(once())


def test_error_names_the_cause():
    """What the library below said is not lost."""
    with Participant() as dtm, Client(dtm.url("")) as client:
        dtm.always(f"{ROUTES}/submit", Say(hang_up=True))
        with pytest.raises(OutcomeUnknown) as caught:
            client.msg("g-1").send("http://bank/in").submit()
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__).__name__ in str(caught.value)
