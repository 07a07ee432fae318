"""What every caller that works over HTTP must do, whatever the participant does.

Each public coroutine is one rule. A test calls it with a ``Subject``; it raises ``AssertionError`` if
the rule is broken. ``RULES`` lists them all, so that a suite is one parametrised test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reefknot.callers.base import BranchCall, Caller, CallerSettings
from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.testing.raw_server import Peer, RawServer, Script, answering, http_answer

_LIMIT_BYTES = 16 * 1024
_TIMEOUT_SECONDS = 1.0

#: An answer that is a success in plain HTTP and in JSON-RPC.
OK = http_answer(200, b'{"jsonrpc":"2.0","id":"1","result":null}')


@dataclass(frozen=True)
class Subject:
    """The caller under test.

    Args:
        make: builds it.
        protocol: the protocol of the transactions it serves.
        path: the path and query of its branch URLs.
    """

    make: Callable[[CallerSettings], Caller]
    protocol: str
    path: str

    async def call(self, server: RawServer, *, times: int = 1, timeout_seconds: float = _TIMEOUT_SECONDS) -> Outcome:
        """Call a branch on the server ``times`` times, one after the other; the last outcome."""
        caller = self.make(CallerSettings(make_id=lambda: "1", response_limit_bytes=_LIMIT_BYTES))
        try:
            for _ in range(times):
                outcome = await caller.call(self.branch_call(server.url(self.path), timeout_seconds))
        finally:
            await caller.close()
        return outcome

    def branch_call(self, url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> BranchCall:
        """A call of the action of branch 01."""
        return BranchCall(
            gid="g1",
            mode="saga",
            branch_id="01",
            op="action",
            url=url,
            payload=b'{"amount":30}',
            protocol=self.protocol,
            headers={},
            timeout_seconds=timeout_seconds,
        )


async def _expect(subject: Subject, script: Script, kind: type[Outcome], *, unreachable: bool = False) -> None:
    async with RawServer(script) as server:
        outcome = await subject.call(server)
    assert isinstance(outcome, kind), f"{kind.__name__} expected, got {outcome}"
    if isinstance(outcome, Unknown):
        assert outcome.unreachable is unreachable, f"unreachable={unreachable} expected, got {outcome}"


async def success_is_success(subject: Subject) -> None:
    """A positive answer is Success."""
    await _expect(subject, answering(OK), Success)


async def conflict_is_failure(subject: Subject) -> None:
    """409 is Failure."""
    await _expect(subject, answering(http_answer(409, b"no money")), Failure)


async def too_early_is_ongoing(subject: Subject) -> None:
    """425 is Ongoing."""
    await _expect(subject, answering(http_answer(425)), Ongoing)


async def server_error_is_unknown(subject: Subject) -> None:
    """500 is Unknown, whatever its body says."""
    await _expect(subject, answering(http_answer(500, b"FAILURE")), Unknown)


async def garbage_is_unknown(subject: Subject) -> None:
    """Bytes that are not HTTP are Unknown."""
    await _expect(subject, answering(b"\x00\xff\x17 hello\r\n\r\n"), Unknown)


async def redirects_are_not_followed(subject: Subject) -> None:
    """3xx is Unknown, and nobody calls the new place."""
    async with RawServer(answering(OK)) as elsewhere:
        location = f"Location: {elsewhere.url('/')}"
        for status in (301, 302, 303, 307, 308):
            await _expect(subject, answering(http_answer(status, b"", location)), Unknown)
        assert elsewhere.connections == 0, "a redirect was followed"


async def time_limit_holds(subject: Subject) -> None:
    """A participant that never answers costs the time limit and no more."""

    async def hang(peer: Peer) -> None:
        await peer.closed()

    began = time.monotonic()
    await _expect(subject, hang, Unknown, unreachable=True)
    elapsed = time.monotonic() - began
    assert _TIMEOUT_SECONDS * 0.9 <= elapsed < _TIMEOUT_SECONDS + 1, f"took {elapsed:.2f} s"


async def large_answers_are_cut_off(subject: Subject) -> None:
    """More bytes than the limit are Unknown, and the connection is closed at once."""
    sent: list[int] = []

    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        sent.append(await peer.stream(b"x" * 65536, 10 * 1024**3))

    began = time.monotonic()
    await _expect(subject, flood, Unknown)
    assert time.monotonic() - began < _TIMEOUT_SECONDS, "the answer was read until the time limit"
    assert not sent or sent[0] < 64 * 1024**2, f"{sent} bytes were taken"


async def no_connection_is_unreachable(subject: Subject) -> None:
    """A port on which nobody listens is Unknown and unreachable."""
    async with RawServer(answering(OK)) as server:
        pass
    outcome = await subject.call(server)
    assert isinstance(outcome, Unknown), outcome
    assert outcome.unreachable, outcome


async def half_an_answer_is_unknown(subject: Subject) -> None:
    """A connection that ends within the body is Unknown, and not unreachable."""
    await _expect(subject, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), Unknown)


async def connections_are_kept(subject: Subject) -> None:
    """Calls one after the other share a connection."""
    async with RawServer(answering(OK, OK, OK)) as server:
        outcome = await subject.call(server, times=3)
        assert isinstance(outcome, Success), outcome
        assert server.connections == 1, f"{server.connections} connections for 3 calls"


async def first_request_is_sent_once(subject: Subject) -> None:
    """A fresh connection that ends without an answer: the request may have been executed."""

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with RawServer(hang_up) as server:
        outcome = await subject.call(server)
        await asyncio.sleep(0.05)
        assert isinstance(outcome, Unknown), outcome
        assert outcome.unreachable, outcome
        assert len(server.requests) == 1, "the request was repeated"


async def cancelling_leaves_no_debris(subject: Subject) -> None:
    """A cancelled call takes its connection with it: its late answer is never the next call's."""

    async def late(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.2)
        await peer.send(http_answer(409, b"late"))
        await peer.closed()

    async with RawServer(late, answering(OK)) as server:
        caller = subject.make(CallerSettings(make_id=lambda: "1"))
        try:
            task = asyncio.ensure_future(caller.call(subject.branch_call(server.url(subject.path))))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), "the cancellation was swallowed"
            outcome = await caller.call(subject.branch_call(server.url(subject.path)))
        finally:
            await caller.close()
        assert isinstance(outcome, Success), outcome


async def bad_urls_are_refused(subject: Subject) -> None:
    """``check`` refuses what cannot be called, and ``call`` does not raise for it."""
    for start in ("http://user:secret@host", "http://", "http://host:99999", "http://[::1", "ftp://host"):
        url = start + subject.path
        caller = subject.make(CallerSettings(make_id=lambda: "1"))
        assert caller.check(url), f"{url} was accepted"
        outcome = await caller.call(subject.branch_call(url))
        assert isinstance(outcome, Unknown), outcome
        assert "secret" not in outcome.error, outcome


Rule = Callable[[Subject], Awaitable[None]]

#: Every rule of the suite.
RULES: tuple[Rule, ...] = (
    success_is_success,
    conflict_is_failure,
    too_early_is_ongoing,
    server_error_is_unknown,
    garbage_is_unknown,
    redirects_are_not_followed,
    time_limit_holds,
    large_answers_are_cut_off,
    no_connection_is_unreachable,
    half_an_answer_is_unknown,
    connections_are_kept,
    first_request_is_sent_once,
    cancelling_leaves_no_debris,
    bad_urls_are_refused,
)
