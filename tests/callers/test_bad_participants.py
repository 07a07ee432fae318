"""What every kind of bad participant comes to, over real sockets: one row, one classification."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reefknot.callers.base import BranchCall, CallerSettings
from reefknot.callers.http import HttpCaller
from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.testing.raw_server import Peer, RawServer, Script, answering, http_answer

pytestmark = pytest.mark.anyio

LIMIT_BYTES = 64 * 1024
TIMEOUT_SECONDS = 0.5
TEN_GIB = 10 * 1024**3
OK = http_answer(200, b'{"dtm_result":"SUCCESS"}')


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that the server runs on."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def http_caller(**changes: object) -> AsyncIterator[HttpCaller]:
    """A caller with a small answer limit, closed at the end."""
    settings = {"make_id": lambda: "1", "response_limit_bytes": LIMIT_BYTES} | changes
    caller = HttpCaller(CallerSettings(**settings))
    try:
        yield caller
    finally:
        await caller.close()


def branch_call(url: str, payload: bytes = b'{"amount":30}', timeout_seconds: float = TIMEOUT_SECONDS) -> BranchCall:
    return BranchCall(
        gid="g1",
        mode="saga",
        branch_id="01",
        op="action",
        url=url,
        payload=payload,
        protocol="http",
        headers={},
        timeout_seconds=timeout_seconds,
    )


def raw(data: bytes) -> Script:
    """Answer a request with these bytes and close the connection."""
    return answering(data)


def endless(start: bytes, block: bytes) -> Script:
    """Answer a request with 10 GiB, or until the caller has had enough."""

    async def run(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.stream(block, TEN_GIB)

    return run


async def hang(peer: Peer) -> None:
    await peer.closed()


async def hang_after_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    await peer.closed()


async def trickle(peer: Peer) -> None:
    await peer.request()
    for byte in OK:
        await peer.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def reset_at_once(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def reset_in_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    peer.reset()


async def reset_in_open_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    await asyncio.sleep(0.05)
    peer.reset()


async def close_without_answer(peer: Peer) -> None:
    await peer.request()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = gzip.compress(b'{"dtm_result":"FAILURE"}')
DEEP = b"[" * 30_000
UNREACHABLE = "unreachable"

# name: (what the participant does, kind of outcome, text that the outcome contains)
PARTICIPANTS: dict[str, tuple[Script, type[Outcome] | str, str]] = {
    # no answer, or half of one
    "hangs": (hang, UNREACHABLE, "no answer in time"),
    "resets before any byte": (reset_at_once, UNREACHABLE, "without an answer"),
    "closes before any byte": (close_without_answer, UNREACHABLE, "without an answer"),
    "one byte at a time": (trickle, Unknown, "no complete answer in time"),
    "hangs after the head": (hang_after_head, Unknown, "no complete answer in time"),
    "resets within the body": (reset_in_body, Unknown, "in the middle of the answer"),
    "resets within a body without a length": (reset_in_open_body, Unknown, "in the middle of the answer"),
    "closes within the status line": (raw(b"HTTP/1."), Unknown, "in the middle of the answer"),
    "closes within the head": (raw(b"HTTP/1.1 200 OK\r\nContent-"), Unknown, "in the middle of the answer"),
    "closes within a chunk": (raw(CHUNKED + b"ff\r\nhalf"), Unknown, "in the middle of the answer"),
    "closes before the last chunk": (raw(CHUNKED + b"4\r\nhalf\r\n"), Unknown, "in the middle of the answer"),
    "length too large": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nOK"), Unknown, "in the middle of"),
    "length too large, closing": (
        raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nOK"),
        Unknown,
        "in the middle of the answer",
    ),
    "length too small": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK, more"), Success, ""),
    # not HTTP
    "garbage": (raw(b"\x00\x01\x02 what?\r\n\r\n"), Unknown, "not HTTP"),
    "an SSH banner": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Unknown, "not HTTP"),
    "two lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), Unknown, "not HTTP"),
    "length and chunks": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Unknown,
        "not HTTP",
    ),
    "negative length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Unknown, "not HTTP"),
    "absurd length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"), Unknown, "not HTTP"),
    "bad chunk length": (raw(CHUNKED + b"zz\r\n"), Unknown, "not HTTP"),
    "four-digit status": (raw(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"), Unknown, "not HTTP"),
    # too much
    "10 GiB": (
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n", b"x" * 65536),
        Unknown,
        "larger than",
    ),
    "10 GiB without a length": (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), Unknown, "larger than"),
    "10 GiB in chunks": (endless(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), Unknown, "larger than"),
    "10 GiB of chunk extension": (endless(CHUNKED + b"1;", b"x" * 65536), Unknown, "too large"),
    "10 GiB of trailers": (endless(CHUNKED + b"0\r\n", b"A: b\r\n" * 4096), Unknown, "too large"),
    "10 GiB of headers": (endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 4096), Unknown, "too large"),
    "one header of 10 GiB": (endless(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 65536), Unknown, "too large"),
    "10 GiB of reason phrase": (endless(b"HTTP/1.1 200 ", b"x" * 65536), Unknown, "too large"),
    "100 Continue for ever": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), Unknown, "too large"),
    "one byte more than the limit": (raw(http_answer(200, b"x" * (LIMIT_BYTES + 1))), Unknown, "larger than"),
    "exactly the limit": (raw(http_answer(200, b"x" * LIMIT_BYTES)), Success, ""),
    # ways to send a body
    "no length, closed": (raw(b"HTTP/1.1 200 OK\r\n\r\nFAILURE"), Failure, "FAILURE FAILURE"),
    "HTTP/1.0": (raw(b"HTTP/1.0 409 Conflict\r\n\r\nno money"), Failure, "no money FAILURE"),
    "chunked": (raw(CHUNKED + b"4\r\nFAIL\r\n3;x=y\r\nURE\r\n0\r\nA: b\r\n\r\n"), Failure, "FAILURE FAILURE"),
    "interim answers first": (
        raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + http_answer(425)),
        Ongoing,
        "",
    ),
    "101": (raw(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), Unknown, "HTTP status 101"),
    "gzip, which nobody asked for": (
        raw(http_answer(200, GZIP, "Content-Encoding: gzip")),
        Unknown,
        "HTTP status 200 with a compressed body (gzip), which was not asked for",
    ),
    "gzip in other letters, after an interim answer": (
        raw(b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer(201, GZIP, "CONTENT-encoding:GZip")),
        Unknown,
        "compressed body (GZip)",
    ),
    "gzip and br, closed": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nA: b\r\nContent-Encoding: br\r\n\r\n" + GZIP),
        Unknown,
        "compressed body (gzip, br)",
    ),
    "gzip in chunks": (
        raw(CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GZIP), GZIP)),
        Unknown,
        "compressed body (gzip)",
    ),
    "gzip and nothing": (raw(http_answer(200, b"", "Content-Encoding: gzip")), Success, ""),
    "gzip and a refusal": (raw(http_answer(409, GZIP, "Content-Encoding: gzip")), Failure, "FAILURE"),
    "identity": (raw(http_answer(200, b"FAILURE", "Content-Encoding: identity")), Failure, "FAILURE"),
    "the words in the body": (raw(http_answer(200, b"\r\nContent-Encoding: gzip\r\n")), Success, ""),
    # what the status says
    "201": (raw(http_answer(201, b"created")), Success, ""),
    "202": (raw(http_answer(202)), Success, ""),
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), Success, ""),
    "299": (raw(http_answer(299)), Success, ""),
    "300": (raw(http_answer(300, b"", "Location: /")), Unknown, "HTTP status 300 (redirects are not followed)"),
    "301": (raw(http_answer(301, b"", "Location: /")), Unknown, "HTTP status 301 (redirects are not followed)"),
    "302": (raw(http_answer(302, b"", "Location: /")), Unknown, "HTTP status 302 (redirects are not followed)"),
    "303": (raw(http_answer(303, b"", "Location: /")), Unknown, "HTTP status 303 (redirects are not followed)"),
    "304": (raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Unknown, "HTTP status 304 (redirects are not followed)"),
    "307": (raw(http_answer(307, b"", "Location: /")), Unknown, "HTTP status 307 (redirects are not followed)"),
    "308": (raw(http_answer(308, b"", "Location: /")), Unknown, "HTTP status 308 (redirects are not followed)"),
    "400 FAILURE": (raw(http_answer(400, b"FAILURE")), Unknown, "HTTP status 400: FAILURE"),
    "404": (raw(http_answer(404, b"not here")), Unknown, "HTTP status 404: not here"),
    "409": (raw(http_answer(409, b"no money FAILURE")), Failure, "no money FAILURE"),
    "409 ONGOING": (raw(http_answer(409, b"ONGOING")), Failure, "ONGOING FAILURE"),
    "425 FAILURE": (raw(http_answer(425, b"FAILURE")), Ongoing, "FAILURE"),
    "429 FAILURE": (raw(http_answer(429, b"FAILURE")), Unknown, "HTTP status 429: FAILURE"),
    "500 FAILURE": (raw(http_answer(500, b"NO FAILURE")), Unknown, "HTTP status 500: NO FAILURE"),
    "502 FAILURE": (raw(http_answer(502, b"<p>FAILURE</p>")), Unknown, "HTTP status 502: <p>FAILURE</p>"),
    "599": (raw(http_answer(599)), Unknown, "HTTP status 599"),
    "999": (raw(http_answer(999)), Unknown, "HTTP status 999"),
    # what the body of a 200 says
    "dtm_result FAILURE": (raw(http_answer(200, b' {"dtm_result": "FAILURE"}')), Failure, '"FAILURE"} FAILURE'),
    "dtm_result ONGOING": (raw(http_answer(200, b'{"dtm_result":"ONGOING"}')), Ongoing, "dtm_result"),
    "dtm_result further down": (raw(http_answer(200, b'{"data":{"dtm_result":"FAILURE"}}')), Success, ""),
    "HTML that says FAILURE": (raw(http_answer(200, b"<h1>NO FAILURE</h1>")), Success, ""),
    "invalid UTF-8": (raw(http_answer(200, b"\xff\xfe FAILURE")), Success, ""),
    "invalid UTF-8 in a refusal": (raw(http_answer(409, b"\xff no\n")), Failure, "\ufffd no\\n FAILURE"),
    "deep JSON": (raw(http_answer(200, DEEP)), Success, ""),
    "deep JSON that may say FAILURE": (
        raw(http_answer(200, b'{"a":' + DEEP + b'"FAILURE"')),
        Unknown,
        "too deeply nested",
    ),
}


@pytest.mark.parametrize("name", PARTICIPANTS)
async def test_bad_participant_comes_to(name: str) -> None:
    script, kind, text = PARTICIPANTS[name]
    async with RawServer(script) as server, http_caller() as caller:
        outcome = await caller.call(branch_call(server.url("/api")))

        assert server.connections == 1
    if kind is UNREACHABLE:
        assert isinstance(outcome, Unknown)
        assert outcome.unreachable
        assert text in outcome.error
        return
    match outcome:
        case Unknown(error, unreachable):
            assert kind is Unknown, outcome
            assert not unreachable
            assert text in error
        case Failure(reason):
            assert kind is Failure
            assert text in reason
        case Ongoing(note):
            assert kind is Ongoing
            assert text in note
        case Success():
            assert kind is Success


async def test_nobody_accepts_the_connection() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with http_caller() as caller:
                outcome = await caller.call(branch_call(f"http://127.0.0.1:{port}/"))
        finally:
            for filler in fillers:
                filler.close()

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "in time" in outcome.error


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "[::1]"])
async def test_nobody_listens(host: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with http_caller() as caller:
            outcome = await caller.call(branch_call(f"http://{host}:{port}/", timeout_seconds=5))

    assert isinstance(outcome, Unknown)
    assert outcome.unreachable
    assert "cannot connect" in outcome.error


async def test_kept_connection_closed_by_the_peer_between_two_calls() -> None:
    async with RawServer(answering(OK), answering(http_answer(425))) as server, http_caller() as caller:
        first = await caller.call(branch_call(server.url()))
        await asyncio.sleep(0.05)
        second = await caller.call(branch_call(server.url()))

        assert (first, second) == (Success(), Ongoing(""))
        assert len(server.requests) == 2


async def test_kept_connection_closed_after_the_request_is_retried_once_on_a_fresh_one() -> None:
    async def answer_once_then_hang_up(peer: Peer) -> None:
        await answering(OK)(peer)
        await peer.request()

    scripts = (answer_once_then_hang_up, answering(http_answer(409, b"second")))
    async with RawServer(*scripts) as server, http_caller() as caller:
        await caller.call(branch_call(server.url()))
        outcome = await caller.call(branch_call(server.url()))

        assert outcome == Failure("second FAILURE")
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_the_retry_is_not_retried() -> None:
    async def answer_once_then_hang_up(peer: Peer) -> None:
        await answering(OK)(peer)
        await peer.request()

    async with RawServer(answer_once_then_hang_up, close_without_answer) as server, http_caller() as caller:
        await caller.call(branch_call(server.url()))
        outcome = await caller.call(branch_call(server.url()))

        assert isinstance(outcome, Unknown)
        assert outcome.unreachable
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_no_retry_after_the_first_byte_of_an_answer() -> None:
    async def answer_once_then_one_byte(peer: Peer) -> None:
        await answering(OK)(peer)
        await peer.request()
        await peer.send(b"H")

    async with RawServer(answer_once_then_one_byte) as server, http_caller() as caller:
        await caller.call(branch_call(server.url()))
        outcome = await caller.call(branch_call(server.url()))

        assert isinstance(outcome, Unknown)
        assert not outcome.unreachable
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_no_retry_after_the_time_limit() -> None:
    async def answer_once_then_hang(peer: Peer) -> None:
        await answering(OK)(peer)
        await peer.request()
        await peer.closed()

    async with RawServer(answer_once_then_hang) as server, http_caller() as caller:
        await caller.call(branch_call(server.url()))
        outcome = await caller.call(branch_call(server.url()))

        assert outcome == Unknown("no answer in time", unreachable=True)
        assert (server.connections, len(server.requests)) == (1, 2)


async def test_bytes_that_nobody_asked_for_are_never_an_answer() -> None:
    async def answer_twice(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + http_answer(409, b"smuggled"))
        await peer.closed()

    async def answer_again_later(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await asyncio.sleep(0.05)
        await peer.send(http_answer(409, b"smuggled"))
        await peer.closed()

    async with RawServer(answer_twice, answer_again_later, answering(OK)) as server, http_caller() as caller:
        for _ in range(3):
            assert await caller.call(branch_call(server.url())) == Success()
            await asyncio.sleep(0.1)

        assert server.connections == 3


async def test_early_answer_to_a_large_request_ends_the_connection() -> None:
    async def refuse_without_reading(peer: Peer) -> None:
        await peer.send(http_answer(409, b"too much"))
        await asyncio.sleep(2 * TIMEOUT_SECONDS)

    async with RawServer(refuse_without_reading, answering(OK)) as server, http_caller() as caller:
        refused = await caller.call(branch_call(server.url(), payload=b"x" * 32 * 1024**2))
        accepted = await caller.call(branch_call(server.url()))

        assert isinstance(refused, Failure)
        assert accepted == Success()
        assert server.connections == 2


async def test_many_huge_answers_at_once_stay_within_bounded_memory() -> None:
    async with RawServer(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as server, http_caller() as caller:
        tracemalloc.start()
        try:
            calls = (caller.call(branch_call(server.url(), timeout_seconds=20)) for _ in range(200))
            outcomes = await asyncio.gather(*calls)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert {outcome.error for outcome in outcomes} == {f"the answer is larger than {LIMIT_BYTES} bytes"}
    assert peak_bytes < 64 * 1024**2
