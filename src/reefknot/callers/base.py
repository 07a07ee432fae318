"""The contract of a caller: the way branches of one protocol are called."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from reefknot.model import Outcome
from reefknot.wire.outcome import Matching


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
    """

    make_id: Callable[[], str]
    response_limit_bytes: int = 256 * 1024
    idle_seconds: float = 15.0
    connections_per_host: int = 128
    matching: Matching = Matching.EXACT
    user_agent: str = "reefknot"
    local_host: str = ""
    ssl_context: ssl.SSLContext | None = None


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
