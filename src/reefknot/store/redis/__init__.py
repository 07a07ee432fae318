"""The Redis store: one server, a server found by Sentinel, or a cluster.

The transactions are divided into buckets by a hash of the gid. All keys of a bucket share a hash
tag, hence a slot, so every change is one Lua script on one server, and the buckets of a cluster
spread over its masters. Everything that concerns several transactions asks every bucket and merges
the answers. The keys are described in ``lua/prelude.lua``.

Commands of all callers are pipelined on one connection to each server (see ``connection``). Each
has its own answer, so no batch is applied in part with a wrong answer for somebody.

Time is the server's: each script asks it where it runs, and the masters of a cluster each judge the
leases of their own buckets.
"""

from __future__ import annotations

import logging
from typing import Any

from reefknot.clock import Clock
from reefknot.errors import ConfigError, StoreUnavailable
from reefknot.failpoints import Failpoints
from reefknot.model import KeyValue, Status
from reefknot.store.base import (
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
from reefknot.store.certificates import refused_certificate
from reefknot.store.positions import decode_key_position, decode_position, encode_key_position, encode_position
from reefknot.store.redis.address import Address, parse_url
from reefknot.store.redis.buckets import Buckets
from reefknot.store.redis.records import (
    branch_of,
    branch_words,
    entry_of,
    index_key,
    record_of,
    stats_of,
)
from reefknot.store.redis.scripts import Script, load_scripts
from reefknot.store.redis.servers import Servers
from reefknot.store.redis.settings import read_settings, weakest
from reefknot.store.server_time import StoreTime

_log = logging.getLogger(__name__)

#: How the keys are laid out; a program that knows another number must not touch them.
_LAYOUT = 1
#: Buckets of a new store in a cluster: even on 1, 2, 3, 4, 6, 8 and 12 masters.
_CLUSTER_BUCKETS = 24
#: How often opening tries to reach a server that does not answer yet.
_PAUSE_SECONDS = 1.0
#: Keys that a reset deletes at a time.
_RESET_BATCH = 500


async def open(url: str, *, clock: Clock, failpoints: Failpoints) -> RedisStore:
    """Connect to the servers that a URL names.

    Args:
        url: see ``address.parse_url``; docs/stores/redis.md lists the options.
        clock: measures time between two looks at the server's clock; gives every time itself if
            the URL says ``clock=process``.
        failpoints: named places where a test can interfere.

    Raises:
        ConfigError: the URL or the login is wrong, a server may evict keys, the store has another
            number of buckets, or a newer version laid it out.
        StoreUnavailable: no server answered in the time that the URL gives it.
    """
    address = parse_url(url)
    scripts = load_scripts()
    servers = Servers(address, scripts)
    try:
        buckets = await _wait_for_servers(servers, scripts, address, clock)
        time = StoreTime(clock, own=address.own_clock)
        store = RedisStore(servers, scripts, buckets, time, failpoints)
        if not address.allow_eviction:
            await store.refuse_eviction()
        await store.ping()
    except BaseException:
        await servers.close()
        raise
    return store


async def _wait_for_servers(servers: Servers, scripts: dict[str, Script], address: Address, clock: Clock) -> int:
    """Connect and return the number of buckets; log while the servers do not answer."""
    until = clock.monotonic() + address.wait_seconds
    while True:
        try:
            await servers.discover()
            return await _bucket_count(servers, scripts, address)
        except StoreUnavailable as error:
            if certificate := refused_certificate(error):
                raise ConfigError(f"{certificate}; check tls-ca and the host in the store URL ({error})") from error
            left = until - clock.monotonic()
            if left <= 0:
                raise
            _log.warning("waiting for Redis", extra={"reason": str(error), "seconds_left": round(left)})
            await clock.sleep(min(_PAUSE_SECONDS, left))


async def _bucket_count(servers: Servers, scripts: dict[str, Script], address: Address) -> int:
    """Agree with all nodes on the number of buckets: the first one to come writes it down."""
    servers.use_buckets(address.prefix, 1)
    wanted = address.buckets or (_CLUSTER_BUCKETS if servers.clustered else 1)
    layout, buckets = map(int, await servers.call(scripts["meta"], 0, "", _LAYOUT, wanted))
    if layout != _LAYOUT:
        raise ConfigError(f"Redis keys of prefix {address.prefix!r}: layout {layout}; this version knows {_LAYOUT}")
    if address.buckets not in (0, buckets):
        raise ConfigError(
            f"store URL: buckets={address.buckets}, but the store has {buckets} for good; leave the option out"
        )
    servers.use_buckets(address.prefix, buckets)
    return buckets


class RedisStore:
    """Keeps transactions in Redis. Made by ``open``."""

    name = "redis"
    shared = True
    missing: frozenset[str] = frozenset()

    def __init__(
        self, servers: Servers, scripts: dict[str, Script], buckets: int, time: StoreTime, failpoints: Failpoints
    ) -> None:
        self._servers = servers
        self._time = time
        self._fail = failpoints
        self._closed = False
        self._last_id = 0
        self._buckets = Buckets(servers, scripts, buckets, self._now_word)

    def now_ms(self) -> int:
        return self._time.now_ms()

    def _now_word(self) -> str | int:
        """What every script gets as the time; refuses on a closed store, as all calls come by here."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        given = self._time.given
        return "" if given is None else given

    def _open(self) -> Buckets:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._buckets

    async def ping(self) -> None:
        sent = self._time.sent()
        for now in await self._open().everywhere("ping"):
            self._time.replied(sent, now)

    async def durability(self) -> Durability:
        self._open()
        return weakest([await read_settings(connection) for connection in await self._servers.masters()])

    async def refuse_eviction(self) -> None:
        """Raise ``ConfigError`` if a server may delete keys by itself."""
        for connection in await self._servers.masters():
            settings = await read_settings(connection)
            if settings.evicts:
                raise ConfigError(
                    f"Redis {settings.server} has maxmemory-policy {settings.policy}: when it is full it would delete "
                    "transactions. Set maxmemory-policy noeviction, or add allow-eviction=1 to the store's URL"
                )

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._servers.close()

    async def _one(self, name: str, gid: str, *words: str | bytes | int) -> Any:
        """Run a script on the bucket of a gid or category, which is its first argument."""
        buckets = self._open()
        return await buckets.call(name, buckets.of(gid), gid, *words)

    async def create(self, new: NewTransaction) -> Created | Record:
        final, sent = new.status.final, self._time.sent()
        owner, lease_ms = _lease(new.owner, new.lease_ms, new.status)
        kind, *found = await self._one(
            *("create", new.gid, new.mode, new.status, new.body, new.request_hash, owner, lease_ms),
            *(new.due_in_ms, int(final), *self._id_words(new.gid)),
        )
        if kind:
            return _existing(record_of(new.gid, *found[0]), new.gid)
        row_id, created_ms = found
        self._last_id = max(self._last_id, row_id)
        self._time.replied(sent, created_ms)
        return Created(row_id, created_ms)

    def _id_words(self, text: str) -> tuple[int, int, int]:
        """What makes new ids greater than those seen, and different in every bucket."""
        count = self._buckets.count
        return self._last_id // count, count, self._buckets.of(text)

    async def write(self, write: Write) -> bool:
        if not write.owner:
            self._open()
            return False
        owner, lease_ms = _lease(write.owner, write.lease_ms, write.status)
        applied = await self._one(
            "write",
            *(write.gid, write.owner, write.epoch, write.expect, write.status, write.progress),
            *(write.attempts, write.reason, write.parked, owner, lease_ms, write.due_in_ms, int(write.status.final)),
            write.version,
        )
        return bool(applied)

    async def decide(self, decision: Decision) -> Record | None:
        status = decision.status
        owner, lease_ms = _lease(decision.owner, decision.lease_ms, status)
        found = await self._one(
            *("decide", decision.gid, status, decision.reason, decision.result, decision.body),
            *(decision.request_hash, owner, lease_ms, decision.due_in_ms, int(status.final)),
            *(decision.mode, *decision.expect),
        )
        return record_of(decision.gid, *found) if found else None

    async def register(
        self, gid: str, mode: str, branches: tuple[BranchRow, ...], due_in_ms: int = -1
    ) -> tuple[BranchRow, ...] | None:
        if len({(branch.branch_id, branch.op) for branch in branches}) < len(branches):
            raise ValueError(f"register {gid!r}: the same (branch_id, op) is given twice")
        rows = [branch_words(branch) for branch in branches]
        found = await self._one("register", gid, mode, due_in_ms, *(word for row in rows for word in row))
        if not found:
            return None
        kind, *rest = found
        if kind == 1:
            return tuple(branch_of(name, b"0 %d %b" % (rest[0], content)) for name, content in rows)
        return tuple(branch_of(name, stored) for (name, _), stored in zip(rows, rest, strict=True) if stored)

    async def get(self, gid: str) -> Record | None:
        return record_of(gid, *await self._one("get", gid))

    async def list(self, wanted: Filter, limit: int, position: str = "") -> Page:
        # "(" leaves out what begins with the key itself, and everything greater.
        bounds = [b"(" + index_key(*decode_position(position))] if position else []
        if wanted.created_to_ms:
            bounds.append(b"(" + index_key(wanted.created_to_ms + 1, 0))
        lowest = b"[" + index_key(max(wanted.created_from_ms, 0), 0)
        buckets = self._open()
        if limit <= 0:
            return Page(())
        rows = await buckets.newest(wanted, limit + 1, min(bounds, default=b"+"), lowest)
        page = tuple(rows[:limit])
        return Page(page, encode_position(page[-1].created_ms, page[-1].id) if len(rows) > limit else "")

    async def claim(self, owner: str, limit: int, lease_ms: int) -> tuple[Claimed, ...]:
        if not owner or lease_ms <= 0:
            raise ValueError("claim: the owner must not be empty and lease_ms must be positive")
        sent = self._time.sent()
        answers, _ = await self._open().take("claim", 0, limit, owner, lease_ms, size=lambda answer: len(answer) - 4)
        claimed = []
        for _, _, _, now, *taken in answers:
            self._time.replied(sent, now)
            for was_due, abandoned_ms, gid, (fields, branches) in taken:
                record = _existing(record_of(gid.decode(), fields, branches), gid)
                claimed.append((float(was_due), record.id, Claimed(record, int(abandoned_ms))))
        return tuple(one for _, _, one in sorted(claimed, key=lambda entry: entry[:2]))

    async def renew(self, owner: str, held: tuple[tuple[str, int], ...], lease_ms: int) -> frozenset[str]:
        buckets = self._open()
        if not owner:
            return frozenset()
        answers = await buckets.each("renew", (owner, lease_ms), ((gid, (gid, epoch)) for gid, epoch in held))
        return frozenset(gid.decode() for answer in answers for gid in answer)

    async def release(self, owner: str) -> int:
        buckets = self._open()
        return sum(count for _, count in await buckets.slices_reachable("release", owner)) if owner else 0

    async def wake(self, gids: tuple[str, ...]) -> int:
        return sum(await self._open().each_reachable("wake", ((gid, (gid,)) for gid in dict.fromkeys(gids))))

    async def wake_later(self, later_than_ms: int, limit: int) -> tuple[int, bool]:
        buckets = self._open()
        answers, _ = await buckets.take("wake_later", later_than_ms, limit, later_than_ms, size=_number_taken)
        return sum(map(_number_taken, answers)), await buckets.remains("wake_later", later_than_ms)

    async def purge(self, older_than_ms: int, limit: int) -> int:
        if self._fail.armed:
            await self._fail.hit("purge.before_delete")
        answers, _ = await self._open().take("purge", -older_than_ms, limit, -older_than_ms, size=_number_taken)
        return sum(map(_number_taken, answers))

    async def reset(self) -> int:
        self._open()
        return sum([await self._servers.erase(master, _RESET_BATCH) for master in await self._servers.masters()])

    async def stats(self) -> Stats:
        return stats_of(await self._open().slices("stats"))

    async def kv_get(self, category: str, key: str) -> KeyValue | None:
        stored = await self._one("kv_get", category, key)
        return None if stored is None else entry_of(category, key, stored)

    async def kv_list(self, category: str, limit: int, position: str = "") -> KeyValuePage:
        lowest = b"(" + decode_key_position(position).encode() if position else b"-"
        size = max(limit, 0)
        found = await self._one("kv_list", category, lowest, size + 1)
        pairs = zip(found[::2], found[1::2], strict=True)
        entries = [entry_of(category, key.decode(), stored) for key, stored in pairs]
        page = tuple(entries[:size])
        return KeyValuePage(page, encode_key_position(page[-1].key) if page and len(entries) > size else "")

    async def kv_put(self, category: str, key: str, value: str, expect_version: int) -> bool:
        words = self._id_words(category)
        return bool(await self._one("kv_put", category, key, value, expect_version, *words))

    async def kv_delete(self, category: str, key: str) -> bool:
        return bool(await self._one("kv_delete", category, key))


def _lease(owner: str, lease_ms: int, status: Status) -> tuple[str, int]:
    """Owner and length of a lease; nobody holds one without an owner or a time."""
    return (owner, lease_ms) if owner and lease_ms > 0 and not status.final else ("", 0)


def _existing(record: Record | None, gid: object) -> Record:
    if record is None:
        raise StoreUnavailable(f"Redis returned nothing about {gid!r}")
    return record


def _number_taken(answer: Any) -> int:
    """The count in the answers of ``wake_later`` and ``purge``."""
    count: int = answer[3]
    return count
