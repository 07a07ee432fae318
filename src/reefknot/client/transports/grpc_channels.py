"""What the sync and the async gRPC transport have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence

import grpc
import msgspec

from reefknot.client.exchange import ANSWER_LIMIT_BYTES, NotSent, Request

#: No repetition by gRPC itself: whether a call may be repeated is not its decision. No proxy from the surroundings.
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", ANSWER_LIMIT_BYTES),
)
#: How gRPC begins the text of a call for which it found no connection.
_UNSENT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")


class Parts(msgspec.Struct, frozen=True):
    """A gRPC URL taken apart: the channel's key and target, and the method's path."""

    origin: str
    target: str
    method: str
    secure: bool

    def metadata(self, request: Request) -> tuple[tuple[str, str], ...]:
        """The headers as metadata, whose names are lower-case."""
        return tuple((name.lower(), value) for name, value in request.headers.items())


def check_process(process: int) -> None:
    """Refuse to use what another process made: gRPC does not bear a fork, and a call in the child may hang.

    Args:
        process: the id of the process that made it.

    Raises:
        NotSent: it is not this one.
    """
    if process != os.getpid():
        raise NotSent("this client used gRPC before the process forked, which gRPC does not bear: make it after that")


def parts_of(url: str) -> Parts:
    """Take ``grpc://host:port/package.Service/Method`` apart.

    Raises:
        NotSent: it has another form.
    """
    scheme, _, rest = url.partition("://")
    target, slash, path = rest.partition("/")
    if scheme not in {"grpc", "grpcs"} or not target or path.count("/") != 1:
        raise NotSent(f"{url!r} is no gRPC method: host:port/package.Service/Method")
    return Parts(f"{scheme}://{target}", target, slash + path, scheme == "grpcs")


def never_sent(code: grpc.StatusCode, details: str) -> bool:
    """Whether the call failed before anything was sent: there was no connection to send it on."""
    return code is grpc.StatusCode.UNAVAILABLE and details.startswith(_UNSENT)


def text_of(details: str) -> bytes:
    """A status's text as a response's body."""
    return details.encode(errors="replace")
