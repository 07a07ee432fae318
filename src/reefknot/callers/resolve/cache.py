"""Remembers where services can be called, so that neither a slow nor a dead registry stops a call."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from reefknot.callers.base import DiscoveryError
from reefknot.callers.pool import Address
from reefknot.clock import Clock

_log = logging.getLogger(__name__)

#: Starts a coroutine in the background under a name.
Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]

#: An answer of a registry is taken as it is for so long.
FRESH_SECONDS = 1.0
#: Then it is asked for again, and the call waits so long for the new answer before it uses the old
#: one. It does not wait at all if the registry did not answer the last time.
WAIT_SECONDS = 0.2
#: The pause after a registry did not answer.
PAUSE_SECONDS = 1.0
#: Services that are remembered; the one that was not asked for the longest is forgotten first.
REMEMBERED_MOST = 4_096


class _Entry:
    """What is known of one service."""

    __slots__ = ("addresses", "answered_at", "asking", "failed_at", "failure")

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.answered_at: float | None = None
        self.failed_at: float | None = None
        self.failure = ""
        self.asking: asyncio.Task[None] | None = None


class AddressCache:
    """Answers from memory and asks at most one question for each key at a time.

    Args:
        clock: how old an answer is.
        spawn: starts the questions, which outlive the call that needed them.
    """

    def __init__(self, clock: Clock, spawn: Spawn) -> None:
        self._clock = clock
        self._spawn = spawn
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()

    async def get(
        self, key: tuple[str, str], resolve: Callable[[], Awaitable[tuple[Address, ...]]]
    ) -> tuple[Address, ...]:
        """The addresses of a service.

        Args:
            key: the service and the protocol.
            resolve: asks the registry.

        Raises:
            DiscoveryError: nobody is registered, or the registry does not answer and never did.
        """
        entry = self._entry(key)
        now = self._clock.monotonic()
        age = None if entry.answered_at is None else now - entry.answered_at
        if age is None or age >= FRESH_SECONDS:
            paused = entry.failed_at is not None and now - entry.failed_at < PAUSE_SECONDS
            if (entry.asking is None or entry.asking.done()) and not paused:
                entry.asking = self._spawn(self._ask(key, entry, resolve), f"resolve:{key[0]}")
            if entry.asking is not None and (age is None or entry.failed_at is None):
                # Others wait for the same answer: a caller that gives up must not take it from them.
                await asyncio.wait((entry.asking,), timeout=None if age is None else WAIT_SECONDS)
        if entry.answered_at is None:
            raise DiscoveryError(entry.failure or f"{key[0]}: the registry was not asked to the end")
        if not entry.addresses:
            raise DiscoveryError(f"nobody is registered as {key[0]} for {key[1]}")
        return entry.addresses

    def _entry(self, key: tuple[str, str]) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            if len(self._entries) > REMEMBERED_MOST:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return entry

    async def _ask(
        self, key: tuple[str, str], entry: _Entry, resolve: Callable[[], Awaitable[tuple[Address, ...]]]
    ) -> None:
        try:
            addresses = await resolve()
        except DiscoveryError as error:
            if entry.failed_at is None:
                _log.warning("registry does not answer", extra={"service": key[0], "error": str(error)})
            entry.failed_at, entry.failure = self._clock.monotonic(), str(error)
        else:
            if entry.failed_at is not None:
                _log.info("registry answers again", extra={"service": key[0]})
            entry.addresses, entry.answered_at = addresses, self._clock.monotonic()
            entry.failed_at, entry.failure = None, ""
        finally:
            entry.asking = None
