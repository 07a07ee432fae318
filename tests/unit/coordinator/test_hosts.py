"""Bulkheads: one participant's trouble stays with the transactions that need it."""

from __future__ import annotations

import asyncio

import pytest

from reefknot.coordinator.hosts import HOSTS_MOST, PROBES, SUSPECT_AFTER, Hosts
from reefknot.model import Success, Unknown

pytestmark = pytest.mark.anyio

SILENT = Unknown("no answer in time", unreachable=True)
ERROR = Unknown("status 500")


def hosts(limit: int = 2) -> tuple[Hosts, list[tuple[str, ...]]]:
    woken: list[tuple[str, ...]] = []
    return Hosts(limit, woken.append), woken


async def fail(all_hosts: Hosts, url: str, times: int) -> None:
    host = all_hosts.of(url)
    for _ in range(times):
        assert await all_hosts.enter(host)
        all_hosts.leave(host, SILENT)


async def test_urls_of_one_host_share_a_bulkhead_and_grpc_targets_have_one() -> None:
    all_hosts, _ = hosts()

    assert all_hosts.of("http://a:1/x") is all_hosts.of("http://a:1/y?z=1")
    assert all_hosts.of("http://a:1/x") is not all_hosts.of("http://a:2/x")
    assert all_hosts.of("a:1/pkg.Service/Method") is all_hosts.of("http://a:1/x")
    assert all_hosts.of("a:2/pkg.Service/Method") is not all_hosts.of("a:1/pkg.Service/Method")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("etcd://registry:2379/bank/pkg.Service/Method", "etcd://registry:2379/bank"),
        ("discovery:///bank/pkg.Service/Method", "discovery:///bank"),
        ("nacos://bank/TransOut?group=a", "nacos://bank/TransOut"),
        ("etcd://registry:2379", "etcd://registry:2379"),
        ("HTTP://a:1/x", "a:1"),
        ("http://a:1", "a:1"),
    ],
)
async def test_services_of_one_registry_have_bulkheads_of_their_own(url: str, name: str) -> None:
    all_hosts, _ = hosts()

    all_hosts.of(url)

    assert list(all_hosts._hosts) == [name]


async def test_a_call_beyond_the_limit_waits_for_a_place() -> None:
    all_hosts, _ = hosts(limit=2)
    host = all_hosts.of("http://a/")
    await all_hosts.enter(host)
    await all_hosts.enter(host)
    third = asyncio.create_task(all_hosts.enter(host))
    await asyncio.sleep(0)
    assert not third.done()

    all_hosts.leave(host, Success())

    assert await third
    assert host.calls == 2


async def test_a_cancelled_call_gives_its_place_to_the_next() -> None:
    all_hosts, _ = hosts(limit=1)
    host = all_hosts.of("http://a/")
    await all_hosts.enter(host)
    first, second = (asyncio.create_task(all_hosts.enter(host)) for _ in range(2))
    await asyncio.sleep(0)
    all_hosts.leave(host, Success())
    first.cancel()

    assert await asyncio.wait_for(second, 1)
    all_hosts.leave(host, Success())
    assert host.calls == 0


async def test_a_silent_host_gets_probes_only_and_turns_the_queue_away() -> None:
    all_hosts, _ = hosts(limit=64)
    host = all_hosts.of("http://dead/")
    await fail(all_hosts, "http://dead/", SUSPECT_AFTER)

    entered = [await all_hosts.enter(host) for _ in range(PROBES + 3)]

    assert entered == [True] * PROBES + [False] * 3


async def test_those_who_queue_are_turned_away_when_the_host_becomes_suspect() -> None:
    all_hosts, _ = hosts(limit=1)
    host = all_hosts.of("http://dead/")
    await fail(all_hosts, "http://dead/", SUSPECT_AFTER - 1)
    await all_hosts.enter(host)
    queued = asyncio.create_task(all_hosts.enter(host))
    await asyncio.sleep(0)

    all_hosts.leave(host, SILENT)

    assert await queued is False


async def test_an_error_that_was_answered_is_no_silence() -> None:
    all_hosts, _ = hosts()
    host = all_hosts.of("http://a/")
    for _ in range(SUSPECT_AFTER * 2):
        await all_hosts.enter(host)
        all_hosts.leave(host, ERROR)

    assert not host.suspect


async def test_the_first_answer_wakes_what_waited() -> None:
    all_hosts, woken = hosts()
    host = all_hosts.of("http://dead/")
    await fail(all_hosts, "http://dead/", SUSPECT_AFTER)
    all_hosts.wait_for(host, "g1")
    all_hosts.wait_for(host, "g2")
    await all_hosts.enter(host)

    all_hosts.leave(host, ERROR)

    assert woken == [("g1", "g2")]
    assert not host.suspect


async def test_a_single_silence_on_a_busy_host_wakes_nobody() -> None:
    """Otherwise one hanging path of a healthy host would be retried without any backoff."""
    all_hosts, woken = hosts()
    host = all_hosts.of("http://a/")
    await fail(all_hosts, "http://a/", 1)
    all_hosts.wait_for(host, "g1")
    await all_hosts.enter(host)

    all_hosts.leave(host, Success())

    assert woken == []


async def test_hosts_are_forgotten_but_not_those_in_trouble() -> None:
    all_hosts, _ = hosts()
    await fail(all_hosts, "http://dead/", SUSPECT_AFTER)
    trouble = all_hosts.of("http://dead/")

    for number in range(HOSTS_MOST * 2):
        all_hosts.of(f"http://host{number}/")

    assert all_hosts.of("http://dead/") is trouble
    assert len(all_hosts._hosts) <= HOSTS_MOST  # the bound itself is the subject
