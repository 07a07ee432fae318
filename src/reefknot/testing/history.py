"""What is known about a run: the input of the offline checker of the invariants.

All times are milliseconds on one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

SUCCESS = "success"


class Ack(msgspec.Struct, frozen=True):
    """A request that its client saw answered with success.

    ``ends`` is the final status that the answer promises, empty if it leaves that open.
    ``rows`` are the (branch_id, op) pairs that a registration adds.
    """

    verb: str
    gid: str
    ends: str = ""
    rows: tuple[tuple[str, str], ...] = ()


class Call(msgspec.Struct, frozen=True):
    """A branch call as the participant saw it.

    ``result`` is ``success``, ``failure``, ``ongoing``, or anything else for an unclear answer.
    ``ended_ms`` is 0 if it gave no answer. ``owner`` and ``epoch`` say who called, if that is known.
    """

    gid: str
    branch_id: str
    op: str
    started_ms: float
    ended_ms: float = 0.0
    result: str = SUCCESS
    owner: str = ""
    epoch: int = 0


class Effect(msgspec.Struct, frozen=True):
    """A change of business data that one operation made."""

    gid: str
    branch_id: str
    op: str
    at_ms: float


class Row(msgspec.Struct, frozen=True):
    """One operation as the server shows it."""

    branch_id: str
    op: str
    status: str
    url: str = ""


class Stored(msgspec.Struct, frozen=True):
    """One transaction as the server shows it. ``finished_ms`` is 0 if it has not ended."""

    gid: str
    mode: str
    status: str
    rows: tuple[Row, ...] = ()
    custom_data: str = ""
    concurrent: bool = False
    finished_ms: float = 0.0


class Written(msgspec.Struct, frozen=True):
    """A change of a transaction's state that somebody tried; ``settled`` are operations by position."""

    gid: str
    owner: str
    epoch: int
    accepted: bool
    at_ms: float
    version: int = 0
    settled: frozenset[int] = frozenset()


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known about one run.

    Args:
        final: the dump of the store after the faults ended and everything had time to finish.
        seen: earlier looks at transactions, in order of time.
        forced: gids for which somebody asked for a forced stop, whatever the answer was.
        request_timeout_ms: time limit of a branch call.
        lease_ms: how long a driver may go on before it learns of a forced stop.
        slack_ms: by how much the reported times may be off.
    """

    acks: tuple[Ack, ...] = ()
    calls: tuple[Call, ...] = ()
    final: tuple[Stored, ...] = ()
    effects: tuple[Effect, ...] | None = None
    writes: tuple[Written, ...] = ()
    seen: tuple[Stored, ...] = ()
    forced: frozenset[str] = frozenset()
    request_timeout_ms: float = 3_000.0
    lease_ms: float = 8_000.0
    slack_ms: float = 50.0


def stored(reply: Mapping[str, Any]) -> Stored | None:
    """A transaction out of a decoded reply of ``query``; None if there is no such transaction."""
    tx = reply["transaction"]
    if not tx:
        return None
    ended = tx.get("finish_time") or tx.get("rollback_time")
    return Stored(
        tx["gid"],
        tx["trans_type"],
        tx["status"],
        tuple(Row(row["branch_id"], row["op"], row["status"], row.get("url", "")) for row in reply["branches"]),
        tx.get("custom_data", ""),
        bool(tx.get("concurrent")),
        datetime.fromisoformat(ended).timestamp() * 1000 if ended else 0.0,
    )


def result_of(status: int) -> str:
    """The result of a call that was answered with this HTTP status and no special body."""
    return {409: "failure", 425: "ongoing"}.get(status, SUCCESS if 200 <= status < 300 else "unclear")
