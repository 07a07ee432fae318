"""Reading the body of a request, within a size and a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from reefknot.errors import Invalid, TooLarge

Receive = Callable[[], Awaitable[dict[str, Any]]]

#: A client that is slower than this with its body is cut off.
BODY_SECONDS = 30.0


class BodyReader:
    """Reads bodies for all requests of one API.

    One timer watches over all of them: one for each request would cost half as much as the whole
    request (12 µs of 22).

    Args:
        limit_bytes: the largest body.
        seconds: how long a client may take to send it.
    """

    def __init__(self, limit_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self._limit = limit_bytes
        self._seconds = seconds
        #: When each reading request is late, oldest first, on the loop's clock.
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.TimerHandle | None = None

    async def read(self, headers: list[tuple[bytes, bytes]], receive: Receive) -> bytes:
        """The complete body.

        Raises:
            TooLarge: it has more bytes than the limit.
            Invalid: it took too long (status 408), or the client went away in the middle of it.
        """
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                raise self._too_large()
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if task is None:
            raise RuntimeError("a body is read in a task")
        self._reading[task] = loop.time() + self._seconds
        if self._watch is None:
            self._watch = loop.call_later(self._seconds, self._cut_off, loop)
        try:
            return await self._received(receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            problem = f"the body did not arrive within {self._seconds:g} s"
            raise Invalid("", problem, "send it faster", status=408) from None
        finally:
            del self._reading[task]

    async def _received(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Invalid("", "the connection was closed before the body was complete", "send the request again")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self._limit:
                raise self._too_large()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut_off(self, loop: asyncio.AbstractEventLoop) -> None:
        """Interrupt who is late, and look again when the next one would be."""
        now, self._watch = loop.time(), None
        for task, late_at in self._reading.items():
            if late_at > now:
                self._watch = loop.call_at(late_at, self._cut_off, loop)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()

    def _too_large(self) -> TooLarge:
        return TooLarge("", f"the body is larger than {self._limit} bytes", "send less, or raise BodyLimit")
