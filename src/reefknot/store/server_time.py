"""The time of a store that has a server: the server's clock, as far as this process knows it."""

from __future__ import annotations

from reefknot.clock import Clock


class StoreTime:
    """Estimates the database's clock from its replies; the answer costs no I/O.

    The database read its clock between the moment a command was sent and the moment its reply
    came. Each reply therefore limits how far its clock is ahead of our monotonic one, and the
    estimate moves only as far as it must to keep within the limits.

    Args:
        clock: this process's clock.
        own: use this process's wall clock for everything, for tests that move it.
    """

    def __init__(self, clock: Clock, *, own: bool) -> None:
        self._clock = clock
        self._own = own
        self._ahead_ms: float | None = None

    def sent(self) -> float:
        """The moment to give to ``replied``: milliseconds of the monotonic clock."""
        return self._clock.monotonic() * 1000

    def replied(self, sent: float, database_ms: int) -> None:
        """Learn from a reply that brings the database's time of a command sent at ``sent``."""
        earliest, latest = database_ms - self.sent(), database_ms + 1 - sent
        ahead = earliest if self._ahead_ms is None else self._ahead_ms
        self._ahead_ms = min(max(ahead, earliest), latest)

    def now_ms(self) -> int:
        """The database's clock by the last replies: milliseconds since the Unix epoch."""
        if self._own or self._ahead_ms is None:
            return self._clock.now_ms()
        return int(self._clock.monotonic() * 1000 + self._ahead_ms)

    @property
    def given(self) -> int | None:
        """The time to use instead of the database's, for a statement; usually None."""
        return self._clock.now_ms() if self._own else None
