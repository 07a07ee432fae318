"""From what an answer means to what the caller is told: a value, or one error of the tree.

A definite answer is told as what it says. Everything else that follows a request which may have been
carried out is ``OutcomeUnknown``; for a request that changes nothing it is ``ServerUnavailable``.
"""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import msgspec

from reefknot.client.exchange import NotSent, Response, SpeaksHttp2
from reefknot.client.protocols.base import Kind, Reply, Verb
from reefknot.client.values import Answer
from reefknot.errors import (
    Failure,
    GidConflict,
    Invalid,
    NotFound,
    Ongoing,
    OutcomeUnknown,
    ReefknotError,
    Refused,
    ServerUnavailable,
)
from reefknot.model import Failure as FailureOutcome
from reefknot.model import Ongoing as OngoingOutcome
from reefknot.model import Outcome, Success, Unknown
from reefknot.wire import names
from reefknot.wire.outcome import Matching, http_outcome, reason_text

#: What a transport raises when it has sent nothing; see ``reefknot.client.exchange``.
NOT_SENT = (NotSent, ConnectionRefusedError, socket.gaierror)

#: DTM's text for a request that the transaction's status forbids; the misspelling is DTM's.
_STATUS = re.compile(r"(?:trans type: '\w*' )?current status '(\w+)', cannot (?:prepare|sumbmit|abort)\b")
_FORCE_STOP = re.compile(r"global transaction force stop error\. status: (\w+)")
#: Our server's texts for a gid, or a branch of it, that exists with other content.
_CONFLICT = re.compile(r"gid '.*' (?:is prepared|was submitted) with other content\.|gid '.*' is a \w+, not a \w+\.")
_BRANCH_CONFLICT = "storage: UniqueKeyConflict"
#: What a saga's reason looks like, DTM's and ours.
_REFUSAL = re.compile(r"url:(?P<url>\S+) return failed: (?P<answer>.*)", re.DOTALL)
#: How DTM says over a wait that the transaction is only unfinished.
_UNFINISHED = ("wait result not return success", "your http/grpc result should be specified")

_REPEAT = "repeat {verb} with the same gid and content, which is safe, or look with client.get({gid!r})"
_CHECK_URL = (
    "check the URL ($DTM_SERVER, or the client's first argument): http://host:36789, http://host:36789/api/json-rpc "
    "or grpc://host:36790; a server of DTM lacks some requests"
)
_WAITS = {
    Verb.SUBMIT: _REPEAT,
    Verb.PREPARE: "nothing has been called; the server drops what it may have stored when its time is over",
    Verb.REGISTER: "leave the block by this error: everything is rolled back",
    Verb.ABORT: "the server rolls it back by itself when its time is over; or look with client.get({gid!r})",
}


def definite(reply: Reply) -> str:
    """The text of a failure without the word that DTM ends it with."""
    return reply.text.removesuffix(names.FAILURE).rstrip()


def forbidding_status(text: str) -> str:
    """The status that forbids a request, read from DTM's text; empty if it is another text."""
    found = _STATUS.match(text) or _FORCE_STOP.match(text)
    return found[1] if found else ""


def is_conflict(text: str) -> bool:
    """Whether the text says that the gid exists with other content."""
    return bool(_CONFLICT.match(text)) or text.startswith(_BRANCH_CONFLICT)


def only_unfinished(text: str) -> bool:
    """Whether a definite failure over a wait says no more than that it is not finished: DTM does that."""
    return text.startswith(_UNFINISHED)


def error_of(verb: Verb, reply: Reply, gid: str, url: str) -> ReefknotError:
    """The error that a reply other than DONE is told as."""
    text = reply.text
    match reply.kind:
        case Kind.FAILURE:
            return _refused(verb, definite(reply), gid, url)
        case Kind.ONGOING:
            advice = f"wait for it with client.wait({gid!r}), or repeat {verb}"
            return Ongoing(f"{verb}: not finished yet: {text}", gid=gid, url=url, advice=advice)
        case Kind.INVALID:
            advice = "correct what the text names, and send it again"
            return Invalid("", f"{verb} was not carried out: {text}", gid=gid, url=url, advice=advice)
        case Kind.ELSEWHERE:
            return Invalid("", f"{verb} was not carried out: {text}", gid=gid, url=url, advice=_CHECK_URL)
        case Kind.DENIED:
            return Refused(f"{verb}: the server does not let this client in: {text}", gid=gid, url=url)
        case Kind.MISSING:
            return NotFound(f"{verb}: {text}", gid=gid, url=url)
        case Kind.BUSY:
            return ServerUnavailable(f"{verb} was not carried out: {text}", gid=gid, url=url, advice="repeat it later")
        case _:
            return unanswered(verb, text, gid, url)


