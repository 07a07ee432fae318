"""The connection pool: who gets which connection, and what is left behind."""

from __future__ import annotations

import asyncio

import pytest

from reefknot.callers.connection import ExchangeFailed
from reefknot.callers.pool import ConnectionPool
from reefknot.testing.raw_server import Peer, RawServer, answering, http_answer

pytestmark = pytest.mark.anyio

OK = http_answer(200, b"ok")
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def make_pool(*, idle_seconds: float = 10, connections: int = 4) -> ConnectionPool:
    return ConnectionPool(body_limit_bytes=1024, idle_seconds=idle_seconds, connections_per_host=connections)


async def slow(peer: Peer) -> None:
    while True:
        await peer.request()
        await asyncio.sleep(0.02)
        await peer.send(OK)


async def test_never_more_connections_than_the_limit_and_everybody_gets_a_turn():
    pool = make_pool(connections=3)
    async with RawServer(slow) as server:
        address = ("127.0.0.1", server.port)
        answers = await asyncio.gather(*(pool.exchange(address, REQUEST, 5) for _ in range(30)))
        await pool.close()

        assert {answer.body for answer in answers} == {b"ok"}
        assert server.connections == 3
        assert len(server.requests) == 30


async def test_slots_survive_connections_that_the_peer_closes():
    pool = make_pool(connections=2)
    async with RawServer(answering(OK)) as server:
        address = ("127.0.0.1", server.port)
        answers = await asyncio.gather(*(pool.exchange(address, REQUEST, 5) for _ in range(20)))

        assert len(answers) == 20
        await asyncio.sleep(0.05)
        assert pool._sites == {}


async def test_waiting_for_a_connection_counts_against_the_time_limit():
    async def hang(peer: Peer) -> None:
        await peer.closed()

    pool = make_pool(connections=1)
    async with RawServer(hang) as server:
        address = ("127.0.0.1", server.port)
        first = asyncio.ensure_future(pool.exchange(address, REQUEST, 0.4))
        await asyncio.sleep(0.1)
        with pytest.raises(ExchangeFailed, match=r"all 1 connections to 127.0.0.1:[0-9]+ stayed busy") as failure:
            await pool.exchange(address, REQUEST, 0.1)
        assert not failure.value.heard
        with pytest.raises(ExchangeFailed, match="no answer in time"):
            await first
        await asyncio.sleep(0.05)

        assert pool._sites == {}


async def test_cancelled_calls_give_their_slots_back():
    pool = make_pool(connections=2)
    async with RawServer(slow) as server:
        address = ("127.0.0.1", server.port)
        for delay in (0, 0.001, 0.005, 0.02, 0.021, 0.022):
            calls = [asyncio.ensure_future(pool.exchange(address, REQUEST, 5)) for _ in range(6)]
            await asyncio.sleep(delay)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        answer = await pool.exchange(address, REQUEST, 1)
        await pool.close()
        await asyncio.sleep(0.05)

        assert answer.body == b"ok"
        assert pool._sites == {}


async def test_the_warmest_connection_is_used_first():
    pool = make_pool()
    async with RawServer(slow) as server:
        address = ("127.0.0.1", server.port)
        await asyncio.gather(pool.exchange(address, REQUEST, 1), pool.exchange(address, REQUEST, 1))
        coldest, warmest = pool._sites[address].idle
        for _ in range(3):
            await pool.exchange(address, REQUEST, 1)

            assert pool._sites[address].idle == [coldest, warmest]
            assert coldest.idle_since < warmest.idle_since
        await pool.close()


async def test_idle_connections_are_closed_after_a_while():
    closed = asyncio.Event()

    async def answer_and_wait(peer: Peer) -> None:
        await answering(OK)(peer)
        await peer.closed()
        closed.set()

    pool = make_pool(idle_seconds=0.1)
    async with RawServer(answer_and_wait) as server:
        address = ("127.0.0.1", server.port)
        await pool.exchange(address, REQUEST, 1)
        assert len(pool._sites[address].idle) == 1
        await asyncio.wait_for(closed.wait(), 1)

        assert pool._sites == {}
        assert pool._reaper is None


async def test_closing_ends_idle_connections_and_lets_calls_in_flight_end():
    pool = make_pool()
    async with RawServer(slow) as server:
        address = ("127.0.0.1", server.port)
        await pool.exchange(address, REQUEST, 1)
        in_flight = asyncio.ensure_future(pool.exchange(address, REQUEST, 1))
        await asyncio.sleep(0.01)
        await pool.close()

        assert (await in_flight).body == b"ok"
        assert pool._sites == {}


async def test_hosts_are_apart():
    async def hang(peer: Peer) -> None:
        await peer.closed()

    pool = make_pool(connections=1)
    async with RawServer(hang) as sick, RawServer(slow) as healthy:
        stuck = asyncio.ensure_future(pool.exchange(("127.0.0.1", sick.port), REQUEST, 0.5))
        answer = await pool.exchange(("127.0.0.1", healthy.port), REQUEST, 0.3)

        assert answer.body == b"ok"
        with pytest.raises(ExchangeFailed):
            await stuck
        await pool.close()
