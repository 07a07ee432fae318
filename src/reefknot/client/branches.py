"""Branches that the client calls itself: their ids, and how the call looks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import urlencode

from reefknot.client.exchange import Request
from reefknot.errors import Invalid

#: Two digits a level, as DTM's clients have it.
MOST_BRANCHES = 99
#: The width of the barrier's column.
MOST_ID_CHARACTERS = 128
HTTP_SCHEMES = ("http://", "https://")
TOPIC_SCHEME = "topic://"
_PREFIX = "dtm-"


class BranchIds:
    """Ids of the branches of one level: 01, 02, … 99 behind the parent's id.

    Args:
        parent: the id of the branch whose branches these are; empty at the top.
    """

    def __init__(self, parent: str = "") -> None:
        self._parent = parent
        self._used = 0
        # Two tries of the same kind with one id would count once.
        self._lock = threading.Lock()

    def next(self) -> str:
        """The next one.

        Raises:
            Invalid: the level is full, or it is nested too deeply.
        """
        with self._lock:
            return self._next()

    def _next(self) -> str:
        if self._used >= MOST_BRANCHES:
            where = f"below branch {self._parent}" if self._parent else "of this transaction"
            fix = "make several transactions, or nest branches: each can have 99 of its own"
            raise Invalid("branch_id", f"the {MOST_BRANCHES} ids {where} are used up", fix)
        if len(self._parent) + 2 > MOST_ID_CHARACTERS:
            depth = len(self._parent) // 2
            raise Invalid("branch_id", f"is nested {depth} levels deep", "the barrier's column holds 64 levels")
        self._used += 1
        return f"{self._parent}{self._used:02d}"


def is_grpc(url: str) -> bool:
    """Whether a branch's URL is a gRPC method: ``host:port/Service/Method``, without a scheme."""
    return "://" not in url


def checked_url(field: str, url: str, *, grpc_server: bool) -> str:
    """A branch's URL, if it can be called by a server that is spoken to in this way.

    Raises:
        Invalid: it is empty, or is a gRPC method of a transaction that is started over HTTP.
    """
    if not url:
        raise Invalid(field, "is empty", "give the branch's URL")
    if is_grpc(url):
        if url.count("/") < 2 or url.startswith("/"):
            raise Invalid(
                field, f"{url!r} is no URL", "give http(s)://… or, for gRPC, host:port/package.Service/Method"
            )
        if not grpc_server:
            problem = f"{url!r} is a gRPC method, and a transaction started over HTTP calls its branches over HTTP"
            raise Invalid(field, problem, "start it with a client for grpc://host:36790")
    return url


def branch_call(
    url: str,
    payload: bytes,
    identity: Mapping[str, str],
    headers: Mapping[str, str],
    timeout: float,
    *,
    phase2_url: str = "",
    get: bool = False,
) -> Request:
    """The request of one branch call, as DTM's clients make it.

    Args:
        url: ``http(s)://…``, or ``host:port/Service/Method`` for gRPC.
        payload: the body or message.
        identity: ``dtm``, ``gid``, ``branch_id``, ``trans_type`` and ``op``.
        headers: further headers or metadata.
        timeout: seconds.
        phase2_url: where an xa branch is committed or rolled back.
        get: whether it only asks, without a body.

    Raises:
        Invalid: the URL has another scheme.
    """
    named = {**identity, "phase2_url": phase2_url} if phase2_url else identity
    if is_grpc(url):
        metadata = {f"{_PREFIX}{name}": value for name, value in named.items()}
        return Request("GRPC", f"grpc://{url}", {**headers, **metadata}, payload, timeout)
    if not url.startswith(HTTP_SCHEMES):
        fix = "give http(s)://… or, for gRPC, host:port/package.Service/Method"
        raise Invalid("url", f"{url!r} has a scheme that the client cannot call", fix)
    target, hash_mark, fragment = url.partition("#")
    joined = f"{target}{'&' if '?' in target else '?'}{urlencode(named)}{hash_mark}{fragment}"
    if get:
        return Request("GET", joined, headers, b"", timeout)
    return Request("POST", joined, {"Content-Type": "application/json", **headers}, payload, timeout)
