"""Transactions, reports and decisions with sensible values, for the cases of the suite."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from reefknot.model import Status
from reefknot.store.base import BranchRow, Created, Decision, NewTransaction, Record, Store, Write

LEASE_MS = 8_000
OWNER = "node-a:1"
OTHER = "node-b:1"


def new(gid: str = "order-1", **changes: Any) -> NewTransaction:
    """A submitted saga that its creator drives."""
    base = NewTransaction(gid, "saga", Status.SUBMITTED, b"body", b"hash", OWNER, LEASE_MS, LEASE_MS)
    return replace(base, **changes)


def due(gid: str = "order-1", **changes: Any) -> NewTransaction:
    """A submitted saga that nobody drives and that is due now."""
    return replace(new(gid), **{"owner": "", "lease_ms": 0, "due_in_ms": 0, **changes})


def prepared(gid: str = "order-1", **changes: Any) -> NewTransaction:
    """A prepared tcc that waits for its client for 10 s."""
    base = NewTransaction(gid, "tcc", Status.PREPARED, b"body", b"hash", due_in_ms=10_000)
    return replace(base, **changes)


def step(gid: str = "order-1", **changes: Any) -> Write:
    """The first report of the creator of ``new(gid)``."""
    base = Write(gid, OWNER, 1, Status.SUBMITTED, Status.SUBMITTED, b"p1", lease_ms=LEASE_MS)
    return replace(base, **changes)


def finish(gid: str = "order-1", status: Status = Status.SUCCEED, **changes: Any) -> Write:
    """The last report of the creator of ``new(gid)``."""
    return replace(step(gid), **{"status": status, "progress": b"end", **changes})


def submit(gid: str = "order-1", **changes: Any) -> Decision:
    """The decision that turns a prepared transaction into a submitted one, driven by the caller."""
    base = Decision(gid, (Status.PREPARED,), Status.SUBMITTED, owner=OTHER, lease_ms=LEASE_MS, due_in_ms=LEASE_MS)
    return replace(base, **changes)


def row(branch_id: str = "01", op: str = "confirm", **changes: Any) -> BranchRow:
    """A registered branch operation."""
    return replace(BranchRow(branch_id, op, f"http://bank/{op}", b"{}"), **changes)


async def record(store: Store, gid: str = "order-1") -> Record:
    """The stored record, which must exist."""
    found = await store.get(gid)
    assert found is not None, gid
    return found


async def create(store: Store, *transactions: NewTransaction) -> list[int]:
    """Create transactions that must not exist; returns their ids."""
    ids = []
    for transaction in transactions:
        created = await store.create(transaction)
        assert isinstance(created, Created), transaction.gid
        ids.append(created.id)
    return ids
