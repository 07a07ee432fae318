"""The store contract: where transactions live. This file is a specification.

Every sentence below is checked by ``reefknot.testing.conformance``; ``memory.py`` is its
executable form. A store never sees a mode or a URL: it keeps opaque ``body`` and ``progress``
bytes and compares owner, epoch and status.

Rules that hold for every method
    * A method that changes something returns only after the change is durable.
    * All comparisons of gids, branch ids, ops, categories and keys are binary.
    * The store's own clock gives every stored time and decides what is due. ``*_in_ms`` arguments
      are relative to it.
    * A store that cannot be reached, or that does not know whether a write happened, raises
      ``StoreUnavailable``. It never guesses.
    * A finished transaction never changes again, except as ``wake`` says.
    * ``updated_ms`` moves with every change; ``version`` only where a method says so.
    * After ``close`` every method that would do I/O raises ``StoreUnavailable``.
    * A method that an implementation cannot offer is named in ``missing`` and raises
      ``NotImplementedError``; nothing is silently ignored.

Lease and fencing
    A driver is the holder of ``(owner, epoch)`` of one gid. ``owner`` is unique for each start of
    a process. ``claim`` and ``decide`` raise the epoch by one; ``write`` succeeds only for the
    current owner and epoch and the expected status. So the accepted writes of a gid form one
    chain, and a driver that lost its lease can record nothing. The lease time itself is no safety
    property: it only says when somebody else may claim. An empty owner holds nothing: ``create``
    and ``decide`` give a lease only if both ``owner`` and ``lease_ms`` are set, else nobody drives.

Positions
    A position is the text that a listing handed out for its continuation. ``positions`` makes and
    reads them, so that every store refuses the same texts.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from reefknot.model import KeyValue, Status

#: A due time that never comes: transactions that wait for a client or an operator.
NEVER_MS = 9_000_000_000_000_000


class BranchRow(msgspec.Struct, frozen=True, array_like=True):
    """A branch operation that a client registered (tcc, xa, workflow). Insert-only."""

    branch_id: str
    op: str
    url: str = ""
    payload: bytes = b""
    status: Status = Status.PREPARED
    created_ms: int = 0


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Everything a store keeps about one transaction.

    ``lease_until_ms`` is 0 when nobody holds a lease. ``due_ms`` says when the transaction wants
    to be looked at; it keeps its last value when the transaction is finished. ``branches`` are in
    the order of registration. ``parked`` is empty unless the transaction waits for an operator.
    """

    id: int
    gid: str
    mode: str
    status: Status
    body: bytes
    progress: bytes
    owner: str
    epoch: int
    version: int
    lease_until_ms: int
    due_ms: int
    attempts: int
    parked: str
    reason: str
    result: str
    request_hash: bytes
    created_ms: int
    updated_ms: int
    decided_ms: int
    finished_ms: int
    branches: tuple[BranchRow, ...] = ()


class NewTransaction(msgspec.Struct, frozen=True, array_like=True):
    """A transaction to create. ``owner`` empty means that nobody drives it yet."""

    gid: str
    mode: str
    status: Status
    body: bytes
    request_hash: bytes
    owner: str = ""
    lease_ms: int = 0
    due_in_ms: int = NEVER_MS


class Created(msgspec.Struct, frozen=True, array_like=True):
    """The transaction is stored, durably; its epoch is 1 and its version 1."""

    id: int
    created_ms: int


class Write(msgspec.Struct, frozen=True, array_like=True):
    """A driver's report. It is applied whole or not at all.

    ``expect`` is the status the driver last wrote or read. A ``status`` that is final ends the
    lease, whatever ``lease_ms`` says, and leaves the due time. ``lease_ms`` 0 gives the transaction
    up: its owner becomes empty. ``due_in_ms`` -1 leaves the due time as it is. ``progress``,
    ``attempts`` and ``parked`` replace what is stored; an empty ``reason`` leaves it.

    ``version`` is the one that the driver saw stored last: a write that was given up as lost and
    arrives after its repetition finds a newer one and is refused. 0 is not compared.
    """

    gid: str
    owner: str
    epoch: int
    expect: Status
    status: Status
    progress: bytes
    attempts: int = 0
    reason: str = ""
    parked: str = ""
    lease_ms: int = 0
    due_in_ms: int = -1
    version: int = 0


