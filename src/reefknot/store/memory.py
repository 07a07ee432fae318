"""The store that keeps everything in this process: the contract of ``base`` in executable form.

Every method runs to its end without giving up the event loop, so each is atomic by itself. What is an index in
a real store is a heap here whose entries may be out of date: one counts only if the record still says the same.

    _due      (due_ms, id, gid) of unfinished transactions
    _leased   (lease_until_ms, id, gid) of those that were due but had a live lease; a lease that
              ends early puts another entry into _due
    _finished (finished_ms, id, gid), always exact: a finished record never changes back
    _listing  (created_ms, id, gid) in order, always exact
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter

from msgspec.structs import replace

from reefknot.clock import Clock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.model import KeyValue, Status
from reefknot.store.base import (
    NEVER_MS,
    BranchRow,
    Claimed,
    Created,
    Decision,
    Durability,
    Filter,
    KeyValuePage,
    NewTransaction,
    Page,
    Record,
    Stats,
    Write,
)
from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position

ONE_PROCESS = True
#: Stale heap entries are swept out when they outnumber the live ones by this many.
_SWEEP_AT = 10_000


async def open(url: str, *, clock: Clock, failpoints: Failpoints) -> MemoryStore:
    """Open a new, empty store that lives as long as the returned object.

    Args:
        url: ``memory://``.
        clock: the store's clock.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: the URL says more than the scheme.
    """
    parse_url(url)
    return MemoryStore(clock, failpoints)


def parse_url(url: str) -> None:
    """See that a URL is ``memory://`` and no more; otherwise raise ``ConfigError``."""
    if url.partition("://")[2]:
        raise ConfigError("store URL: a memory store takes no name and no options; use memory://")


