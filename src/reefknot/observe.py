"""What happens inside, for anything that wants to listen. Emitters do not know the listeners."""

from __future__ import annotations


class Observer:
    """Listens to nothing; a listener overrides what it needs. Methods must be quick and not raise."""

    def request_served(self, protocol: str, api: str, ok: bool, seconds: float) -> None:
        """An API request was answered. ``api`` is the route's template, never the URL."""

    def transaction_driven(self, mode: str, ok: bool, seconds: float) -> None:
        """A drive ended; ``seconds`` since the transaction was created."""

    def branch_called(self, mode: str, op: str, ok: bool) -> None:
        """A branch operation was called; ``ok`` only for success."""

    def write_refused(self, mode: str) -> None:
        """A driver's write was refused: another one has taken over."""

    def transactions_claimed(self, count: int) -> None:
        """Due transactions were claimed for recovery."""

    def transactions_purged(self, count: int) -> None:
        """Finished transactions were deleted because they were old enough."""

    def transaction_parked(self, mode: str) -> None:
        """A transaction now waits for an operator."""

    def task_failed(self, name: str) -> None:
        """A supervised task ended with an exception nobody expected."""

    def durability_read(self, level: str) -> None:
        """The store said how durable it is now."""

    def alert_dropped(self) -> None:
        """An alert could not be delivered."""
