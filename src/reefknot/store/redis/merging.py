"""The first or newest entries of several buckets together.

Each bucket tells its first few entries. If it has more than it told, nothing beyond its last one
can be ranked yet: that entry is the bucket's frontier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

Entry = tuple[int, bytes]


def first_of_all(told: Mapping[int, tuple[Sequence[Entry], bool]], limit: int) -> tuple[Counter[int], bool]:
    """How many of the first ``limit`` entries of all buckets lie in each.

    Args:
        told: for each bucket its first entries in order, and whether it has more.
        limit: how many are wanted.

    Returns:
        The numbers, and whether there is more than what they count.
    """
    frontiers = [entries[-1] for entries, more in told.values() if more and entries]
    frontier = min(frontiers, default=None)
    ranked = sorted(
        (entry, bucket)
        for bucket, (entries, _) in told.items()
        for entry in entries
        if frontier is None or entry <= frontier
    )
    total = sum(len(entries) for entries, _ in told.values())
    more = any(more for _, more in told.values())
    return Counter(bucket for _, bucket in ranked[:limit]), more or total > limit


def newest_of_all(told: Sequence[tuple[int, Sequence[bytes], bool]]) -> tuple[list[tuple[bytes, int]], bool]:
    """The members that can be ranked, newest (largest) first, with their buckets.

    Args:
        told: bucket, members in falling order, and whether there are more of them.

    Returns:
        The members, and whether there may be more beyond them.
    """
    frontier = max((members[-1] for _, members, more in told if more), default=b"")
    ranked = sorted(
        ((member, bucket) for bucket, members, _ in told for member in members if member >= frontier), reverse=True
    )
    return ranked, bool(frontier)