def unsent(verb: str, error: BaseException, gid: str, url: str) -> ServerUnavailable:
    """The error for a request that was not sent."""
    if isinstance(error, SpeaksHttp2):
        place = urlsplit(url).netloc.rpartition("@")[2]
        advice = f"over gRPC a server is grpc://{place}, and a branch {place}/package.Service/Method"
        return ServerUnavailable(f"{verb} was not carried out: {error}", gid=gid, url=url, advice=advice)
    advice = "start the server, or correct the URL ($DTM_SERVER, or the client's first argument); then repeat it"
    return ServerUnavailable(f"{verb}: nothing was sent: {_words(error)}", gid=gid, url=url, advice=advice)


def unanswered(verb: Verb, problem: str | BaseException, gid: str, url: str) -> ReefknotError:
    """The error for a request that may have been carried out."""
    text = problem if isinstance(problem, str) else _words(problem)
    if not verb.changes:
        return ServerUnavailable(f"{verb}: no clear answer: {text}", gid=gid, url=url, advice="repeat it later")
    advice = _WAITS.get(verb, _REPEAT).format(verb=verb, gid=gid)
    return OutcomeUnknown(f"{verb}: no clear answer: {text}; it may have happened", gid=gid, url=url, advice=advice)


def refusal(reason: str) -> tuple[str, str]:
    """Why a transaction was rolled back, in the refusing branch's own words, and that branch's URL.

    Args:
        reason: as the server keeps it: for a saga with the URL before the branch's whole answer.

    Returns:
        The words, and the URL; the reason as it is and no URL where it has another form.
    """
    found = _REFUSAL.fullmatch(reason)
    if found is None:
        return reason, ""
    return _message(found["answer"].removesuffix(names.FAILURE).rstrip()), found["url"]


def branch_answer(response: Response, *, grpc: bool, gid: str, branch_id: str, url: str) -> Answer:
    """What a branch said that the client called itself.

    Raises:
        Failure: it refused.
        Ongoing: it is not finished.
        OutcomeUnknown: anything else.
    """
    outcome = _grpc_outcome(response) if grpc else http_outcome(response.status, response.body, Matching.EXACT)
    match outcome:
        case Success():
            return Answer(response.status, response.body)
        case FailureOutcome(reason):
            reason = reason.removesuffix(names.FAILURE).rstrip()
            raise Failure(_message(reason), gid=gid, branch_id=branch_id, url=url)
        case OngoingOutcome(note):
            raise Ongoing(_message(note), gid=gid, branch_id=branch_id, url=url)
        case Unknown(error):
            raise branch_unknown(error, gid, branch_id, url)


def branch_unknown(problem: str | BaseException, gid: str, branch_id: str, url: str) -> OutcomeUnknown:
    """The error for a branch whose call may have had an effect."""
    text = problem if isinstance(problem, str) else _words(problem)
    advice = "leave the block by this error: everything is rolled back, this branch too"
    what = f"the branch gave no clear answer: {text}"
    return OutcomeUnknown(what, gid=gid, branch_id=branch_id, url=url, advice=advice)


def reason_of(error: BaseException) -> str:
    """What an exception says as the reason of a rollback."""
    if isinstance(error, Failure):
        return reason_text(error.reason)
    text = error.what if isinstance(error, ReefknotError) else str(error)
    return reason_text(f"{type(error).__name__}: {text}" if text else type(error).__name__)


class _Said(msgspec.Struct):
    dtm_result: str
    message: str


def _message(text: str) -> str:
    """The words in an answer of DTM's form, ``{"dtm_result": …, "message": …}``; any other text as it is."""
    try:
        return msgspec.json.decode(text, type=_Said).message or text
    except (ValueError, RecursionError):
        return text


def _grpc_outcome(response: Response) -> Outcome:
    text = reason_text(response.body)
    match response.status:
        case 0:
            return Success()
        case 9:
            return OngoingOutcome(text)
        case 10:
            return OngoingOutcome(text) if text == names.ONGOING else FailureOutcome(text)
        case code:
            return Unknown(f"gRPC code {code} {text}")


def _refused(verb: Verb, text: str, gid: str, url: str) -> Refused:
    if is_conflict(text):
        advice = "use another gid, or send the same content as before"
        return GidConflict(f"{verb}: {text}", gid=gid, url=url, advice=advice)
    status = forbidding_status(text)
    advice = f"look with client.get({gid!r})" if gid else ""
    return Refused(f"{verb}: {text}", status=status, gid=gid, url=url, advice=advice)


def _words(error: BaseException) -> str:
    text = str(error)
    return reason_text(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)
