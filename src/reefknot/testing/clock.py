"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from reefknot.clock import SystemClock


class ManualClock:
    """A clock for tests. Wall and monotonic time move together; the wall can also jump alone.

    Args:
        start_ms: the wall clock at the beginning, milliseconds since the Unix epoch.
    """

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._wall_ms = start_ms
        self._elapsed_ms = 0
        self._order = count()
        self._sleepers: list[tuple[int, int, asyncio.Event]] = []

    def now_ms(self) -> int:
        """The wall clock: milliseconds since the Unix epoch."""
        return self._wall_ms

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_ms / 1000

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep on this clock."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was advanced by that many seconds; at once for 0 or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        entry = (self._elapsed_ms + max(1, round(seconds * 1000)), next(self._order), asyncio.Event())
        heapq.heappush(self._sleepers, entry)
        try:
            await entry[2].wait()
        finally:
            if entry in self._sleepers:  # cancelled
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move the clock forward; each sleeper wakes, in order, at the very moment it asked for.

        Tasks that wake get the loop before time goes on, so a task that sleeps in a loop wakes
        as often as it would in real time.

        Args:
            seconds: how far; not negative.
        """
        target = self._elapsed_ms + round(seconds * 1000)
        while self._sleepers and self._sleepers[0][0] <= target:
            due_ms, _, event = heapq.heappop(self._sleepers)
            self._move_to(due_ms)
            event.set()
            await _let_run()
        self._move_to(target)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; nobody wakes."""
        self._wall_ms += round(seconds * 1000)

    def _move_to(self, elapsed_ms: int) -> None:
        self._wall_ms += elapsed_ms - self._elapsed_ms
        self._elapsed_ms = elapsed_ms


async def _let_run() -> None:
    """Give tasks that were just woken a few turns of the loop, until they wait again."""
    for _ in range(10):
        await asyncio.sleep(0)


class ShiftedClock(SystemClock):
    """Real time, but the wall clock can be moved: for tests that run a real server.

    Sleeping and monotonic time stay real, so leases and time limits of calls behave as in
    production while due times and timeouts of transactions are as far away as the test says.
    """

    def __init__(self) -> None:
        self._shift_ms = 0

    def now_ms(self) -> int:
        """The shifted wall clock: milliseconds since the Unix epoch."""
        return super().now_ms() + self._shift_ms

    def shift(self, seconds: float) -> None:
        """Move the wall clock by so many seconds, forwards or back."""
        self._shift_ms += round(seconds * 1000)
