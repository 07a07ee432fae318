"""Translation between what the scripts return and the values of the store's contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from reefknot.model import KeyValue, Status
from reefknot.store.base import BranchRow, Record, Stats

#: Bytes of the creation time, and of the creation time and the id, at the beginning of an index member.
_TIME, KEY = 6, 13

_LAST = b"\xff" * KEY
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


def index_key(created_ms: int, row_id: int) -> bytes:
    """What stands before the gid in an index by creation; larger numbers than it can hold become its last."""
    if created_ms >= 1 << (8 * _TIME):
        return _LAST
    return created_ms.to_bytes(_TIME) + min(row_id, (1 << 56) - 1).to_bytes(KEY - _TIME)


def created_of(member: bytes) -> int:
    """The creation time of a member of an index by creation."""
    return int.from_bytes(member[:_TIME])


def record_of(gid: str, fields: Sequence[bytes], branches: Sequence[bytes] = ()) -> Record | None:
    """A record from the fields of its hash and of its branches' hash; ``None`` if there are none."""
    if not fields:
        return None
    get = dict(zip(fields[::2], fields[1::2], strict=True)).get
    key = get(b"k", b"")
    return Record(
        id=int.from_bytes(key[_TIME:]),
        gid=gid,
        mode=get(b"md", b"").decode(),
        status=Status(get(b"st", b"").decode()),
        body=get(b"bo", b""),
        progress=get(b"pr", b""),
        owner=get(b"ow", b"").decode(),
        epoch=int(get(b"ep", 0)),
        version=int(get(b"ve", 0)),
        lease_until_ms=int(get(b"lu", 0)),
        due_ms=int(get(b"du", 0)),
        attempts=int(get(b"at", 0)),
        parked=get(b"pa", b"").decode(),
        reason=get(b"re", b"").decode(),
        result=get(b"rs", b"").decode(),
        request_hash=get(b"ha", b""),
        created_ms=created_of(key),
        updated_ms=int(get(b"up", 0)),
        decided_ms=int(get(b"de", 0)),
        finished_ms=int(get(b"fi", 0)),
        branches=_branches_of(branches) if branches else (),
    )


def _branches_of(pairs: Sequence[bytes]) -> tuple[BranchRow, ...]:
    rows = list(zip(pairs[::2], pairs[1::2], strict=True))
    rows.sort(key=lambda row: int(row[1].partition(b" ")[0]))
    return tuple(branch_of(name, stored) for name, stored in rows)


def branch_words(row: BranchRow) -> tuple[bytes, bytes]:
    """The name and the content of a branch as ``register`` takes them."""
    return _pack((row.branch_id, row.op)), _pack((row.url, row.payload, row.status))


def branch_of(name: bytes, stored: bytes) -> BranchRow:
    """A branch from its name and what is stored for it: position, creation time, content."""
    _, created_ms, content = stored.split(b" ", 2)
    branch_id, op = _unpack(name)
    url, payload, status = _unpack(content)
    return BranchRow(branch_id, op, url, payload, Status(status), int(created_ms))


def entry_of(category: str, key: str, stored: bytes) -> KeyValue:
    """A key's entry from its stored form."""
    version, row_id, created_ms, updated_ms, value = stored.split(b" ", 4)
    return KeyValue(int(row_id), category, key, value.decode(), int(version), int(created_ms), int(updated_ms))


def stats_of(slices: Sequence[Sequence[Any]]) -> Stats:
    """The sum of the slices that the script ``stats`` returned."""
    unfinished: dict[tuple[str, str], int] = {}
    for _, _, _, _, *counts in slices:
        for mode, status, number in zip(counts[::3], counts[1::3], counts[2::3], strict=True):
            kind = (mode.decode(), status.decode())
            unfinished[kind] = unfinished.get(kind, 0) + number
    return Stats(
        unfinished=unfinished,
        oldest_unfinished_ms=min((created_of(part[1]) for part in slices if part[1]), default=0),
        parked=sum(part[2] for part in slices),
        due=sum(part[3] for part in slices),
    )
