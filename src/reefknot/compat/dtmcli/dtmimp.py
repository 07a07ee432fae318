"""One request to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reefknot.client._sync.client import DEFAULT_TIMEOUT
from reefknot.client.protocols.base import Verb
from reefknot.compat.dtmcli.servers import client_of, note_spelling, old_errors
from reefknot.errors import Invalid


def trans_call_dtm(dtm: str, body: Mapping[str, Any], operation: str, request_timeout: float | None) -> None:
    """Say something about a transaction.

    Args:
        dtm: the server's URL.
        body: the fields by DTM's names; those that are None are left out.
        operation: ``prepare``, ``submit``, ``abort`` or ``registerBranch``.
        request_timeout: time limit in seconds; 10 if there is none.

    Raises:
        DTMFailureError: a definite no.
        Ongoing: a submit that waits, and the transaction is not finished.
        OutcomeUnknown: no clear answer.
        ServerUnavailable: nothing was sent.
        Invalid: there is no such operation, or the server does not accept the fields.
    """
    note_spelling("dtmimp.trans_call_dtm", "Client(url).saga(), .tcc() or .msg()")
    try:
        verb = Verb(operation)
    except ValueError as error:
        raise Invalid("operation", f"is {operation!r}", "use prepare, submit, abort or registerBranch") from error
    with old_errors():
        fields = {name: value for name, value in body.items() if value is not None}
        client_of(dtm, request_timeout or DEFAULT_TIMEOUT).server.tell(verb, fields)
