# Written by scripts/twins.py from src/reefknot/client/_async/submitting.py: change that file, then `make twins`.
"""Submit, and what its answer means where the caller waits for the end."""

from __future__ import annotations

from reefknot.client._sync.server import Server
from reefknot.client.answers import definite, error_of, forbidding_status, is_conflict, only_unfinished, refusal
from reefknot.client.building import SERVER_WAIT_SECONDS
from reefknot.client.protocols.base import Kind, Reply, Verb
from reefknot.client.values import Outcome, TransactionMessage
from reefknot.errors import Ongoing, ReefknotError, RolledBack
from reefknot.model import Status

_ROLLED_BACK = (Status.ABORTING, Status.FAILED)


def submit(server: Server, message: TransactionMessage) -> Outcome:
    """Submit a transaction.

    Returns:
        ``submitted``; ``succeed`` where the caller waits.

    Raises:
        RolledBack: the caller waits, and it was or is being rolled back.
        Ongoing: the caller waits, and it is not finished.
        OutcomeUnknown: it may have been submitted. It is never aborted here.
        Refused: its state forbids it; ``GidConflict`` if the gid has other content.
        ServerUnavailable: nothing was sent.
        Invalid: the server does not accept it.
    """
    timeout = server.timeout
    if message.options.wait:
        timeout += message.options.request_timeout or SERVER_WAIT_SECONDS
    reply = server.submit(message, timeout)
    if reply.kind is Kind.DONE:
        return Outcome(message.gid, Status.SUCCEED if message.options.wait else Status.SUBMITTED)
    return _refused(server, message, reply)


def _refused(server: Server, message: TransactionMessage, reply: Reply) -> Outcome:
    """What a definite no means. DTM also says it of a transaction that is only unfinished, so it is asked."""
    text, gid, url = definite(reply), message.gid, server.address.url
    forbids = forbidding_status(text)
    if not message.options.wait or is_conflict(text) or (forbids and forbids not in _ROLLED_BACK):
        raise error_of(Verb.SUBMIT, reply, gid, url)
    status, reason = _asked(server, gid)
    if not status:
        # Nobody can say (DTM over gRPC has no query): its texts for what is unfinished are known.
        status = Status.SUBMITTED if only_unfinished(text) else Status.FAILED
    if status is Status.SUCCEED:
        return Outcome(gid, status)
    if status in _ROLLED_BACK:
        words, branch_url = refusal(reason or text)
        what = f"the {message.trans_type} was rolled back: {words}"
        raise RolledBack(what, reason=words, gid=gid, url=branch_url or url)
    advice = f"wait for it with client.wait({gid!r})"
    raise Ongoing(f"the {message.trans_type} is not finished yet", gid=gid, url=url, advice=advice)


def _asked(server: Server, gid: str) -> tuple[Status | None, str]:
    try:
        found = server.get(gid)
    except ReefknotError:
        return None, ""
    return (found.status, found.reason.removesuffix("FAILURE").rstrip()) if found else (None, "")
