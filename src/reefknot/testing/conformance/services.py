"""Business services of the callers' conformance suite: each protocol's way to behave as a rule says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

from reefknot.testing.grpc_participant import FAILURE, HANG_UP, ONGOING, GrpcParticipant, Say
from reefknot.testing.raw_server import Peer, RawServer, Script, answering, http_answer

#: An answer that is a success in plain HTTP and in JSON-RPC.
HTTP_OK = http_answer(200, b'{"jsonrpc":"2.0","id":"1","result":null}')
#: How late a late answer comes.
LATE_SECONDS = 0.3


class Behaviour(Enum):
    """What a service does with one call."""

    SUCCESS = auto()
    FAILURE = auto()
    ONGOING = auto()
    #: An error whose text says FAILURE.
    ERROR = auto()
    #: Bytes that are not the protocol.
    GARBAGE = auto()
    #: Nothing at all.
    HANG = auto()
    #: An answer larger than any limit.
    FLOOD = auto()
    #: The connection ends without an answer.
    HANG_UP = auto()
    #: A failure, after everybody has stopped waiting.
    LATE_FAILURE = auto()


class Service:
    """A service under way.

    Args:
        url: the branch URL.
        seen: tells how many connections and calls there were.
    """

    def __init__(self, url: str, seen: RawServer | GrpcParticipant) -> None:
        self.url = url
        self._seen = seen

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._seen.connections

    @property
    def calls(self) -> int:
        """How many complete requests came."""
        return len(self._seen.requests if isinstance(self._seen, RawServer) else self._seen.calls)


@asynccontextmanager
async def http_service(path: str, *behaviours: Behaviour) -> AsyncIterator[Service]:
    """A service over HTTP; successes share a connection, everything else has one of its own."""
    scripts: list[Script] = []
    successes = 0
    for behaviour in behaviours:
        if behaviour is Behaviour.SUCCESS:
            successes += 1
        else:
            scripts.append(_HTTP[behaviour])
    if successes:
        scripts.append(answering(*[HTTP_OK] * successes))
    async with RawServer(*scripts) as server:
        yield Service(server.url(path), server)


@asynccontextmanager
async def grpc_service(path: str, *behaviours: Behaviour) -> AsyncIterator[Service]:
    """A service over gRPC."""
    if behaviours[0] in (Behaviour.GARBAGE, Behaviour.HANG):
        async with RawServer(_HTTP[behaviours[0]]) as server:
            yield Service(f"127.0.0.1:{server.port}{path}", server)
        return
    with GrpcParticipant() as participant:
        participant.script(path, [_GRPC[behaviour] for behaviour in behaviours])
        yield Service(participant.url(path), participant)


async def _hang(peer: Peer) -> None:
    await peer.closed()


async def _hang_up(peer: Peer) -> None:
    await peer.request()


async def _late(peer: Peer) -> None:
    await peer.request()
    await asyncio.sleep(LATE_SECONDS)
    await peer.send(http_answer(409, b"late"))
    await peer.closed()


async def _flood(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await peer.stream(b"x" * 65536, 10 * 1024**3)


_HTTP: dict[Behaviour, Script] = {
    Behaviour.FAILURE: answering(http_answer(409, b"no money")),
    Behaviour.ONGOING: answering(http_answer(425)),
    Behaviour.ERROR: answering(http_answer(500, b"FAILURE")),
    Behaviour.GARBAGE: answering(b"\x00\xff\x17 hello\r\n\r\n"),
    Behaviour.HANG: _hang,
    Behaviour.FLOOD: _flood,
    Behaviour.HANG_UP: _hang_up,
    Behaviour.LATE_FAILURE: _late,
}

_GRPC: dict[Behaviour, Say] = {
    Behaviour.SUCCESS: Say(),
    Behaviour.FAILURE: FAILURE,
    Behaviour.ONGOING: ONGOING,
    Behaviour.ERROR: Say("UNKNOWN", "FAILURE"),
    Behaviour.FLOOD: Say(body=b"x" * 1024 * 1024),
    Behaviour.HANG_UP: HANG_UP,
    Behaviour.LATE_FAILURE: Say("ABORTED", "late", seconds=LATE_SECONDS),
}
