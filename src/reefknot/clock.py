"""The clock that is handed to everything that must know the time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Time as the program sees it. Passed in, so that a test can move it by hand."""

    def now_ms(self) -> int:
        """The wall clock: milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; for deadlines inside this process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock have passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """The wall clock: milliseconds since the Unix epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only grow, since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` seconds."""
        await asyncio.sleep(seconds)
