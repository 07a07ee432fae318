"""What the HTTP, JSON-RPC or gRPC answer of a branch means: bytes or text in, an ``Outcome`` out.

The four outcomes and the codes that stand for them (section "Branch calls" of docs/compatibility.md):

    HTTP 2xx, gRPC OK                                     Success, unless the body says FAILURE or ONGOING
    HTTP 409, JSON-RPC code -32901, gRPC ABORTED          Failure: a definite refusal
    HTTP 425, JSON-RPC -32902, gRPC FAILED_PRECONDITION   Ongoing: ask again
    everything else                                       Unknown

A wrong Failure starts compensations of work that may have been done, and a wrong Success forgets
work that was not. So with ``Matching.EXACT`` the status decides first, and a body counts only where
it says FAILURE or ONGOING and nothing else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from reefknot.model import Failure, Ongoing, Outcome, Success, Unknown
from reefknot.wire import names

#: The longest reason or error text that is kept, in characters, marker included.
TEXT_LIMIT = 1024

_CUT_MARKER = " ...(truncated)"
_FAILURE_SUFFIX = " FAILURE"
_SUCCESS = Success()
_UTF8_BOM = b"\xef\xbb\xbf"


class Matching(StrEnum):
    """How the body of an answer is searched for a result."""

    #: The status first; then only an exact ``dtm_result``, or a body that is exactly the word.
    EXACT = "exact"
    #: DTM's rule: the words FAILURE and ONGOING anywhere in the body, whatever the status is.
    SUBSTRING = "substring"


class _HttpReply(msgspec.Struct):
    dtm_result: Any = None


class _RpcReply(msgspec.Struct):
    error: Any = None


def reason_text(text: bytes | str, limit: int = TEXT_LIMIT) -> str:
    """Make foreign text fit to be stored and shown.

    Invalid UTF-8 becomes U+FFFD, characters that cannot be printed are escaped as in a Python
    string, and what is longer than the limit is cut with a visible marker.

    Args:
        text: what somebody else sent.
        limit: the longest result, in characters, marker included.
    """
    if isinstance(text, bytes):
        # No character takes more than 4 bytes, so the rest could only be cut away again.
        text = text[: 4 * limit + 4].decode(errors="replace")
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    if len(shown) <= limit:
        return shown
    return shown[: limit - len(_CUT_MARKER)] + _CUT_MARKER


def http_outcome(status: int, body: bytes, matching: Matching, encoding: str = "") -> Outcome:
    """Say what the answer to a plain HTTP branch call means.

    Args:
        status: the HTTP status code.
        body: the complete body, as received.
        matching: how the body is searched for a result.
        encoding: the ``Content-Encoding`` of the body. In a compressed one nothing can be found, so it is no success.
    """
    if encoding and 200 <= status < 300 and encoding.lower() != "identity":
        return Unknown(
            reason_text(f"HTTP status {status} with a compressed body ({encoding}), which was not asked for")
        )
    if matching is Matching.SUBSTRING:
        if status == names.STATUS_ONGOING or b"ONGOING" in body:
            return _ongoing(body)
        if status == names.STATUS_FAILURE or b"FAILURE" in body:
            return _failure(body)
        return _SUCCESS if 200 <= status < 300 else _unclear(status, body)
    if 200 <= status < 300:
        return _stated_result(body)
    if status == names.STATUS_FAILURE:
        return _failure(body)
    if status == names.STATUS_ONGOING:
        return _ongoing(body)
    return _unclear(status, body)


def jsonrpc_outcome(status: int, body: bytes, matching: Matching, encoding: str = "") -> Outcome:
    """Say what the answer to a JSON-RPC branch call means.

    The HTTP answer is judged first, as for a plain call; only if that is a success, the JSON-RPC
    envelope decides.

    Args:
        status: the HTTP status code.
        body: the complete body, as received.
        matching: how the body is searched for a result.
        encoding: as for ``http_outcome``.
    """
    outcome = http_outcome(status, body, matching, encoding)
    if not isinstance(outcome, Success):
        return outcome
    try:
        error = msgspec.json.decode(body.removeprefix(_UTF8_BOM), type=_RpcReply).error
    except (msgspec.DecodeError, RecursionError):
        return Unknown(reason_text(b"not a JSON-RPC answer: " + body[: 4 * TEXT_LIMIT]))
    if error is None:
        return outcome
    if not isinstance(error, dict):
        return Unknown(reason_text(b"the error of the JSON-RPC answer is not an object: " + body[: 4 * TEXT_LIMIT]))
    code = _number(error.get("code"))
    message = error.get("message")
    text = message.encode(errors="replace") if isinstance(message, str) else body
    if code == names.JSONRPC_FAILURE:
        return _failure(text)
    if code == names.JSONRPC_ONGOING:
        return _ongoing(text)
    return Unknown(reason_text(b"JSON-RPC error: " + body[: 4 * TEXT_LIMIT]))


def grpc_outcome(code: int, name: str, text: str) -> Outcome:
    """Say what the answer to a gRPC branch call means.

    No gRPC library makes ABORTED or FAILED_PRECONDITION by itself, so these two are the participant's
    own words: https://grpc.github.io/grpc/core/md_doc_statuscodes.html

    Args:
        code: the status code.
        name: how it is called, for the error text.
        text: the status message. Only old clients say by it that ABORTED means ongoing.
    """
    if code == names.GRPC_OK:
        return _SUCCESS
    message = text.encode(errors="replace")
    if code == names.GRPC_FAILED_PRECONDITION or (code == names.GRPC_ABORTED and text == names.ONGOING):
        return _ongoing(message)
    if code == names.GRPC_ABORTED:
        return _failure(message)
    return Unknown(reason_text(f"gRPC status {name}: ".encode() + message[: 4 * TEXT_LIMIT]))


def _stated_result(body: bytes) -> Outcome:
    """What the body of a 2xx answer says; Success unless it says something else exactly."""
    # Nearly every answer ends here. A backslash may hide the words in a JSON escape.
    if b"FAILURE" not in body and b"ONGOING" not in body and b"\\" not in body:
        return _SUCCESS
    content = body.removeprefix(_UTF8_BOM).strip()
    try:
        if content.startswith(b"{"):
            result = msgspec.json.decode(content, type=_HttpReply).dtm_result
        elif content.startswith(b'"'):
            result = msgspec.json.decode(content, type=str)
        else:
            result = content.decode()
    except RecursionError:
        return Unknown("the answer is JSON too deeply nested to look for its dtm_result")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _SUCCESS
    if result == "FAILURE":
        return _failure(body)
    if result == "ONGOING":
        return _ongoing(body)
    return _SUCCESS


def _failure(body: bytes) -> Failure:
    """A failure in DTM's form: the text ends in FAILURE, once more than it did without."""
    text = reason_text(body.removesuffix(_FAILURE_SUFFIX.encode()), TEXT_LIMIT - len(_FAILURE_SUFFIX))
    return Failure(text + _FAILURE_SUFFIX)


def _ongoing(body: bytes) -> Ongoing:
    return Ongoing(reason_text(body))


def _unclear(status: int, body: bytes) -> Unknown:
    note = " (redirects are not followed)" if 300 <= status < 400 else ""
    return Unknown(reason_text(f"HTTP status {status}{note}: ".encode() + body[: 4 * TEXT_LIMIT]))


def _number(code: object) -> float | None:
    """The value of a JSON-RPC code: a number, or a string that is one."""
    if not isinstance(code, int | float | str):
        return None
    try:
        return float(code)
    except (ValueError, OverflowError):
        return None
