"""The numbers the coordinator works with, handed down by the composition root."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. Defaults: reliability of DTM's, and docs/promises.md for ours.

    ``max_attempts``: failed visits in a row after which a transaction is parked; 0 = never, as DTM.
    ``lease_margin_seconds``: a driver stops this much before its lease ends, for the time a call's
    start and the clocks' drift may take. ``renew_seconds``: how often leases of long calls are
    extended, in one statement for the node.
    """

    timeout_seconds: int = 35
    retry_seconds: int = 10
    retry_max_seconds: int = 300
    max_attempts: int = 0
    request_timeout_seconds: int = 3
    wait_seconds: int = 30
    lease_seconds: float = 8.0
    lease_margin_seconds: float = 1.0
    renew_seconds: float = 2.5
    poll_seconds: float = 1.0
    claim_batch: int = 100
    live_transactions: int = 1_024
    recovery_transactions: int = 256
    host_calls: int = 256
    topic_refresh_seconds: float = 3.0
    alert_after_attempts: int = 3
    finished_keep_seconds: int = 604_800
    purge_seconds: float = 60.0
    purge_batch: int = 200
    drain_seconds: float = 10.0
