"""What errors look like over HTTP."""

from __future__ import annotations

import pytest

from reefknot.errors import (
    GidConflict,
    Invalid,
    NotFound,
    Overloaded,
    Refused,
    RolledBack,
    StoreUnavailable,
    TooLarge,
    Unfinished,
)
from reefknot.wire.replies import error_reply, json_bytes, time_text


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Refused("current status 'failed'. FAILURE"), 409, "current status 'failed'. FAILURE"),
        (GidConflict("other content"), 409, "other content FAILURE"),
        (RolledBack("no money"), 409, "no money FAILURE"),
        (Unfinished("still running"), 425, "still running ONGOING"),
        (Invalid("gid", "is empty", "send one"), 400, "gid: is empty; send one"),
        (Invalid("gid", "is empty", "send one", status=500), 500, "gid: is empty; send one"),
        (TooLarge("steps", "has 1001 elements"), 413, "steps: has 1001 elements"),
        (StoreUnavailable("db:5432 refused"), 503, "the store is not available: db:5432 refused; repeat the request"),
        (Overloaded("50000 writes are waiting"), 503, "50000 writes are waiting; repeat the request later"),
        (NotFound("no such gid"), 500, "no such gid"),
    ],
)
def test_status_and_message(error, status, message):
    found, fields = error_reply(error)

    assert (found, fields["message"]) == (status, message)
    assert ("dtm_result" in fields) is (status in (409, 425))


def test_json_is_written_as_go_writes_it():
    assert json_bytes({"b": "<&>", "a": 1}) == b'{"a":1,"b":"\\u003c\\u0026\\u003e"}'


def test_times_are_utc_with_milliseconds_and_unset_ones_are_null():
    assert time_text(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
    assert time_text(0) is None
    assert time_text(9_000_000_000_000_000) is None
