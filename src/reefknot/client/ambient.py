"""The transaction that the running code is part of.

A framework's integration enters it for each branch call; a client that is used meanwhile passes the
trace on, and log records or an own HTTP client may ask for it. It follows the code through ``await``
and into tasks, as every context variable does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

#: The headers of W3C Trace Context, which OpenTelemetry speaks.
TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


class Ambient(msgspec.Struct, frozen=True):
    """What is known about the call that is being served.

    Attributes:
        gid: the transaction; empty outside of one.
        trans_type: its mode, by DTM's name.
        branch_id: the branch that was called.
        op: the operation that was called.
        trace: the headers of ``TRACE_HEADERS`` that the call had, by their lower-case names.
    """

    gid: str = ""
    trans_type: str = ""
    branch_id: str = ""
    op: str = ""
    trace: Mapping[str, str] = {}

    @classmethod
    def of_call(cls, query: Mapping[str, str], headers: Mapping[str, str]) -> Ambient:
        """Read it from a branch call's query parameters and headers; both may lack all of it."""
        lowered = {name.lower(): value for name, value in headers.items()}
        return cls(
            query.get("gid", ""),
            query.get("trans_type", ""),
            query.get("branch_id", ""),
            query.get("op", ""),
            {name: lowered[name] for name in TRACE_HEADERS if name in lowered},
        )


class _Current:
    """Where the running code's transaction is kept: one variable, with a value for each task or thread."""

    variable: ContextVar[Ambient] = ContextVar("reefknot_ambient", default=Ambient())  # noqa: B039 - immutable


def current() -> Ambient:
    """The transaction that the running code is part of; one with empty fields if there is none."""
    return _Current.variable.get()


@contextmanager
def entered(ambient: Ambient) -> Iterator[None]:
    """Make it the current one for the block."""
    token = _Current.variable.set(ambient)
    try:
        yield
    finally:
        _Current.variable.reset(token)


def trace_headers() -> Mapping[str, str]:
    """Headers for an outgoing call so that it belongs to the same trace; often empty."""
    return _Current.variable.get().trace