class Decision(msgspec.Struct, frozen=True, array_like=True):
    """A decision that does not come from the driver: submit of a prepared one, abort, force stop.

    ``body`` and ``request_hash`` replace what is stored unless they are empty. ``reason`` and
    ``result`` likewise. A ``mode`` that is not empty must be the transaction's, as much as its status
    must be one of ``expect``: a client that takes the gid for something else decides nothing.
    """

    gid: str
    expect: tuple[Status, ...]
    status: Status
    reason: str = ""
    result: str = ""
    body: bytes = b""
    request_hash: bytes = b""
    owner: str = ""
    lease_ms: int = 0
    due_in_ms: int = 0
    mode: str = ""

    def fits(self, mode: str, status: Status) -> bool:
        """Whether it may be applied to a transaction of this mode and status."""
        return status in self.expect and self.mode in ("", mode)


class Claimed(msgspec.Struct, frozen=True, array_like=True):
    """A transaction this node may drive now.

    ``record`` is the state after the claim, with the new owner, epoch and lease.
    ``abandoned_ms`` is when the lease of a driver that vanished without releasing it ended, 0 if
    the last driver gave the transaction up properly: until ``abandoned_ms`` plus the request
    timeout a call that it sent may still be running.
    """

    record: Record
    abandoned_ms: int = 0


class Filter(msgspec.Struct, frozen=True):
    """Which transactions to list; empty or zero fields do not restrict. Times are inclusive."""

    status: str = ""
    mode: str = ""
    created_from_ms: int = 0
    created_to_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """One page of a listing. ``position`` is empty when there is no further row."""

    records: tuple[Record, ...]
    position: str = ""


class KeyValuePage(msgspec.Struct, frozen=True):
    """One page of a key listing, in binary order of the keys."""

    entries: tuple[KeyValue, ...]
    position: str = ""


class Stats(msgspec.Struct, frozen=True):
    """Counts for the gauges.

    ``unfinished`` maps (mode, status) to a number of transactions. ``oldest_unfinished_ms`` is the
    creation time of the oldest of them, 0 if there is none. ``due`` counts what ``claim`` could
    take now.
    """

    unfinished: dict[tuple[str, str], int]
    oldest_unfinished_ms: int
    parked: int
    due: int


class Durability(msgspec.Struct, frozen=True):
    """How much of what was acknowledged survives: ``full``, ``crash``, ``process`` or ``none``."""

    level: str
    detail: str


