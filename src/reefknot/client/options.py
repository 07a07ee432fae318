"""What a caller asks for a transaction: options by name, times in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta

import msgspec

from reefknot.errors import Invalid

#: A duration: seconds, or a timedelta.
Seconds = float | timedelta


class TransactionOptions(msgspec.Struct, frozen=True):
    """Options as they stand on the wire: whole seconds, 0 where the server's setting counts."""

    wait: bool = False
    timeout: int = 0
    request_timeout: int = 0
    retry_every: int = 0
    retry_limit: int = 0
    headers: Mapping[str, str] = {}


def transaction_options(
    *,
    wait: bool,
    timeout: Seconds | None,
    request_timeout: Seconds | None,
    retry_every: Seconds | None,
    headers: Mapping[str, str] | None,
    trace: Mapping[str, str],
    retry_limit: int | None = None,
) -> TransactionOptions:
    """Check and translate what a caller gave.

    Args:
        wait: whether submit returns only when the transaction has ended.
        timeout: the whole transaction's time limit.
        request_timeout: time limit of each branch call.
        retry_every: pause before the first repetition of a failing call.
        headers: sent with every branch call.
        trace: headers that are sent too unless ``headers`` has them.
        retry_limit: how often a failing action is repeated before a saga gives up.

    Raises:
        Invalid: a time is not positive, or the limit is no whole number from 1.
    """
    # The protocol says "for ever" with 0.
    if retry_limit is not None and (retry_limit < 1 or retry_limit != int(retry_limit)):
        raise Invalid("retry_limit", f"is {retry_limit!r}", "give a whole number from 1; leave it out for no limit")
    return TransactionOptions(
        wait,
        whole_seconds("timeout", timeout),
        whole_seconds("request_timeout", request_timeout),
        whole_seconds("retry_every", retry_every),
        retry_limit or 0,
        {**trace, **(headers or {})} if trace or headers else {},
    )


def seconds(field: str, value: Seconds) -> float:
    """A duration in seconds.

    Raises:
        Invalid: it is not positive.
    """
    given = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not given > 0 or math.isinf(given):
        raise Invalid(field, f"is {value}", "give a positive number of seconds or a timedelta")
    return given


def whole_seconds(field: str, value: Seconds | None) -> int:
    """A duration as the wire has it: rounded up to whole seconds; 0 where nothing was given.

    Raises:
        Invalid: it is not positive.
    """
    return 0 if value is None else math.ceil(seconds(field, value))
