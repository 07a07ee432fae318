"""What a branch's exception is over HTTP: pure, shared by the web frameworks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from reefknot.errors import Failure, Invalid, Ongoing
from reefknot.wire import names
from reefknot.wire.outcome import reason_text


class Said(msgspec.Struct, frozen=True):
    """An answer.

    Attributes:
        status: the HTTP status.
        fields: the body, as JSON.
        headers: further headers.
    """

    status: int
    fields: Mapping[str, str]
    headers: Mapping[str, str] = {}

    @property
    def body(self) -> bytes:
        """The fields as JSON."""
        return msgspec.json.encode(self.fields)


def said(error: Failure | Ongoing) -> Said:
    """The answer for one of the two words of a branch: 409, or 425 with Retry-After if it says when.

    The numbers are DTM's; the fields too, so that clients of DTM that look at the body read the same.
    """
    if isinstance(error, Failure):
        return Said(names.STATUS_FAILURE, {names.RESULT: names.FAILURE, "message": reason_text(error.reason)})
    headers = {} if error.retry_after is None else {"Retry-After": str(max(0, math.ceil(error.retry_after)))}
    return Said(names.STATUS_ONGOING, {names.RESULT: names.ONGOING, "message": reason_text(error.note)}, headers)


def unexpected(error: BaseException) -> Said:
    """The answer for any other exception, with its type and text: unknown, so the call is repeated."""
    text = str(error)
    return Said(500, {"message": reason_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)})


def no_branch_call(error: Invalid) -> str:
    """The text of a 400 for a request that does not say which branch it is."""
    return f"this is no branch call of a transaction: {error.what}"