class Store(Protocol):
    """What every store must do. See the module's docstring for the rules common to all methods."""

    #: The URL scheme, for messages only; nothing may branch on it.
    name: str
    #: Whether several processes may use the store at once.
    shared: bool
    #: Names of optional methods this store does not offer.
    missing: frozenset[str]

    def now_ms(self) -> int:
        """The store's clock as this process last knew it. Does no I/O."""
        ...

    async def ping(self) -> None:
        """Return if the store can take a write now; raise ``StoreUnavailable`` if not."""
        ...

    async def durability(self) -> Durability:
        """Say what a crash or power loss can take away, read from the store's real settings."""
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of every resource. May be called twice."""
        ...

    async def create(self, new: NewTransaction) -> Created | Record:
        """Store a new transaction unless its gid exists.

        Atomic: of any number of concurrent calls with one gid exactly one returns ``Created``;
        the others return the existing ``Record`` (with its branches) and change nothing. The
        lease starts inside the insert, so a created transaction is never without a driver.
        """
        ...

    async def write(self, write: Write) -> bool:
        """Apply a driver's report if (gid, owner, epoch, expected status, version) still hold.

        True: applied, ``version`` grew by one; a change of status set ``decided_ms``, a final
        status also ``finished_ms``. False: refused, nothing changed, and the driver must start no
        further branch call.
        """
        ...

    async def decide(self, decision: Decision) -> Record | None:
        """Compare-and-set of the status from outside; takes the lease away from any driver.

        Applied if the stored status is one of ``expect``: epoch and version grow by one, owner
        and lease become the decision's, attempts 0, parked empty, ``decided_ms`` now. A final
        status sets ``finished_ms``, leaves no lease and keeps the due time. Returns the record after the change (with
        branches), or ``None`` if nothing changed: the status did not match or there is no such
        gid. Serialised with ``register``: a branch that was acknowledged is in the record.
        """
        ...

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        """Add branch rows to a prepared transaction, all or none.

        Returns the rows that now stand in the store for those (branch_id, op) pairs, in the order
        asked: the given ones, with the store's time, if all were added. If any pair existed, nothing is added and the
        existing rows are returned for the pairs that exist, with their original content and time,
        so that the caller can tell a repetition from a conflict. Returns ``None`` if there is no
        transaction with this gid and mode in status prepared. ``due_in_ms`` moves the due time,
        but never to an earlier one; -1 leaves it, and so does a call that adds nothing.

        Raises:
            ValueError: the same pair is given twice.
        """
        ...

    async def get(self, gid: str) -> Record | None:
        """The transaction with its branches, or ``None``. Sees every acknowledged write."""
        ...

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        """Transactions, newest first, without branches; ``position`` continues a listing.

        Rows created or purged meanwhile neither repeat nor hide others.

        Raises:
            ValueError: the position is none that this store handed out.
        """
        ...

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        """Take over transactions that are due and have no live lease, the longest due first.

        Unfinished transactions with ``due_ms`` and ``lease_until_ms`` not after now. Each gets
        the owner, a new epoch and version, and lease and due time ``lease_ms`` from now, in one
        atomic step: no two callers get the same (gid, epoch).

        Raises:
            ValueError: the owner is empty or ``lease_ms`` is not positive.
        """
        ...

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        """Extend the leases of (gid, epoch) pairs; returns the gids still held.

        Lease and due time become ``lease_ms`` from now. A gid that is missing from the result has
        another driver or is finished.
        """
        ...

    async def release(self, owner: str) -> int:
        """Give up every lease of this owner, due now; returns how many. For a clean stop."""
        ...

    async def wake(self, gids: tuple[str, ...]) -> int:
        """Make these transactions due now, unpark them; a live lease stays. Returns how many exist.

        A finished transaction only gets the new due and update time.
        """
        ...

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        """Make at most ``limit`` unfinished transactions due now that are due later than that.

        ``later_than_ms`` is relative to now; parked transactions and those that wait for a client
        (``NEVER_MS``) are left alone. Returns the number changed and whether more remain.
        """
        ...

    async def purge(self, older_than_ms: int, limit: int) -> int:
        """Delete at most ``limit`` transactions that finished longer ago than that, with branches.

        Never touches an unfinished one. Returns how many were deleted.
        """
        ...

    async def reset(self) -> int:
        """Delete every transaction, branch and key of this store, and nothing else.

        Returns the number of transactions deleted.
        """
        ...

    async def stats(self) -> Stats:
        """Count what is unfinished. Its cost does not grow with the number of finished rows."""
        ...

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        """One entry, or ``None``."""
        ...

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        """The entries of a category in binary order of their keys, after ``position``.

        Raises:
            ValueError: the position is none that this store handed out.
        """
        ...

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        """Write an entry if its stored version is ``expect_version`` (0 = it must not exist).

        False: somebody else was faster, nothing changed.
        """
        ...

    async def kv_delete(self, category: str, key: str) -> bool:
        """Delete an entry; False if there was none."""
        ...
