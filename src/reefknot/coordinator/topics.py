"""Topics: names that stand for a list of subscriber URLs.

Stored as versioned entries of category ``topics``. Each node keeps an immutable snapshot that is
replaced as a whole at every refresh, so a deleted topic is forgotten and a re-created one is not
mistaken for its predecessor. A topic that is not in the snapshot is looked up in the store before
anybody is told that it does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from reefknot.callers import Callers
from reefknot.engine.admission import Limits, check_name, check_url
from reefknot.errors import Invalid, NotFound, ReefknotError, TooLarge
from reefknot.failpoints import Failpoints
from reefknot.model import KeyValue
from reefknot.store.base import Store

CATEGORY = "topics"
#: Entries read at a time when the snapshot is refreshed.
SCAN_BATCH = 500
#: A topic's subscribers; each message to it becomes that many branches.
SUBSCRIBERS_MOST = 1_000
#: What an operator writes about a subscriber.
REMARK_BYTES = 1_024


class Subscriber(msgspec.Struct, frozen=True):
    """One receiver of a topic's messages."""

    url: str
    remark: str = ""


class TopicError(ReefknotError):
    """The topic cannot be changed like this; DTM answers 500."""


class Topics:
    """Subscribe, unsubscribe, delete, and the URLs of a topic."""

    def __init__(self, store: Store, callers: Callers, limits: Limits, failpoints: Failpoints) -> None:
        self._store = store
        self._callers = callers
        self._limits = limits
        self._fail = failpoints
        self._known: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    async def refresh(self) -> None:
        """Read all topics anew."""
        if self._fail.armed:
            await self._fail.hit("topic.refresh")
        known: dict[str, tuple[str, ...]] = {}
        position = ""
        while True:
            page = await self._store.kv_list(CATEGORY, SCAN_BATCH, position)
            known.update((entry.key, urls(entry)) for entry in page.entries)
            position = page.position
            if not position:
                break
        self._known = MappingProxyType(known)

    async def expand(self, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """The subscribers of each topic.

        Raises:
            NotFound: a topic does not exist or has no subscriber.
        """
        found: dict[str, tuple[str, ...]] = {}
        for name in names:
            targets = self._known.get(name, ())
            if not targets:
                entry = await self._store.kv_get(CATEGORY, name)
                targets = urls(entry) if entry else ()
            if not targets:
                raise NotFound(f"topic not found: {name!r} has no subscribers")
            found[name] = targets
        return found

    async def subscribe(self, topic: str, url: str, remark: str) -> None:
        """Add a subscriber.

        Raises:
            TopicError: the URL is subscribed already, or somebody else changed the topic just now.
            Invalid: the topic or URL is empty or too long, or the URL cannot be called.
        """
        self._check(topic, url)
        if len(remark.encode()) > REMARK_BYTES:
            raise TooLarge("remark", f"is longer than {REMARK_BYTES} bytes", "send less")
        if url.startswith(("http://", "https://")) and (problem := self._callers.check("http", url)):
            raise Invalid("url", problem)
        entry = await self._store.kv_get(CATEGORY, topic)
        subscribers = subscribers_of(entry)
        if any(one.url == url for one in subscribers):
            raise TopicError("this url exists")
        if len(subscribers) >= SUBSCRIBERS_MOST:
            raise TopicError(f"the topic has {SUBSCRIBERS_MOST} subscribers, which is the most")
        await self._change(topic, entry, (*subscribers, Subscriber(url, remark)))

    async def unsubscribe(self, topic: str, url: str) -> None:
        """Remove a subscriber; the emptied topic stays.

        Raises:
            TopicError: there is no such topic or subscriber, or somebody else changed it just now.
            Invalid: the topic or URL is empty.
        """
        self._check(topic, url)
        entry = await self._store.kv_get(CATEGORY, topic)
        if entry is None:
            raise TopicError("no such a topic")
        subscribers = subscribers_of(entry)
        if not subscribers:
            raise TopicError("this topic is empty")
        rest = tuple(one for one in subscribers if one.url != url)
        if len(rest) == len(subscribers):
            raise TopicError("no such an url ")
        await self._change(topic, entry, rest)

    async def delete(self, topic: str) -> None:
        """Remove a topic with its subscribers.

        Raises:
            NotFound: there is none.
        """
        if not topic:
            raise Invalid("topic", "empty topic", status=500)
        if not await self._store.kv_delete(CATEGORY, topic):
            raise NotFound(f"storage: NotFound: no topic {topic!r}")
        self._known = MappingProxyType({name: known for name, known in self._known.items() if name != topic})

    async def _change(self, topic: str, entry: KeyValue | None, subscribers: tuple[Subscriber, ...]) -> None:
        value = msgspec.json.encode(subscribers).decode()
        if not await self._store.kv_put(CATEGORY, topic, value, entry.version if entry else 0):
            raise TopicError("storage: NotFound: the topic was changed by somebody else; try again")
        self._known = MappingProxyType({**self._known, topic: tuple(one.url for one in subscribers)})

    def _check(self, topic: str, url: str) -> None:
        if not topic:
            raise Invalid("topic", "empty topic", status=500)
        if not url:
            raise Invalid("url", "empty url", status=500)
        check_name("topic", topic, self._limits)
        check_url("url", url, self._limits)


def subscribers_of(entry: KeyValue | None) -> tuple[Subscriber, ...]:
    """The subscribers in a stored entry."""
    return msgspec.json.decode(entry.value, type=tuple[Subscriber, ...]) if entry else ()


def urls(entry: KeyValue) -> tuple[str, ...]:
    """The URLs in a stored entry."""
    return tuple(one.url for one in subscribers_of(entry))
