"""Branch calls over TLS: the same answers, the certificate checked, nothing followed or repeated."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trustme

from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.http import HttpCaller
from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.testing.raw_server import Peer, RawServer, Script, answering, http_answer

pytestmark = pytest.mark.anyio

LIMIT_BYTES = 64 * 1024
OK = http_answer(200, b"{}")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that the server runs on."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def https_caller(context: ssl.SSLContext | None) -> AsyncIterator[HttpCaller]:
    caller = HttpCaller(
        CallerSettings(make_id=lambda: "1", response_limit_bytes=LIMIT_BYTES, ssl_context=context),
    )
    try:
        yield caller
    finally:
        await caller.close()


def branch_call(url: str, payload: bytes = b"{}", headers: dict[str, str] | None = None) -> BranchCall:
    return BranchCall(
        gid="g 1",
        mode="saga",
        branch_id="01",
        op="action",
        url=url,
        payload=payload,
        protocol="http",
        headers=headers or {},
        timeout_seconds=1.0,
    )


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.closed()


async def hang_up(peer: Peer) -> None:
    await peer.request()


async def flood(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await peer.stream(b"x" * 65536, 10 * 1024**3)


def is_unknown(text: str, *, unreachable: bool) -> Callable[[Outcome], bool]:
    return lambda outcome: isinstance(outcome, Unknown) and text in outcome.error and outcome.unreachable is unreachable


PARTICIPANTS: dict[str, tuple[Script, Callable[[Outcome], bool]]] = {
    "200": (answering(OK), lambda outcome: outcome == Success()),
    "409": (answering(http_answer(409, b"no")), lambda outcome: outcome == Failure("no FAILURE")),
    "425": (answering(http_answer(425)), lambda outcome: outcome == Ongoing("")),
    "302": (answering(http_answer(302, b"", "Location: /")), is_unknown("redirects are not", unreachable=False)),
    "gzip": (
        answering(http_answer(409, gzip.compress(b"no"), "Content-Encoding: gzip")),
        lambda outcome: isinstance(outcome, Failure) and outcome.reason.startswith("\\x1f\ufffd"),
    ),
    "gzip that may say anything": (
        answering(http_answer(200, gzip.compress(b'{"dtm_result":"FAILURE"}'), "Content-Encoding: gzip")),
        is_unknown("HTTP status 200 with a compressed body (gzip), which was not asked for", unreachable=False),
    ),
    "gzip and nothing": (answering(http_answer(200, b"", "Content-Encoding: gzip")), lambda one: one == Success()),
    "hangs": (hang, is_unknown("no answer in time", unreachable=True)),
    "hangs up": (hang_up, is_unknown("127.0.0.1", unreachable=True)),
    "10 GiB": (flood, is_unknown("larger than", unreachable=False)),
    "announces too much": (
        answering(http_answer(200, b"x" * (LIMIT_BYTES + 1))),
        is_unknown("larger than", unreachable=False),
    ),
    "half a body": (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
        is_unknown("127.0.0.1", unreachable=False),
    ),
    "garbage": (answering(b"\x00 what?\r\n\r\n"), is_unknown("not HTTP", unreachable=False)),
}


@pytest.mark.parametrize("payload", [b"{}", b""], ids=["POST", "GET"])
@pytest.mark.parametrize("name", PARTICIPANTS)
async def test_participant_over_tls(
    name: str, payload: bytes, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    script, expected = PARTICIPANTS[name]
    async with RawServer(script, ssl_context=server_context) as server, https_caller(client_context) as caller:
        outcome = await caller.call(branch_call(server.url("/api"), payload))
        await asyncio.sleep(0.05)

        assert expected(outcome), outcome
        assert (server.connections, len(server.requests)) == (1, 1)


async def test_unknown_authority_is_refused(server_context: ssl.SSLContext) -> None:
    async with RawServer(answering(OK), ssl_context=server_context) as server, https_caller(None) as caller:
        outcome = await caller.call(branch_call(server.url("/")))

        assert isinstance(outcome, Unknown)
        assert outcome.unreachable
        assert "certificate" in outcome.error.lower()
        assert server.requests == []


async def test_request_is_the_same_as_over_plain_http(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    headers = {"content-TYPE": "text/plain", "X-Token": "t", "Accept-ENCODING": "gzip"}
    requests: list[list[bytes]] = []
    for context in (None, server_context):
        async with RawServer(answering(OK), ssl_context=context) as server, https_caller(client_context) as caller:
            assert await caller.call(branch_call(server.url("/a%2Fb?x=%41"), headers=headers)) == Success()
            port = str(server.port).encode()
            head, _, body = server.requests[0].partition(b"\r\n\r\n")
            lines = head.replace(port, b"PORT").split(b"\r\n")
            requests.append([lines[0], *sorted(lines[1:]), body])

    assert b"accept-encoding" not in b"".join(requests[0]).lower()
    assert requests[0] == requests[1]
    assert requests[0][0] == b"POST /a%2Fb?x=%41&branch_id=01&gid=g+1&op=action&trans_type=saga HTTP/1.1"


async def test_connection_is_kept(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    async with RawServer(answering(OK, OK), ssl_context=server_context) as server:
        async with https_caller(client_context) as caller:
            for _ in range(2):
                assert await caller.call(branch_call(server.url("/"))) == Success()

        assert server.connections == 1
