"""The contract of a caller: the way branches of one protocol are called."""

from __future__ import annotations

from typing import Protocol

import msgspec

from reefknot.model import Outcome


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
