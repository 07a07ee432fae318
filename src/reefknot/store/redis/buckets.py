"""Operations that concern several transactions: ask every bucket, merge, and act where they lie.

What keeps transactions going (claims, waking, the purge, the release of leases) does what it can: a
bucket whose server does not answer is left out, as the transactions of the others can go on. A
question that would be answered wrongly without one bucket fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar
from zlib import crc32

from reefknot.errors import StoreUnavailable
from reefknot.model import Status
from reefknot.store.base import Filter, Record
from reefknot.store.redis.connection import Word
from reefknot.store.redis.merging import Entry, first_of_all, newest_of_all
from reefknot.store.redis.records import KEY, record_of
from reefknot.store.redis.scripts import Script
from reefknot.store.redis.servers import Servers

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_REMOVED = "an index entry without a transaction was removed: somebody deleted the transaction by hand"

_LEFT_OUT = "buckets are left out of recovery and purge until their server answers"

#: One script handles at most so many transactions: a server runs nothing else meanwhile.
BATCH = 100
#: The longest part of a listing read from one bucket at a time.
_LIST_BATCH = 200
#: What a bucket says is left: nothing, something, or "go on with the new skip to know".
_NOTHING, _UNKNOWN = 0, 2
#: What each way to take entries looks for, see ``candidates.lua``.
_INDEX = {"claim": "claim", "wake_later": "later", "purge": "purge"}


class Buckets:
    """Runs scripts on buckets.

    Args:
        servers: where the buckets are.
        scripts: by name.
        count: how many buckets there are.
        now: the first argument of every script: a time that a test set, or empty.
    """

    def __init__(self, servers: Servers, scripts: dict[str, Script], count: int, now: Callable[[], Word]) -> None:
        self._servers = servers
        self._scripts = scripts
        self._now = now
        #: Buckets that were left out and have not answered since.
        self._silent: frozenset[int] = frozenset()
        self.count = count

    def of(self, text: str) -> int:
        """The bucket of a gid or a category."""
        return crc32(text.encode()) % self.count if self.count > 1 else 0

    async def call(self, name: str, bucket: int, *words: Word) -> Any:
        """Run a script; raises what ``Servers.call`` does."""
        return await self._servers.call(self._scripts[name], bucket, self._now(), *words)

    async def everywhere(self, name: str, *words: Word) -> list[Any]:
        """Run a script on every bucket."""
        return await asyncio.gather(*(self.call(name, bucket, *words) for bucket in range(self.count)))

    async def each(
        self, name: str, before: tuple[Word, ...], items: Iterable[tuple[str, tuple[Word, ...]]]
    ) -> list[Any]:
        """Run a script for many transactions, in batches for each bucket.

        Args:
            name: the script.
            before: its first arguments.
            items: each gid and the arguments that stand for it.

        Raises:
            StoreUnavailable: a bucket does not answer.
        """
        parts = [self._batches(name, bucket, before, words) for bucket, words in self._grouped(items).items()]
        return [answer for part in await asyncio.gather(*parts) for answer in part]

    async def each_reachable(self, name: str, items: Iterable[tuple[str, tuple[Word, ...]]]) -> list[Any]:
        """As ``each``, without the buckets that do not answer.

        Raises:
            StoreUnavailable: none of them answers.
        """
        work = {bucket: self._batches(name, bucket, (), words) for bucket, words in self._grouped(items).items()}
        return [answer for part in (await self._reachable(work)).values() for answer in part]

    def _grouped(self, items: Iterable[tuple[str, tuple[Word, ...]]]) -> Mapping[int, list[tuple[Word, ...]]]:
        grouped: dict[int, list[tuple[Word, ...]]] = defaultdict(list)
        for gid, words in items:
            grouped[self.of(gid)].append(words)
        return grouped

    async def _batches(
        self, name: str, bucket: int, before: tuple[Word, ...], items: list[tuple[Word, ...]]
    ) -> list[Any]:
        calls = (
            self.call(name, bucket, *before, *(word for words in items[at : at + BATCH] for word in words))
            for at in range(0, len(items), BATCH)
        )
        return await asyncio.gather(*calls)

    async def _reachable(self, work: Mapping[int, Awaitable[Answer]]) -> dict[int, Answer]:
        """What came of work on several buckets, without those that do not answer.

        The log says once that a bucket is left out, until it has answered again.

        Raises:
            StoreUnavailable: none of them answers.
        """
        answers: dict[int, Answer] = {}
        failed: dict[int, StoreUnavailable] = {}
        for bucket, found in zip(work, await asyncio.gather(*work.values(), return_exceptions=True), strict=True):
            if isinstance(found, StoreUnavailable):
                failed[bucket] = found
            elif isinstance(found, BaseException):
                raise found
            else:
                answers[bucket] = found
        if failed and not answers:
            raise next(iter(failed.values()))
        if new := sorted(failed.keys() - self._silent):
            _log.warning(_LEFT_OUT, extra={"buckets": new, "of": self.count, "error": str(failed[new[0]])})
        self._silent = (self._silent | failed.keys()) - answers.keys()
        return answers

    async def slices(self, name: str, *words: Word) -> list[Any]:
        """Run a script that works through a bucket in slices, until the end of every bucket.

        It takes where to go on as its last argument, and returns that first, empty at the end.

        Raises:
            StoreUnavailable: a bucket does not answer.
        """
        found = await asyncio.gather(*(self._through(name, bucket, words) for bucket in range(self.count)))
        return [answer for answers in found for answer in answers]

    async def slices_reachable(self, name: str, *words: Word) -> list[Any]:
        """As ``slices``, without the buckets that do not answer.

        Raises:
            StoreUnavailable: none of them answers.
        """
        found = await self._reachable({bucket: self._through(name, bucket, words) for bucket in range(self.count)})
        return [answer for answers in found.values() for answer in answers]

    async def _through(self, name: str, bucket: int, words: tuple[Word, ...]) -> list[Any]:
        answers: list[Any] = []
        start = b"-"
        while start:
            answers.append(await self.call(name, bucket, *words, start))
            start = answers[-1][0]
        return answers

    async def take(
        self, name: str, bound_ms: int, limit: int, *words: Word, size: Callable[[Any], int]
    ) -> tuple[list[Any], bool]:
        """Run a script that takes the first entries of an index, at most ``limit`` over all buckets.

        Args:
            name: ``claim``, ``wake_later`` or ``purge``.
            bound_ms: the bound of the index, relative to now.
            limit: the largest number to take.
            words: further arguments of the script.
            size: how many entries an answer stands for.

        Returns:
            The answers, and whether there may be more to take, also in a bucket that does not answer.

        Raises:
            StoreUnavailable: no bucket answers.
        """
        if self.count == 1:
            return await self._take_from(name, 0, limit, words, size)
        answers: list[Any] = []
        # One that did not answer is not asked again: each time would take the whole time limit.
        buckets: Iterable[int] = range(self.count)
        more = True
        while limit > 0 and more:
            try:
                told = await self._heads(_INDEX[name], bound_ms, limit, buckets)
                shares, more = first_of_all(told, limit)
                parts = await self._reachable(
                    {bucket: self._take_from(name, bucket, share, words, size) for bucket, share in shares.items()}
                )
            except StoreUnavailable:
                if answers:
                    return answers, True
                raise
            buckets = [bucket for bucket in told if bucket not in shares or bucket in parts]
            taken = [answer for part, _ in parts.values() for answer in part]
            answers += taken
            # It may be less than the shares: other nodes take from the same buckets.
            limit -= sum(map(size, taken))
        return answers, more or len(tuple(buckets)) < self.count

    async def remains(self, name: str, *words: Word) -> bool:
        """Whether there may be anything left for a script that takes entries: so in a bucket that does not answer.

        Raises:
            StoreUnavailable: no bucket answers.
        """
        found = await self._reachable({bucket: self._remains_in(name, bucket, words) for bucket in range(self.count)})
        return any(found.values()) or len(found) < self.count

    async def _remains_in(self, name: str, bucket: int, words: tuple[Word, ...]) -> bool:
        left, skip = _UNKNOWN, 0
        while left == _UNKNOWN:
            left, skip, *_ = await self._told(name, bucket, 0, skip, *words)
        return left != _NOTHING

    async def _told(self, name: str, bucket: int, *words: Word) -> Any:
        """Run a script that goes through candidates, and report the entries that it had to remove."""
        answer = await self.call(name, bucket, *words)
        for gid in answer[2]:
            _log.warning(_REMOVED, extra={"gid": gid.decode(errors="replace")})
        return answer

    async def _take_from(
        self, name: str, bucket: int, limit: int, words: tuple[Word, ...], size: Callable[[Any], int]
    ) -> tuple[list[Any], bool]:
        answers: list[Any] = []
        left, skip = _UNKNOWN, 0
        while limit > 0 and left != _NOTHING:
            try:
                answer = await self._told(name, bucket, min(limit, BATCH), skip, *words)
            except StoreUnavailable:
                if answers:  # what they stand for is taken
                    break
                raise
            answers.append(answer)
            left, skip = answer[:2]
            limit -= size(answer)
        return answers, left != _NOTHING

    async def _heads(
        self, what: str, bound_ms: int, limit: int, buckets: Iterable[int]
    ) -> dict[int, tuple[list[Entry], bool]]:
        """The first entries of each bucket, and whether it has more."""
        wanted = min(-(-limit // self.count) * 2 + 4, limit, BATCH)
        return await self._reachable({bucket: self._heads_in(what, bound_ms, wanted, bucket) for bucket in buckets})

    async def _heads_in(self, what: str, bound_ms: int, limit: int, bucket: int) -> tuple[list[Entry], bool]:
        left, skip = _UNKNOWN, 0
        entries: list[Any] = []
        while left == _UNKNOWN and not entries:
            left, skip, _, *entries = await self._told("heads", bucket, what, bound_ms, limit, skip)
        pairs = zip(entries[::2], entries[1::2], strict=True)
        return [(int(float(time)), row_id) for time, row_id in pairs], left != _NOTHING

    async def newest(self, wanted: Filter, limit: int, highest: bytes, lowest: bytes) -> list[Record]:
        """The newest transactions that match, without branches.

        Args:
            wanted: the filter; its times are in the bounds.
            limit: the largest number.
            highest: the upper bound of the index, as Redis writes one.
            lowest: the lower bound.
        """
        indexes = _indexes(wanted.status)
        found: list[Record] = []
        more, size = True, min(-(-limit // self.count) + 4, _LIST_BATCH)
        while more and len(found) < limit:
            answers = await self.everywhere("newest", highest, lowest, size, *indexes)
            members, more = newest_of_all(
                [(bucket, part, len(part) == size) for bucket, parts in enumerate(answers) for part in parts]
            )
            for at in range(0, len(members), BATCH):
                found += await self._matching(wanted, members[at : at + BATCH])
                if len(found) >= limit:
                    break
            if members:
                highest = b"(" + members[-1][0][:KEY]
            size = min(size * 2, _LIST_BATCH)
        return found[:limit]

    async def _matching(self, wanted: Filter, members: list[tuple[bytes, int]]) -> list[Record]:
        gids = [member[KEY:].decode() for member, _ in members]
        answers = await self.each("fetch", (wanted.status, wanted.mode), ((gid, (gid,)) for gid in gids))
        found = {gid.decode(): fields for answer in answers for gid, fields in answer}
        records = (record_of(gid, found.get(gid, ())) for gid in gids)
        return [record for record in records if record is not None]


def _indexes(status: str) -> tuple[str, ...]:
    """The indexes by creation that hold the transactions with a status; empty means any."""
    if not status:
        return ("live", "succeed", "failed")
    return (status,) if status in (Status.SUCCEED, Status.FAILED) else ("live",)
