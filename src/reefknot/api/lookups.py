"""The verbs whose arguments are a few named values: the same code for HTTP's query string and JSON-RPC's params."""

from __future__ import annotations

from typing import Protocol

import msgspec

from reefknot.coordinator.coordinator import Coordinator
from reefknot.coordinator.topics import CATEGORY
from reefknot.errors import Invalid
from reefknot.wire import replies
from reefknot.wire.outcome import reason_text

#: Rows of a listing, at most and if the client does not say.
LIST_MOST = 1_000
LIST_DEFAULT = 100
#: The latest creation time of a listing, in milliseconds: what every JSON reader takes for a whole number.
LATEST_MS = 2**53
SECONDS_MOST = 10 * 365 * 86_400


class Parameters(Protocol):
    """Named values as a client sent them."""

    def text(self, name: str) -> str:
        """A text, empty if it is missing."""
        ...

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number from 0 to ``most``.

        Raises:
            Invalid: it is none.
        """
        ...


class JsonParameters:
    """The named values of a JSON object.

    Raises:
        Invalid: the JSON is no object.
    """

    def __init__(self, params: bytes) -> None:
        try:
            self._values = msgspec.json.decode(params, type=dict[str, object] | None) or {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problem = f"is not a JSON object ({reason_text(str(error), 200)})"
            raise Invalid("params", problem, "send an object") from error

    def text(self, name: str) -> str:
        """A text, empty if it is missing or null."""
        value = self._values.get(name)
        if not isinstance(value, str | None):
            raise Invalid(name, "is not a text", "send it in quotes")
        return value or ""

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number, the default if it is missing or null."""
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid(name, "is not a whole number", f"send one from 0 to {most}")
        return in_range(name, value, most)


def in_range(name: str, value: int, most: int) -> int:
    """The value.

    Raises:
        Invalid: it is negative, or more than ``most``.
    """
    if not 0 <= value <= most:
        raise Invalid(name, f"is {value}", f"send a whole number from 0 to {most}")
    return value


class Lookups:
    """Each method takes its arguments, calls one verb, and makes the value of the reply; None is a plain success.

    Args:
        reset_seconds: what ``wake_later`` takes if the client does not say.
    """

    def __init__(self, coordinator: Coordinator, reset_seconds: int) -> None:
        self._verbs = coordinator
        self._reset_seconds = reset_seconds

    async def query(self, given: Parameters) -> object:
        """One transaction with its branches."""
        return replies.query_reply(await self._verbs.get(_gid(given)))

    async def wait(self, given: Parameters) -> object:
        """The same, once it is finished or the time is over."""
        gid, seconds = _gid(given), given.number("seconds", 0, SECONDS_MOST)
        return replies.query_reply(await self._verbs.wait(gid, seconds))

    async def all(self, given: Parameters) -> object:
        """Transactions, newest first."""
        if gid := given.text("gid"):
            found = await self._verbs.get(gid)
            listed = replies.list_reply([found] if found else [], "")
            return listed if found else listed | {"transactions": None}
        details, position = await self._verbs.list(
            status=given.text("status"),
            mode=given.text("transType"),
            created_from_ms=given.number("createTimeStart", 0, LATEST_MS),
            created_to_ms=given.number("createTimeEnd", LATEST_MS, LATEST_MS),
            limit=given.number("limit", LIST_DEFAULT, LIST_MOST),
            position=given.text("position"),
        )
        return replies.list_reply(details, position)

    async def wake_later(self, given: Parameters) -> object:
        """Try again now what would be due much later."""
        later_than = given.number("timeout", self._reset_seconds, SECONDS_MOST)
        limit = given.number("limit", LIST_DEFAULT, LIST_MOST)
        count, remaining = await self._verbs.wake_later(later_than, limit)
        return {"has_remaining": remaining, "succeed_count": count}

    async def subscribe(self, given: Parameters) -> object:
        """Add a subscriber to a topic."""
        await self._verbs.topics.subscribe(given.text("topic"), given.text("url"), given.text("remark"))
        return None

    async def unsubscribe(self, given: Parameters) -> object:
        """Remove a subscriber."""
        await self._verbs.topics.unsubscribe(given.text("topic"), given.text("url"))
        return None

    async def delete_topic(self, given: Parameters) -> object:
        """Remove a topic."""
        await self._verbs.topics.delete(given.text("topic"))
        return None

    async def scan_keys(self, given: Parameters) -> object:
        """Entries of the key-value table."""
        limit = given.number("limit", LIST_DEFAULT, LIST_MOST)
        page = await self._verbs.keys(given.text("cat") or CATEGORY, limit, given.text("position"))
        return {"kv": [replies.key_value_fields(entry) for entry in page.entries], "next_position": page.position}

    async def query_key(self, given: Parameters) -> object:
        """One entry, or the first ones if no key is named."""
        category, key = given.text("cat") or CATEGORY, given.text("key")
        if not key:
            page = await self._verbs.keys(category, LIST_MOST, "")
            return {"kv": [replies.key_value_fields(entry) for entry in page.entries]}
        entry = await self._verbs.key(category, key)
        return {"kv": [replies.key_value_fields(entry)] if entry else []}


def _gid(given: Parameters) -> str:
    gid = given.text("gid")
    if not gid:
        raise Invalid("", "no gid specified", "send the gid of a transaction", status=500)
    return gid
