"""When to try again: the interval doubles with each failed visit, up to a cap."""

from __future__ import annotations

from reefknot.model import Options


def base_interval_seconds(options: Options, default_seconds: int) -> int:
    """The first interval of a transaction: its own, or the server's, shortened by a short timeout."""
    if options.retry_seconds:
        return options.retry_seconds
    if 0 < options.timeout_seconds < default_seconds:
        return options.timeout_seconds
    return default_seconds


def interval_seconds(base_seconds: int, attempts: int, most_seconds: int) -> int:
    """The interval after ``attempts`` failed visits: twice as long each time.

    The cap does not shorten an interval that the client asked for itself.
    """
    most = max(most_seconds, base_seconds)
    return min(base_seconds << min(attempts, 40), most)


def jittered_ms(interval: int, random: float) -> int:
    """The interval in milliseconds, moved by up to a tenth either way.

    Args:
        interval: seconds.
        random: a number from 0 to 1. Spreads the retries after an outage; small, because
            operators and DTM's tests reckon with the interval they see.
    """
    return round(interval * 1000 * (0.9 + 0.2 * random))