class MemoryStore:
    """Keeps transactions in dictionaries; nothing survives the process."""

    name = "memory"
    shared = False
    missing: frozenset[str] = frozenset()

    def __init__(self, clock: Clock, failpoints: Failpoints) -> None:
        self._clock = clock
        self._fail = failpoints
        self._closed = False
        self._last_id = 0
        self._clear()

    def _clear(self) -> None:
        self._records: dict[str, Record] = {}
        self._unfinished: set[str] = set()
        self._due: list[tuple[int, int, str]] = []
        self._leased: list[tuple[int, int, str]] = []
        self._finished: list[tuple[int, int, str]] = []
        self._listing: list[tuple[int, int, str]] = []
        self._entries: dict[str, dict[str, KeyValue]] = {}

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def _now(self) -> int:
        """The time of the operation that starts now; refuses it on a closed store."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._clock.now_ms()

    def _put(self, record: Record) -> Record:
        """Make this the stored state and keep the indexes in step."""
        old = self._records.get(record.gid)
        self._records[record.gid] = record
        if record.finished_ms:
            self._unfinished.discard(record.gid)
            if old is None or not old.finished_ms:
                heapq.heappush(self._finished, (record.finished_ms, record.id, record.gid))
        else:
            self._unfinished.add(record.gid)
            moved = old is None or old.due_ms != record.due_ms or old.lease_until_ms > record.lease_until_ms
            if moved and record.due_ms < NEVER_MS:
                self._push_due(record)
        return record

    def _push_due(self, record: Record) -> None:
        heapq.heappush(self._due, (record.due_ms, record.id, record.gid))
        if len(self._due) > 2 * len(self._unfinished) + _SWEEP_AT:
            live = (self._records[gid] for gid in self._unfinished)
            self._due = [(r.due_ms, r.id, r.gid) for r in live if r.due_ms < NEVER_MS]
            heapq.heapify(self._due)
            self._leased = []

    async def ping(self) -> None:
        self._now()

    async def durability(self) -> Durability:
        return Durability("none", "memory: everything is lost when the process ends")

    async def close(self) -> None:
        self._closed = True

    async def create(self, new: NewTransaction) -> Created | Record:
        now = self._now()
        if (existing := self._records.get(new.gid)) is not None:
            return existing
        self._last_id += 1
        owner, lease_until_ms = _lease(now, new.owner, new.lease_ms, new.status)
        record = Record(
            id=self._last_id,
            gid=new.gid,
            mode=new.mode,
            status=new.status,
            body=new.body,
            progress=b"",
            owner=owner,
            epoch=1,
            version=1,
            lease_until_ms=lease_until_ms,
            due_ms=min(now + new.due_in_ms, NEVER_MS),
            attempts=0,
            parked="",
            reason="",
            result="",
            request_hash=new.request_hash,
            created_ms=now,
            updated_ms=now,
            decided_ms=0,
            finished_ms=now if new.status.final else 0,
        )
        self._put(record)
        insort(self._listing, (now, record.id, new.gid))
        return Created(record.id, now)

    async def write(self, write: Write) -> bool:
        now = self._now()
        record = self._records.get(write.gid)
        if record is None or not _holds(record, write.owner, write.epoch) or record.status is not write.expect:
            return False
        if write.version and record.version != write.version:
            return False
        owner, lease_until_ms = _lease(now, write.owner, write.lease_ms, write.status)
        final = write.status.final
        keep_due = final or write.due_in_ms < 0
        self._put(
            replace(
                record,
                status=write.status,
                progress=write.progress,
                owner=owner,
                version=record.version + 1,
                lease_until_ms=lease_until_ms,
                due_ms=record.due_ms if keep_due else min(now + write.due_in_ms, NEVER_MS),
                attempts=write.attempts,
                parked=write.parked,
                reason=write.reason or record.reason,
                updated_ms=now,
                decided_ms=record.decided_ms if write.status is record.status else now,
                finished_ms=now if final else 0,
            )
        )
        return True

    async def decide(self, decision: Decision) -> Record | None:
        now = self._now()
        record = self._records.get(decision.gid)
        if record is None or record.finished_ms or not decision.fits(record.mode, record.status):
            return None
        owner, lease_until_ms = _lease(now, decision.owner, decision.lease_ms, decision.status)
        final = decision.status.final
        return self._put(
            replace(
                record,
                status=decision.status,
                body=decision.body or record.body,
                request_hash=decision.request_hash or record.request_hash,
                owner=owner,
                epoch=record.epoch + 1,
                version=record.version + 1,
                lease_until_ms=lease_until_ms,
                due_ms=record.due_ms if final else min(now + decision.due_in_ms, NEVER_MS),
                attempts=0,
                parked="",
                reason=decision.reason or record.reason,
                result=decision.result or record.result,
                updated_ms=now,
                decided_ms=now,
                finished_ms=now if final else 0,
            )
        )

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        now = self._now()
        pairs = [(branch.branch_id, branch.op) for branch in branches]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"register {gid!r}: the same (branch_id, op) is given twice")
        record = self._records.get(gid)
        if record is None or record.mode != mode or record.status is not Status.PREPARED:
            return None
        known = {(branch.branch_id, branch.op): branch for branch in record.branches}
        if existing := tuple(known[pair] for pair in pairs if pair in known):
            return existing
        added = tuple(replace(branch, created_ms=now) for branch in branches)
        due_ms = record.due_ms if due_in_ms < 0 else max(record.due_ms, min(now + due_in_ms, NEVER_MS))
        self._put(replace(record, branches=record.branches + added, due_ms=due_ms, updated_ms=now))
        return added

    async def get(self, gid: str) -> Record | None:
        self._now()
        return self._records.get(gid)

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        self._now()
        end = len(self._listing)
        if wanted.created_to_ms:
            end = bisect_left(self._listing, (wanted.created_to_ms + 1, 0, ""))
        if position:
            end = min(end, bisect_left(self._listing, (*decode_position(position), "")))
        found: list[Record] = []
        for index in range(end - 1, -1, -1):
            created_ms, _, gid = self._listing[index]
            if created_ms < wanted.created_from_ms or len(found) > limit:
                break
            record = self._records[gid]
            if wanted.status in ("", record.status) and wanted.mode in ("", record.mode):
                found.append(replace(record, branches=()))
        page = tuple(found[:limit])
        more = len(found) > limit > 0
        return Page(page, encode_position(page[-1].created_ms, page[-1].id) if more else "")

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        now = self._now()
        if not owner or lease_ms <= 0:
            raise ValueError("claim: the owner must not be empty and lease_ms must be positive")
        self._return_expired(now)
        claimed: list[Claimed] = []
        while self._due and len(claimed) < limit and self._due[0][0] <= now:
            due_ms, row_id, gid = heapq.heappop(self._due)
            record = self._records.get(gid)
            if record is None or record.id != row_id or record.finished_ms or record.due_ms != due_ms:
                continue
            if record.lease_until_ms > now:
                heapq.heappush(self._leased, (record.lease_until_ms, row_id, gid))
                continue
            abandoned_ms = record.lease_until_ms if record.owner else 0
            taken = replace(
                record,
                owner=owner,
                epoch=record.epoch + 1,
                version=record.version + 1,
                lease_until_ms=now + lease_ms,
                due_ms=now + lease_ms,
                updated_ms=now,
            )
            claimed.append(Claimed(self._put(taken), abandoned_ms))
        return tuple(claimed)

    def _return_expired(self, now: int) -> None:
        """Put transactions back in line whose lease ran out, or might have been given up."""
        while self._leased and self._leased[0][0] <= now:
            _, row_id, gid = heapq.heappop(self._leased)
            record = self._records.get(gid)
            if record is not None and record.id == row_id and not record.finished_ms:
                heapq.heappush(self._due, (record.due_ms, row_id, gid))

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        now = self._now()
        kept = set()
        for gid, epoch in held:
            record = self._records.get(gid)
            if record is not None and _holds(record, owner, epoch):
                self._put(replace(record, lease_until_ms=now + lease_ms, due_ms=now + lease_ms, updated_ms=now))
                kept.add(gid)
        return frozenset(kept)

    async def release(self, owner: str) -> int:
        now = self._now()
        mine = [gid for gid in self._unfinished if owner and self._records[gid].owner == owner]
        for gid in mine:
            self._put(replace(self._records[gid], owner="", lease_until_ms=0, due_ms=now, updated_ms=now))
        return len(mine)

    async def wake(self, gids: tuple[str, ...]) -> int:
        now = self._now()
        known = [self._records[gid] for gid in dict.fromkeys(gids) if gid in self._records]
        for record in known:
            self._put(replace(record, due_ms=now, parked=record.parked if record.finished_ms else "", updated_ms=now))
        return len(known)

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        now = self._now()
        later = sorted(
            (record.due_ms, record.id, record.gid)
            for record in map(self._records.__getitem__, self._unfinished)
            if now + later_than_ms < record.due_ms < NEVER_MS and not record.parked
        )
        for _, _, gid in later[:limit]:
            self._put(replace(self._records[gid], due_ms=now, updated_ms=now))
        return len(later[:limit]), len(later) > limit

    async def purge(self, older_than_ms: int, limit: int) -> int:
        if self._fail.armed:
            await self._fail.hit("purge.before_delete")
        before = self._now() - older_than_ms
        deleted: set[int] = set()
        while self._finished and len(deleted) < limit and self._finished[0][0] < before:
            _, row_id, gid = heapq.heappop(self._finished)
            del self._records[gid]
            deleted.add(row_id)
        if deleted:
            self._listing = [entry for entry in self._listing if entry[1] not in deleted]
        return len(deleted)

    async def reset(self) -> int:
        self._now()
        count = len(self._records)
        self._clear()
        return count

    async def stats(self) -> Stats:
        now = self._now()
        live = [self._records[gid] for gid in self._unfinished]
        return Stats(
            unfinished=dict(Counter((record.mode, str(record.status)) for record in live)),
            oldest_unfinished_ms=min((record.created_ms for record in live), default=0),
            parked=sum(1 for record in live if record.parked),
            due=sum(1 for record in live if record.due_ms <= now and record.lease_until_ms <= now),
        )

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        self._now()
        return self._entries.get(category, {}).get(key)

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        self._now()
        entries = self._entries.get(category, {})
        after = decode_key_position(position) if position else None
        keys = sorted(key for key in entries if after is None or key > after)
        page = tuple(entries[key] for key in keys[:limit])
        return KeyValuePage(page, encode_key_position(page[-1].key) if page and len(keys) > limit else "")

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        now = self._now()
        entries = self._entries.setdefault(category, {})
        old = entries.get(key)
        if (old.version if old else 0) != expect_version:
            return False
        if old is not None:
            entries[key] = replace(old, value=value, version=old.version + 1, updated_ms=now)
        else:
            self._last_id += 1
            entries[key] = KeyValue(self._last_id, category, key, value, 1, now, now)
        return True

    async def kv_delete(self, category: str, key: str) -> bool:
        self._now()
        return self._entries.get(category, {}).pop(key, None) is not None


def _holds(record: Record, owner: str, epoch: int) -> bool:
    """Whether this driver still drives the transaction. An empty owner holds nothing."""
    return bool(owner) and not record.finished_ms and record.owner == owner and record.epoch == epoch


def _lease(now: int, owner: str, lease_ms: int, status: Status) -> tuple[str, int]:
    """Owner and end of a lease that starts now; nobody holds one without an owner or a time."""
    if owner and lease_ms > 0 and not status.final:
        return owner, now + lease_ms
    return "", 0
