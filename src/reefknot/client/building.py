"""How a transaction's parts look on the wire: pure functions, shared by both faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from reefknot.client.address import ServerAddress
from reefknot.client.branches import is_grpc
from reefknot.client.options import Seconds, whole_seconds
from reefknot.errors import Invalid

#: How long the server itself waits for an end where no request_timeout is given (its WaitResultTimeout).
SERVER_WAIT_SECONDS = 30


class Step(msgspec.Struct, frozen=True, eq=False):
    """One step of a saga, to be named in ``after=``.

    Attributes:
        index: its place in the saga, from 0.
        action: the URL that does it.
        undo: the URL that undoes it; empty if nothing does.
        after: the places of the steps that must succeed first.
    """

    index: int
    action: str
    undo: str
    after: tuple[int, ...]


def saga_custom_data(steps: Sequence[Step], *, concurrent: bool) -> str:
    """The order of a saga's steps, as DTM's server reads it; empty if they run one after another."""
    orders = {str(step.index): step.after for step in steps if step.after}
    if not concurrent and not orders:
        return ""
    return msgspec.json.encode({"concurrent": concurrent, "orders": orders}).decode()


def places_of(after: Step | Iterable[Step], steps: Sequence[Step]) -> tuple[int, ...]:
    """The places of the steps that another one waits for.

    Raises:
        Invalid: one of them is no step of this saga.
    """
    given = (after,) if isinstance(after, Step) else tuple(after)
    for step in given:
        if not any(step is known for known in steps):
            raise Invalid("after", f"{step!r} is no step of this saga", "give what its own step() returned")
    return tuple(step.index for step in given)


def msg_custom_data(delay: Seconds | None) -> str:
    """The delay of a message, as DTM's server reads it; empty if there is none.

    Raises:
        Invalid: it is not positive.
    """
    if delay is None or delay in {0, timedelta()}:
        return ""
    return msgspec.json.encode({"delay": whole_seconds("delay", delay)}).decode()


def wire_protocol(address: ServerAddress, urls: Iterable[str]) -> str:
    """What a transaction says about the protocol of its branches; empty where the server's own counts.

    DTM's server calls an ``http(s)://`` URL over HTTP in every protocol, and one without a scheme over gRPC
    only where the transaction says so.
    """
    if address.protocol == "grpc":
        return ""
    if any(url and is_grpc(url) for url in urls):
        return "grpc"
    return "json-rpc" if address.protocol == "json-rpc" else ""


def parent_of(values: Mapping[str, str]) -> tuple[str, str]:
    """The gid and the branch id in a branch call's query parameters or metadata.

    Raises:
        Invalid: one is missing.
    """
    found = []
    for name in ("gid", "branch_id"):
        value = values.get(name) or values.get(f"dtm-{name}") or ""
        if not value:
            fix = "pass the query parameters or the metadata of the call that the server or its client made"
            raise Invalid(name, "is missing", fix)
        found.append(value)
    return found[0], found[1]
