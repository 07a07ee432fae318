"""The contract of a caller: the way branches of one protocol are called."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from reefknot.model import Outcome
from reefknot.wire.outcome import Matching


class DiscoveryError(Exception):
    """A name of service discovery that cannot be read, or that has no address now; the text says why."""


class Discovery(Protocol):
    """Finds out where a service lives whose URL has a scheme of service discovery, like ``etcd://``."""

    def split(self, url: str) -> tuple[str, str]:
        """Split a branch URL; does no I/O.

        Args:
            url: contains ``://`` and is neither ``http://`` nor ``https://``.

        Returns:
            The target, which ``addresses`` takes, and the rest of the URL from its ``/`` on: the method of
            gRPC, or path and query of HTTP.

        Raises:
            DiscoveryError: no driver reads the scheme, or the URL has not the form that it asks for.
        """
        ...

    async def addresses(self, target: str, scheme: str) -> tuple[tuple[str, int], ...]:
        """Where the service can be called now: hosts and ports, at least one, without brackets.

        Answered from a short memory most of the time. It is called at every branch call.

        Args:
            target: the first part of what ``split`` returned.
            scheme: the protocol that is spoken there, ``grpc`` or ``http``: a service may offer both.

        Raises:
            DiscoveryError: the registry cannot be asked and nothing is remembered, or nobody is registered.
        """
        ...

    async def close(self) -> None:
        """Stop watching and close connections to registries."""
        ...


@dataclass(frozen=True, kw_only=True)
class CallerSettings:
    """What every caller is built from.

    Args:
        make_id: makes a new unique id for each call that needs one (JSON-RPC).
        response_limit_bytes: the largest body of an answer that is read.
        idle_seconds: how long an unused connection is kept open.
        connections_per_host: the most connections to one host and port; further calls wait.
        matching: how the body of an answer is searched for a result.
        user_agent: what the calls say in their User-Agent header.
        local_host: the host that is called where a URL says ``localhost`` or ``127.0.0.1``; empty for itself.
        ssl_context: for ``https://``; without it the system's certificate authorities are trusted.
        discovery: for URLs with a scheme of service discovery; without it they are refused. Whoever made it
            closes it.
        grpc_service_config: the service config of gRPC channels, as JSON:
            https://github.com/grpc/grpc/blob/master/doc/service_config.md
    """

    make_id: Callable[[], str]
    response_limit_bytes: int = 256 * 1024
    idle_seconds: float = 15.0
    connections_per_host: int = 128
    matching: Matching = Matching.EXACT
    user_agent: str = "reefknot"
    local_host: str = ""
    ssl_context: ssl.SSLContext | None = None
    discovery: Discovery | None = None
    grpc_service_config: str = '{"loadBalancingConfig": [{"round_robin": {}}]}'


class BranchCall(msgspec.Struct, frozen=True):
    """One call of a branch operation, with everything a protocol may need to carry.

    ``post`` asks for POST even without a payload (xa). ``timeout_seconds`` covers the whole call:
    connecting, sending, and the complete answer.
    """

    gid: str
    mode: str
    branch_id: str
    op: str
    url: str
    payload: bytes
    protocol: str
    headers: dict[str, str]
    timeout_seconds: float
    post: bool = False


class Caller(Protocol):
    """Calls branches over one protocol."""

    def accepts(self, protocol: str, url: str) -> bool:
        """Whether this caller serves a non-empty URL in a transaction of this protocol."""
        ...

    def check(self, url: str) -> str:
        """What is wrong with the URL, in words; empty if it can be called. Does no I/O."""
        ...

    async def call(self, call: BranchCall) -> Outcome:
        """Call the branch once and say what it came to.

        Never raises for anything the participant or the network does, never retries after a byte
        of an answer was received, never follows a redirect, reads no more than the configured
        number of bytes, and returns within ``timeout_seconds``.
        """
        ...

    async def close(self) -> None:
        """Close idle connections; calls in flight end by themselves."""
        ...
