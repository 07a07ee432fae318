"""What every caller must do, whatever the participant does, and what one that works over HTTP must do besides.

Each public coroutine is one rule. A test calls it with a ``Subject``; it raises ``AssertionError`` if
the rule is broken. ``RULES`` and ``HTTP_RULES`` list them all, so that a suite is one parametrised test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from reefknot.callers.base import BranchCall, Caller, CallerSettings
from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.testing.conformance.services import HTTP_OK, LATE_SECONDS, Behaviour, Service
from reefknot.testing.raw_server import Peer, RawServer, Script, answering, http_answer

_LIMIT_BYTES = 16 * 1024
_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Subject:
    """The caller under test.

    Args:
        make: builds it.
        protocol: the protocol of the transactions it serves.
        path: the path and query, or the method, of its branch URLs.
        serve: starts a service of its protocol.
        bad_urls: what it must refuse.
    """

    make: Callable[[CallerSettings], Caller]
    protocol: str
    path: str
    serve: Callable[..., AbstractAsyncContextManager[Service]]
    bad_urls: tuple[str, ...]

    async def call(self, url: str, *, times: int = 1) -> Outcome:
        """Call a branch ``times`` times, one after the other; the last outcome."""
        caller = self.make(CallerSettings(make_id=lambda: "1", response_limit_bytes=_LIMIT_BYTES))
        try:
            for _ in range(times):
                outcome = await caller.call(self.branch_call(url))
        finally:
            await caller.close()
        return outcome

    def branch_call(self, url: str) -> BranchCall:
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
            timeout_seconds=_TIMEOUT_SECONDS,
        )


async def _outcome(subject: Subject, behaviour: Behaviour) -> Outcome:
    async with subject.serve(subject.path, behaviour) as service:
        return await subject.call(service.url)


async def _unknown(subject: Subject, behaviour: Behaviour) -> Unknown:
    outcome = await _outcome(subject, behaviour)
    assert isinstance(outcome, Unknown), f"Unknown expected, got {outcome}"
    return outcome


async def _http_outcome(subject: Subject, script: Script) -> Unknown:
    async with RawServer(script) as server:
        outcome = await subject.call(server.url(subject.path))
    assert isinstance(outcome, Unknown), f"Unknown expected, got {outcome}"
    return outcome


async def success_is_success(subject: Subject) -> None:
    """A positive answer is Success."""
    outcome = await _outcome(subject, Behaviour.SUCCESS)
    assert isinstance(outcome, Success), outcome


async def refusal_is_failure(subject: Subject) -> None:
    """409, and ABORTED, is Failure."""
    outcome = await _outcome(subject, Behaviour.FAILURE)
    assert isinstance(outcome, Failure), outcome


async def not_yet_is_ongoing(subject: Subject) -> None:
    """425, and FAILED_PRECONDITION, is Ongoing."""
    outcome = await _outcome(subject, Behaviour.ONGOING)
    assert isinstance(outcome, Ongoing), outcome


async def errors_are_unknown(subject: Subject) -> None:
    """An error is Unknown, whatever its text says, and it is an answer."""
    outcome = await _unknown(subject, Behaviour.ERROR)
    assert not outcome.unreachable, outcome


async def garbage_is_unknown(subject: Subject) -> None:
    """Bytes that are not the protocol are Unknown."""
    await _unknown(subject, Behaviour.GARBAGE)


async def time_limit_holds(subject: Subject) -> None:
    """A participant that never answers costs the time limit and no more, and counts as unreachable."""
    began = time.monotonic()
    outcome = await _unknown(subject, Behaviour.HANG)
    elapsed = time.monotonic() - began
    assert _TIMEOUT_SECONDS * 0.9 <= elapsed < _TIMEOUT_SECONDS + 1, f"took {elapsed:.2f} s"
    assert outcome.unreachable, outcome


async def large_answers_are_cut_off(subject: Subject) -> None:
    """More bytes than the limit are Unknown, at once."""
    began = time.monotonic()
    await _unknown(subject, Behaviour.FLOOD)
    assert time.monotonic() - began < _TIMEOUT_SECONDS, "the answer was read until the time limit"


async def no_connection_is_unreachable(subject: Subject) -> None:
    """A port on which nobody listens is Unknown and unreachable."""
    async with subject.serve(subject.path, Behaviour.SUCCESS) as service:
        pass
    outcome = await subject.call(service.url)
    assert isinstance(outcome, Unknown), outcome
    assert outcome.unreachable, outcome


async def connections_are_kept(subject: Subject) -> None:
    """Calls one after the other share a connection."""
    async with subject.serve(subject.path, *[Behaviour.SUCCESS] * 3) as service:
        outcome = await subject.call(service.url, times=3)
        assert isinstance(outcome, Success), outcome
        assert service.connections == 1, f"{service.connections} connections for 3 calls"


async def first_request_is_sent_once(subject: Subject) -> None:
    """A fresh connection that ends without an answer: the request may have been executed."""
    async with subject.serve(subject.path, Behaviour.HANG_UP) as service:
        outcome = await subject.call(service.url)
        await asyncio.sleep(0.05)
        assert isinstance(outcome, Unknown), outcome
        assert service.calls == 1, "the request was repeated"


async def cancelling_leaves_no_debris(subject: Subject) -> None:
    """A cancelled call's late answer is never the next call's."""
    async with subject.serve(subject.path, Behaviour.LATE_FAILURE, Behaviour.SUCCESS) as service:
        caller = subject.make(CallerSettings(make_id=lambda: "1"))
        try:
            task = asyncio.ensure_future(caller.call(subject.branch_call(service.url)))
            await asyncio.sleep(LATE_SECONDS / 2)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), "the cancellation was swallowed"
            outcome = await caller.call(subject.branch_call(service.url))
        finally:
            await caller.close()
        assert isinstance(outcome, Success), outcome


async def bad_urls_are_refused(subject: Subject) -> None:
    """``check`` refuses what cannot be called, and ``call`` does not raise for it."""
    for url in subject.bad_urls:
        caller = subject.make(CallerSettings(make_id=lambda: "1"))
        assert caller.check(url), f"{url} was accepted"
        outcome = await caller.call(subject.branch_call(url))
        assert isinstance(outcome, Unknown), outcome
        assert "secret" not in outcome.error, outcome


async def redirects_are_not_followed(subject: Subject) -> None:
    """3xx is Unknown, and nobody calls the new place."""
    async with RawServer(answering(HTTP_OK)) as elsewhere:
        location = f"Location: {elsewhere.url('/')}"
        for status in (301, 302, 303, 307, 308):
            assert not (await _http_outcome(subject, answering(http_answer(status, b"", location)))).unreachable
        assert elsewhere.connections == 0, "a redirect was followed"


async def half_an_answer_is_unknown(subject: Subject) -> None:
    """A connection that ends within the body is Unknown, and not unreachable; without a byte it is unreachable."""
    half = await _http_outcome(subject, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    assert not half.unreachable, half
    nothing = await _http_outcome(subject, answering(b""))
    assert nothing.unreachable, nothing


async def a_flood_closes_the_connection(subject: Subject) -> None:
    """Of an answer beyond the limit little more than the limit is taken."""
    sent: list[int] = []

    async def flood(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        sent.append(await peer.stream(b"x" * 65536, 10 * 1024**3))

    outcome = await _http_outcome(subject, flood)
    assert not outcome.unreachable, outcome
    assert not sent or sent[0] < 64 * 1024**2, f"{sent} bytes were taken"


Rule = Callable[[Subject], Awaitable[None]]

#: The rules of every caller.
RULES: tuple[Rule, ...] = (
    success_is_success,
    refusal_is_failure,
    not_yet_is_ongoing,
    errors_are_unknown,
    garbage_is_unknown,
    time_limit_holds,
    large_answers_are_cut_off,
    no_connection_is_unreachable,
    connections_are_kept,
    first_request_is_sent_once,
    cancelling_leaves_no_debris,
    bad_urls_are_refused,
)
#: Further rules of callers over HTTP.
HTTP_RULES: tuple[Rule, ...] = (redirects_are_not_followed, half_an_answer_is_unknown, a_flood_closes_the_connection)
