"""Tells a web hook when a branch keeps failing or a transaction is parked.

Alerts have a queue and a task of their own: a slow or dead hook delays no transaction. The body
has DTM's five keys. An alert that waits in the queue already is not queued twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable

import msgspec

from reefknot.clock import Clock
from reefknot.observe import Observer

_log = logging.getLogger(__name__)

#: Alerts that wait at most; more than that says the same.
QUEUE_MOST = 1_000
#: Attempts to deliver one alert, with twice the pause each time.
ATTEMPTS = 5
PAUSE_SECONDS = 1.0
SIGNATURE_HEADER = "X-Reefknot-Signature"

#: Sends one POST: URL, body, headers → whether the receiver answered with a 2xx.
Post = Callable[[str, bytes, dict[str, str]], Awaitable[bool]]


class Alert(msgspec.Struct, frozen=True):
    """What the hook receives, under DTM's names."""

    gid: str
    status: str
    branch: str
    error: str
    retry_count: int


class Alerts:
    """The queue of alerts.

    Args:
        url: where to send them; empty keeps the queue out of use.
        secret: signs each body with HMAC-SHA256, as ``X-Reefknot-Signature: sha256=<hex>``; may be empty.
        post: sends one request.
    """

    def __init__(self, url: str, secret: str, post: Post, clock: Clock, observer: Observer) -> None:
        self._url = url
        self._secret = secret.encode()
        self._post = post
        self._clock = clock
        self._observer = observer
        self._queue: asyncio.Queue[Alert] = asyncio.Queue(QUEUE_MOST)
        self._waiting: set[Alert] = set()

    def raised(self, gid: str, status: str, branch: str, error: str, retry_count: int) -> None:
        """Queue an alert; never waits. Drops it, counted, if the queue is full."""
        alert = Alert(gid, str(status), branch, error, retry_count)
        if not self._url or alert in self._waiting:
            return
        try:
            self._queue.put_nowait(alert)
        except asyncio.QueueFull:
            self._observer.alert_dropped()
            return
        self._waiting.add(alert)

    async def run(self) -> None:
        """Deliver alerts until cancelled."""
        while True:
            alert = await self._queue.get()
            if not await self._deliver(alert):
                self._observer.alert_dropped()
                _log.error("alert not delivered", extra={"gid": alert.gid, "retry_count": alert.retry_count})
            self._waiting.discard(alert)

    async def _deliver(self, alert: Alert) -> bool:
        body = msgspec.json.encode(alert)
        headers = {"Content-Type": "application/json"}
        if self._secret:
            headers[SIGNATURE_HEADER] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        for attempt in range(ATTEMPTS):
            if attempt:
                await self._clock.sleep(PAUSE_SECONDS * 2.0 ** (attempt - 1))
            if await self._post(self._url, body, headers):
                return True
        return False
