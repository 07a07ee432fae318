"""The offline checker of a Redis store: do its indexes say what its transactions say (I14)?

Run it when no node writes. What it finds is told in words; an empty list is what should be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from reefknot.testing.databases.redis import RedisServer

_FINAL = (b"succeed", b"failed")
#: Bytes of the creation time, and of the creation time and id, before the gid in an index.
_TIME, _KEY = 6, 13

Pairs = list[tuple[bytes, float]]


def index_problems(servers: Sequence[RedisServer], prefix: str = "reefknot") -> list[str]:
    """Compare the transactions of a store with its indexes, on one server or all masters of a cluster.

    Checked: every unfinished transaction is in the due index with its due time and in the index of the
    unfinished; every finished one in the index by end and in that of its status; no index has another
    entry; branches belong to a transaction that counts them; no key has a time to live.

    Args:
        servers: where the keys are.
        prefix: the store's prefix.
    """
    problems: list[str] = []
    for server in servers:
        keys = _keys_of(server, prefix)
        lives = server.commands([("PTTL", key) for key in keys])
        problems += [
            f"{key!r} has a time to live of {ttl} ms" for key, ttl in zip(keys, lives, strict=True) if ttl >= 0
        ]
        buckets: dict[bytes, list[bytes]] = defaultdict(list)
        for key in keys:
            start, _, rest = key.partition(b"}:")
            buckets[start + b"}:"].append(rest)
        for start, rests in buckets.items():
            problems += _bucket_problems(server, start, rests)
    return problems


def _keys_of(server: RedisServer, prefix: str) -> list[bytes]:
    keys: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, found = server.command("SCAN", cursor, "COUNT", 1000)
        keys += [key for key in found if key.startswith(prefix.encode() + b"{")]
        if cursor == b"0":
            return sorted(set(keys))


def _bucket_problems(server: RedisServer, start: bytes, rests: Sequence[bytes]) -> Iterable[str]:
    gids = [rest[2:] for rest in rests if rest.startswith(b"t:")]
    fields = ("k", "st", "du", "fi", "nb")
    hashes = server.commands([("HMGET", start + b"t:" + gid, *fields) for gid in gids])
    wanted: dict[bytes, Pairs] = {name: [] for name in (b"due", b"live", b"fin", *_FINAL)}
    branches: dict[bytes, int] = {}
    for gid, (key, status, due, finished, count) in zip(gids, hashes, strict=True):
        final = status in _FINAL
        if final is not (finished != b"0"):
            yield f"{gid!r} is {status!r} and has the end {finished!r}"
        wanted[status if final else b"live"].append((key + gid, 0))
        wanted[b"fin" if final else b"due"].append((key[_TIME:] + gid, float(finished if final else due)))
        if count:
            branches[gid] = int(count)
    for name, pairs in wanted.items():
        answer = server.command("ZRANGE", start + name, 0, -1, "WITHSCORES")
        found = set(zip(answer[::2], map(float, answer[1::2]), strict=True))
        yield from (f"{start + name!r} lacks {pair}" for pair in set(pairs) - found)
        yield from (f"{start + name!r} has {pair} too much" for pair in found - set(pairs))
    lists = [rest[2:] for rest in rests if rest.startswith(b"b:")]
    counts = server.commands([("HLEN", start + b"b:" + gid) for gid in lists])
    if dict(zip(lists, counts, strict=True)) != branches:
        yield f"{start!r}: branches {dict(zip(lists, counts, strict=True))} instead of {branches}"
