"""Branches found by service discovery: their addresses take turns, and one that is down is passed over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest

from reefknot.callers import Callers, discover
from reefknot.callers.base import BranchCall, CallerSettings, DiscoveryError
from reefknot.callers.grpc import GrpcCaller
from reefknot.model import Outcome, Success, Unknown
from reefknot.testing.grpc_participant import GrpcParticipant
from reefknot.testing.participant import HANG_UP, Participant

pytestmark = pytest.mark.anyio

GRPC_URL, HTTP_URL = "list://bank/bank.Bank/TransOut", "list://bank/TransOut?a=1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Listed:
    """Service discovery over a list that a test changes; the names of its URLs are the host part."""

    def __init__(self, **services: list[tuple[str, int]]) -> None:
        self.services = services
        self.asked: list[tuple[str, str]] = []
        self.seconds = 0.0

    def split(self, url: str) -> tuple[str, str]:
        scheme, _, rest = url.partition("://")
        name, slash, method = rest.partition("/")
        if scheme != "list":
            raise DiscoveryError(f"no driver reads {scheme}://")
        return name, slash + method

    async def addresses(self, target: str, scheme: str) -> tuple[tuple[str, int], ...]:
        await asyncio.sleep(self.seconds)
        self.asked.append((target, scheme))
        if not self.services.get(target):
            raise DiscoveryError(f"nobody is registered as {target}")
        return tuple(self.services[target])

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def callers_of(discovery: Listed) -> AsyncIterator[Callers]:
    callers = discover(CallerSettings(make_id=str, discovery=discovery))
    try:
        yield callers
    finally:
        await callers.close()


async def call(callers: Callers, url: str, timeout_seconds: float = 5.0) -> Outcome:
    protocol = "grpc" if url == GRPC_URL else "http"
    return await callers.call(BranchCall("g1", "saga", "01", "action", url, b"{}", protocol, {}, timeout_seconds))


def port_of_nobody() -> int:
    with GrpcParticipant() as gone:
        return gone.port


async def test_http_calls_take_turns():
    with Participant() as one, Participant() as two:
        discovery = Listed(bank=[("127.0.0.1", one.port), ("127.0.0.1", two.port)])
        async with callers_of(discovery) as callers:
            assert callers.check("http", HTTP_URL) == ""
            assert [await call(callers, HTTP_URL) for _ in range(4)] == [Success()] * 4
        assert one.called() == two.called() == ["/TransOut"] * 2
        assert one.calls[0].headers["Host"] == f"127.0.0.1:{one.port}"
        assert discovery.asked == [("bank", "http")] * 4


async def test_http_passes_over_an_address_where_nobody_listens():
    with Participant() as bank:
        discovery = Listed(bank=[("127.0.0.1", port_of_nobody()), ("127.0.0.1", bank.port)])
        async with callers_of(discovery) as callers:
            assert [await call(callers, HTTP_URL) for _ in range(4)] == [Success()] * 4
        assert len(bank.calls) == 4


async def test_http_sends_nothing_to_the_next_address_once_something_was_sent():
    with Participant() as one, Participant() as two:
        one.script("/TransOut", [HANG_UP])
        discovery = Listed(bank=[("127.0.0.1", one.port), ("127.0.0.1", two.port)])
        async with callers_of(discovery) as callers:
            outcome = await call(callers, HTTP_URL)
        assert isinstance(outcome, Unknown)
        assert (len(one.calls), len(two.calls)) == (1, 0)


@pytest.mark.parametrize("url", [HTTP_URL, GRPC_URL])
async def test_calls_follow_a_service_that_moves(url):
    kind = GrpcParticipant if url == GRPC_URL else Participant
    discovery = Listed()
    async with callers_of(discovery) as callers:
        for _ in range(3):
            with kind() as bank:
                discovery.services["bank"] = [("127.0.0.1", bank.port)]
                assert await call(callers, url) == Success()
                assert len(bank.calls) == 1


@pytest.mark.parametrize("url", [HTTP_URL, GRPC_URL])
async def test_a_service_without_addresses_is_unknown(url):
    async with callers_of(Listed()) as callers:
        outcome = await call(callers, url)

    assert outcome == Unknown("nobody is registered as bank", unreachable=True)


@pytest.mark.parametrize("url", [HTTP_URL, GRPC_URL])
async def test_nobody_listens_at_any_address(url):
    discovery = Listed(bank=[("127.0.0.1", port_of_nobody()), ("127.0.0.1", port_of_nobody())])
    async with callers_of(discovery) as callers:
        outcome = await call(callers, url)

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "connect" in outcome.error


@pytest.mark.parametrize("url", [HTTP_URL, GRPC_URL])
async def test_a_registry_that_hangs_costs_the_time_limit(url):
    discovery = Listed(bank=[("127.0.0.1", 1)])
    discovery.seconds = 30
    began = time.monotonic()
    async with callers_of(discovery) as callers:
        outcome = await call(callers, url, timeout_seconds=0.3)

    assert outcome == Unknown("the registry did not answer in time", unreachable=True)
    assert time.monotonic() - began < 3


async def test_grpc_calls_are_balanced():
    with GrpcParticipant() as one, GrpcParticipant() as two:
        discovery = Listed(bank=[("127.0.0.1", one.port), ("127.0.0.1", two.port)])
        async with callers_of(discovery) as callers:
            for _ in range(50):  # the second connection may come later than the first calls
                assert await call(callers, GRPC_URL) == Success()
        assert min(len(one.calls), len(two.calls)) >= 10
        assert discovery.asked[0] == ("bank", "grpc")


@contextmanager
def authorities_at(host: str, seen: list[bytes]) -> Iterator[int]:
    """A gRPC server on a free port that notes the authority of each call; only private names tell it."""

    def serve(body: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(context._rpc_event.call_details.host)
        return b""

    handler = grpc.method_handlers_generic_handler(
        "bank.Bank", {"TransOut": grpc.unary_unary_rpc_method_handler(serve)}
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize(("host", "bracketed"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_the_authority_of_grpc_calls_is_one_address_however_many_there_are(host, bracketed):
    seen: list[bytes] = []
    with authorities_at(bracketed, seen) as one, authorities_at(bracketed, seen) as two:
        first = min((one, two))
        for ports, expected in (((one,), one), ((one, two), first), ((two, one), first)):
            seen.clear()
            async with callers_of(Listed(bank=[(host, port) for port in ports])) as callers:
                assert [await call(callers, GRPC_URL) for _ in range(4)] == [Success()] * 4
            assert seen == [f"{bracketed}:{expected}".encode()] * 4


async def test_grpc_passes_over_an_address_where_nobody_listens():
    with GrpcParticipant() as bank:
        discovery = Listed(bank=[("127.0.0.1", port_of_nobody()), ("127.0.0.1", bank.port)])
        async with callers_of(discovery) as callers:
            assert [await call(callers, GRPC_URL) for _ in range(4)] == [Success()] * 4


async def test_grpc_calls_take_turns_between_names():
    with GrpcParticipant() as one, GrpcParticipant() as two:
        discovery = Listed(bank=[("localhost", one.port), ("localhost", two.port)])
        async with callers_of(discovery) as callers:
            assert [await call(callers, GRPC_URL) for _ in range(4)] == [Success()] * 4
        assert len(one.calls) == len(two.calls) == 2


async def test_urls_that_no_driver_reads_are_refused():
    caller = GrpcCaller(CallerSettings(make_id=str, discovery=Listed()))

    assert caller.check("etcd:///bank/bank.Bank/TransOut") == "no driver reads etcd://"
    assert "names no method" in caller.check("list://bank")
    async with callers_of(Listed()) as callers:
        assert callers.check("http", "etcd:///bank/TransOut") == "no driver reads etcd://"
        assert callers.check("json-rpc", GRPC_URL) == ""
