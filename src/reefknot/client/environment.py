"""What a client takes from its surroundings: the server's address, ids, and time."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

#: The server a client speaks to when it is not told one.
SERVER_VARIABLE = "DTM_SERVER"
DEFAULT_SERVER = "http://127.0.0.1:36789"


def server_url() -> str:
    """The server of the environment variable ``DTM_SERVER``, or the one on this machine."""
    return os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER


def gid_source() -> Callable[[], str]:
    """A function that makes gids like the server's: 22 characters, ordered by time, 80 random bits."""
    from reefknot.clock import SystemClock  # noqa: PLC0415 - imports asyncio, which not every client needs
    from reefknot.ids import gid_maker  # noqa: PLC0415 - as above

    return gid_maker(SystemClock(), random.SystemRandom().getrandbits)


class Time:
    """Time as a client needs it to wait."""

    def monotonic(self) -> float:
        """Seconds that only grow, since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` seconds."""
        time.sleep(seconds)


class AsyncTime:
    """Time as an asynchronous client needs it to wait."""

    def monotonic(self) -> float:
        """Seconds that only grow, since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` seconds."""
        import asyncio  # noqa: PLC0415 - a synchronous client does not need it

        await asyncio.sleep(seconds)
